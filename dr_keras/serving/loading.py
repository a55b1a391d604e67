"""An exported rater as a callable."""

from collections.abc import Callable, Sequence
import functools
import importlib
import os

import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer, tokenizer_from_config
from dr_keras.data.tokenizers.base import utf8
from dr_keras.errors import ArtefactError, DataError
from dr_keras.filtering.frozen import freeze
from dr_keras.filtering.reference import ReferenceDistribution
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving.export import versions

# Texts are cut into windows this many at a time; a longer text is cut on its own.
_BYTES_A_STEP = 4 << 20
_TEXTS_A_STEP = 8192
_NEEDED = "serving_default", "serve_tokens", "text_windows"


def load_rater(path: str) -> "LoadedRater":
    """Loads an exported rater.

    Args:
      path: a version (`export/3`), or the root of versions, of which the highest is taken.

    Raises:
      ArtefactError: the directory is missing, holds no rater, or only part of one.
    """
    path = os.fspath(path)
    if not tf.io.gfile.isdir(path):
        raise ArtefactError(f"{path} is not a directory: name the one that export_rater wrote.")
    directory = path
    if not tf.io.gfile.exists(os.path.join(path, metadata_file.FILE_NAME)):
        found = versions(path)
        if found:
            directory = os.path.join(path, str(found[-1]))
    metadata = metadata_file.read(directory)
    for module in metadata["requires"]:  # registers the operations that the graph uses
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ArtefactError(
                f"{directory} needs the module {module}, which cannot be imported ({error}):"
                f" install {module.replace('_', '-')}."
            ) from error
    try:
        saved_model = tf.saved_model.load(directory)
    except (OSError, tf.errors.OpError, KeyError, ValueError) as error:
        raise ArtefactError(
            f"{directory} cannot be loaded as a SavedModel ({error}): the copy is damaged; copy or"
            " export the rater again."
        ) from error
    missing = [name for name in _NEEDED if name not in saved_model.signatures]
    if missing:
        raise ArtefactError(f"{directory} lacks the signatures {missing}: export the rater again.")
    return LoadedRater(directory, saved_model, metadata)


