"""A loaded rater of text: strings, bytes or token ids to scores."""

from collections.abc import Callable, Sequence
import functools
import os

import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer, tokenizer_from_config
from dr_keras.data.tokenizers.base import utf8
from dr_keras.errors import DataError
from dr_keras.filtering.bucketing import score_by_length
from dr_keras.serving import long_texts, metadata as metadata_file
from dr_keras.serving.loaded import LoadedRater, as_arrays

# Texts are cut into windows this many at a time; a longer text is cut on its own, piece by piece.
_BYTES_A_STEP = 4 << 20
_TEXTS_A_STEP = 8192


class LoadedTextRater(LoadedRater):
    """A `LoadedRater` that takes a string or bytes (and gives scalars); a list, tuple or array of
    them; a string tensor [B]; token ids int32 [B, S] as array, tensor or {"tokens": ...}; or a
    dataset of one of these.

    Attributes:
      sequence_length: S, the most tokens in a window.
    """

    needed = (*LoadedRater.needed, "serve_tokens", "text_windows")

    def __init__(self, path: str, saved_model, metadata: dict):
        super().__init__(path, saved_model, metadata)
        self.sequence_length = int(metadata["sequence_length"])

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it was meta-trained with, from the artefact's own files."""
        assets = os.path.join(self.path, metadata_file.ASSETS, metadata_file.TOKENIZER_FOLDER)
        return tokenizer_from_config(self.metadata["tokenizer"], assets_dir=assets)

    def score_tokens(self, tokens, padding_mask=None) -> dict:
        """Scores windows of token ids.

        Args:
          tokens: int32 [B, S], 0 is padding; array-like or tensor. Fewer than S columns will do
            where `metadata["variable_length"]` is true.
          padding_mask: bool [B, S], False where `tokens` holds padding other than 0; None counts
            every id but 0.

        Returns:
          `score` and `percentile` float32 [B]: tensors for a tensor, else arrays.

        Raises:
          DataError: tokens of another shape.
        """
        if tf.is_tensor(tokens):
            return self._tensor_tokens(tokens, padding_mask)
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
        return as_arrays(self._tensor_tokens(tf.constant(tokens), padding_mask))

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
            is_long = len(step[0]) > _BYTES_A_STEP
            score_step = self._score_long_text if is_long else self._score_step
            parts.append(score_step(step, windows_per_batch, progress))
        score, counts, empty = (np.concatenate(column) for column in zip(*parts))
        score = np.where(empty, self.document_reference.quantiles[0], score).astype(np.float32)
        percentile = np.where(empty, np.float32(0), self.document_reference.percentile(score))
        return {
            "score": score,
            "percentile": percentile.astype(np.float32),
            "windows": counts.astype(np.int32),
        }

    @functools.cached_property
    def _frozen_specs(self) -> dict[str, tf.TensorSpec]:
        width = None if self.metadata["variable_length"] else self.sequence_length
        return {
            "text": tf.TensorSpec([None], tf.string),
            "tokens": tf.TensorSpec([None, width], tf.int32),
        }

    def _from_dict(self, inputs: dict):
        for name in ("tokens", "text"):
            if name in inputs:
                return inputs[name]
        raise DataError(
            f"A rater reads 'tokens' or 'text'; the dict given has {sorted(inputs)}."
        )

    def _score_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        if inputs.dtype != tf.string:
            return self._tensor_tokens(inputs)
        if inputs.shape.rank == 0:
            scored = self.signatures["serving_default"](text=inputs[tf.newaxis])
            return {key: value[0] for key, value in scored.items()}
        return self.signatures["serving_default"](text=inputs)

    def _score_python(self, inputs) -> dict[str, np.ndarray]:
        if isinstance(inputs, (str, bytes)):
            return {key: value[0] for key, value in self._score_python([inputs]).items()}
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "iu":
            return self.score_tokens(inputs)
        try:
            texts = inputs.tolist() if isinstance(inputs, np.ndarray) else list(inputs)
        except TypeError:
            texts = [inputs]
        for text in texts if isinstance(texts, list) else [texts]:
            if not isinstance(text, (str, bytes)):
                raise DataError(
                    "A rater scores texts (str or bytes, or lists, arrays, tensors or datasets of"
                    f" them) or token ids, not {type(text).__name__}."
                )
        if isinstance(texts, (str, bytes)):  # of an array of no dimension
            return self._score_python(texts)
        result = self.score_texts(texts)
        return {"score": result["score"], "percentile": result["percentile"]}

    def _is_example(self, spec: tf.TensorSpec) -> bool:
        return spec.shape.rank == (0 if spec.dtype == tf.string else 1)

    def _tensor_tokens(self, tokens: tf.Tensor, padding_mask=None) -> dict[str, tf.Tensor]:
        mask = [[True]] if padding_mask is None else padding_mask
        return self.signatures["serve_tokens"](
            tokens=tf.cast(tokens, tf.int32), padding_mask=tf.cast(mask, tf.bool)
        )

    def _score_step(
        self, texts: list[bytes], size: int, progress: Callable[[int], None] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, numbers of windows and emptiness of a few texts."""
        tokens, owner = self._cut(texts)
        scores = self._score_windows(tokens, size, progress)
        weights = np.count_nonzero(tokens, axis=1).astype(np.float64)
        count = len(texts)
        totals = np.bincount(owner, np.where(weights > 0, weights * scores, 0.0), count)
        sizes = np.bincount(owner, weights, count)
        return totals / np.maximum(sizes, 1), np.bincount(owner, minlength=count), sizes == 0

    def _score_long_text(
        self, texts: list[bytes], size: int, progress: Callable[[int], None] | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `_score_step` for a single text, of which a few windows are in memory at a time."""
        (text,) = texts

        def encode(piece: bytes) -> np.ndarray:
            tokens, _ = self._cut([piece])
            return tokens[tokens != 0]

        total = weight = windows = 0
        is_bytes = self.metadata["tokenizer"]["kind"] == "byte"
        for tokens in long_texts.window_blocks(text, encode, self.sequence_length, is_bytes):
            weights = np.count_nonzero(tokens, axis=1).astype(np.float64)
            total += np.sum(weights * self._score_windows(tokens, size, progress))
            weight += np.sum(weights)
            windows += len(tokens)
        # a text without a token has one window, as everywhere
        return tuple(np.array([v]) for v in (total / max(weight, 1), max(windows, 1), not weight))

    def _cut(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Windows int32 [N, S], and the text that each is from, int32 [N]."""
        cut = self.signatures["text_windows"](text=tf.constant(texts, tf.string))
        return cut["tokens"].numpy(), cut["document"].numpy()

    def _score_windows(
        self, tokens: np.ndarray, size: int, progress: Callable[[int], None] | None
    ) -> np.ndarray:
        return score_by_length(
            lambda rows: self._tensor_tokens(tf.constant(rows))["score"].numpy(),
            tokens,
            size,
            widths=None if self.metadata["variable_length"] else (self.sequence_length,),
            progress=progress,
        )


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