class LoadedRater:
    """Scores and percentiles from an exported rater; made by `load_rater`.

    Attributes:
      path: the version it was loaded from.
      metadata: what `serving.metadata.describe` wrote, as a dict.
      sequence_length: S, tokens in a window.
      reference: the distribution of scores of windows.
      document_reference: that of whole documents, under which texts get their percentiles.
      fingerprint: hex SHA-256 of weights, tokenizer and sequence length.
    """

    def __init__(self, path: str, saved_model, metadata: dict):
        self.path = path
        self.metadata = metadata
        self.sequence_length = int(metadata["sequence_length"])
        self.fingerprint = metadata["fingerprint"]
        self.reference = ReferenceDistribution.from_dict(metadata["reference"])
        stored = metadata["document_reference"]
        self.document_reference = (
            ReferenceDistribution.from_dict(stored) if stored else self.reference
        )
        self._saved_model = saved_model  # keeps the variables alive
        self._signatures = saved_model.signatures

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it was meta-trained with, from the artefact's own files."""
        assets = os.path.join(self.path, metadata_file.TOKENIZER_DIRECTORY)
        return tokenizer_from_config(self.metadata["tokenizer"], assets_dir=assets)

    def __call__(self, inputs):
        """Scores whatever is given.

        Args:
          inputs: a string or bytes (result: scalars); a list, tuple or array of them; a string
            tensor [B]; token ids int32 [B, S] as array, tensor or {"tokens": ...}; or a dataset of
            one of these, by examples or by batches (result: a dataset alike).

        Returns:
          A dict of `score` and `percentile`, float32: NumPy for Python and NumPy input, tensors for
          tensors, also in a graph.

        Raises:
          DataError: something else was given.
        """
        if isinstance(inputs, (str, bytes)):
            return {key: value[0] for key, value in self._score_array([inputs]).items()}
        if isinstance(inputs, tf.data.Dataset):
            return self._score_dataset(inputs)
        if isinstance(inputs, dict):
            if "tokens" not in inputs:
                raise DataError(f"A rater reads 'tokens'; the dict given has {sorted(inputs)}.")
            inputs = inputs["tokens"]
        if tf.is_tensor(inputs):
            if inputs.dtype == tf.string:
                return self._signatures["serving_default"](text=inputs)
            return self._tensor_tokens(inputs)
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iu":
            return self.score_tokens(inputs)
        return self._score_array(inputs)

    def score_tokens(self, tokens) -> dict:
        """Scores windows of token ids.

        Args:
          tokens: int32 [B, S], 0 is padding; array-like or tensor.

        Returns:
          `score` and `percentile` float32 [B]: tensors for a tensor, else arrays.
        """
        if tf.is_tensor(tokens):
            return self._tensor_tokens(tokens)
        tokens = np.asarray(tokens, np.int32)
        any_width = self.metadata["variable_length"]
        if tokens.ndim != 2 or not (
            tokens.shape[1] == self.sequence_length
            or (any_width and tokens.shape[1] < self.sequence_length)
        ):
            raise DataError(
                f"This rater takes tokens of shape [B, {self.sequence_length}]"
                f"{' or narrower' if any_width else ''}, not {list(tokens.shape)}: pad or cut them,"
                " or give it the texts."
            )
        return _as_arrays(self._tensor_tokens(tf.constant(tokens)))

    def score_texts(
        self,
        texts: Sequence[str | bytes],
        windows_per_batch: int = 256,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores many texts, in batches of windows that are full whatever the texts' lengths.

        Args:
          texts: any number, of any lengths.
          windows_per_batch: rows in one call of the network.
          progress: called after each batch with the number of windows scored by it.

        Returns:
          `score` and `percentile` float32 [B], `windows` int32 [B].
        """
        encoded = [utf8(text) for text in texts]
        parts = [(np.zeros(0), np.zeros(0), np.zeros(0, bool))]
        for step in _steps(encoded):
            parts.append(self._score_step(step, windows_per_batch, progress))
        score, counts, empty = (np.concatenate(column) for column in zip(*parts))
        score = np.where(empty, self.document_reference.quantiles[0], score).astype(np.float32)
        percentile = np.where(empty, np.float32(0), self.document_reference.percentile(score))
        return {
            "score": score,
            "percentile": percentile.astype(np.float32),
            "windows": counts.astype(np.int32),
        }

    def frozen_score_function(self, inputs: str = "text") -> Callable:
        """A function to scores float32 [N], with the weights as constants, for input pipelines.

        Args:
          inputs: "text" (string [N]) or "tokens" (int32 [N, S]).
        """
        specs = {
            "text": tf.TensorSpec([None], tf.string),
            "tokens": tf.TensorSpec([None, self._width], tf.int32),
        }
        if inputs not in specs:
            raise DataError(f"frozen_score_function takes 'text' or 'tokens', not {inputs!r}.")
        return freeze(self, specs[inputs])

    @property
    def _width(self) -> int | None:
        return None if self.metadata["variable_length"] else self.sequence_length

    def _tensor_tokens(self, tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return self._signatures["serve_tokens"](tokens=tf.cast(tokens, tf.int32))

    def _score_array(self, texts) -> dict[str, np.ndarray]:
        texts = texts.tolist() if isinstance(texts, np.ndarray) else list(texts)
        for text in texts:
            if not isinstance(text, (str, bytes)):
                raise DataError(
                    "A rater scores texts (str or bytes, or lists, arrays, tensors or datasets of"
                    f" them) or token ids, not {type(text).__name__}."
                )
        result = self.score_texts(texts)
        return {"score": result["score"], "percentile": result["percentile"]}

    def _score_dataset(self, dataset: tf.data.Dataset, batch_size: int = 64) -> tf.data.Dataset:
        spec = dataset.element_spec
        spec = spec["tokens"] if isinstance(spec, dict) and "tokens" in spec else spec
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
            raise DataError(
                "A rater scores datasets of texts, of token ids or of {'tokens': ...}, not of"
                f" {dataset.element_spec}: map the dataset first, or use dr_keras' top_k with key."
            )
        is_example = spec.shape.rank == (0 if spec.dtype == tf.string else 1)
        batches = dataset.batch(batch_size) if is_example else dataset
        scored = batches.map(self)
        return scored.unbatch() if is_example else scored

    def _score_step(
        self, texts: list[bytes], size: int, progress: Callable[[int], None] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, numbers of windows and emptiness of a few texts."""
        cut = self._signatures["text_windows"](text=tf.constant(texts, tf.string))
        tokens, owner = cut["tokens"].numpy(), cut["document"].numpy()
        lengths = np.count_nonzero(tokens, axis=1)
        order = np.arange(len(tokens))
        if self.metadata["variable_length"]:  # alike lengths together, then cut the padding off
            order = np.argsort(-lengths, kind="stable")
        scores = np.zeros(len(tokens), np.float32)
        for first in range(0, len(order), size):
            rows = order[first : first + size]
            batch = tokens[rows]
            if self.metadata["variable_length"]:
                # few different widths, or every batch would be compiled anew by an accelerator
                width = max(16, -(-int(lengths[rows].max()) // 16) * 16)
                batch = batch[:, :width]
            scores[rows] = self._tensor_tokens(tf.constant(batch))["score"].numpy()
            if progress is not None:
                progress(len(rows))
        weights = lengths.astype(np.float64)
        count = len(texts)
        totals = np.bincount(owner, np.where(weights > 0, weights * scores, 0.0), count)
        sizes = np.bincount(owner, weights, count)
        return totals / np.maximum(sizes, 1), np.bincount(owner, minlength=count), sizes == 0


def _steps(texts: list[bytes]) -> list[list[bytes]]:
    """Neighbouring texts together, up to _BYTES_A_STEP."""
    steps, size = [], 0
    for text in texts:
        if not steps or size + len(text) > _BYTES_A_STEP or len(steps[-1]) >= _TEXTS_A_STEP:
            steps.append([])
            size = 0
        steps[-1].append(text)
        size += len(text)
    return steps


def _as_arrays(outputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in outputs.items()}
