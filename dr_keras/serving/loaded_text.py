"""What a loaded rater of text takes, and how it reaches the signatures of `serving.text`."""

from collections.abc import Callable, Sequence
import functools
import os
from typing import Any

import numpy as np
import tensorflow as tf

from dr_keras.data.documents import utf8
from dr_keras.data.tokenizers import Tokenizer, tokenizer_from_config
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.serving import folder, windows
from dr_keras.serving.examples import STATE
from dr_keras.serving.loading import LoadedRater, as_arrays, refuse_composite, values_of
from dr_keras.serving.window_scoring import (
    MATRIX_PRODUCTS,
    CompiledScores,
    WindowScoring,
    chosen,
    spread,
)  # fmt: skip
from dr_keras.system import schema

# Texts are cut into windows this many at a time; a longer text is cut on its own, piece by piece.
_BYTES_A_STEP = 4 << 20
_TEXTS_A_STEP = 8192

_ASSET = schema.exactly({"file": schema.FILE_NAME, "sha256": schema.SHA256})
# By the kind of tokenizer: the arguments by which `tokenizer_from_config` makes it.
_TOKENIZERS = {
    "byte": schema.exactly({"kind": schema.NAME}),
    "wordpiece": schema.exactly(
        {
            "kind": schema.NAME,
            "vocabulary": _ASSET,
            "lowercase": schema.BOOLEAN,
            "strip_accents": schema.BOOLEAN,
            "pad_token": schema.TEXT,
            "end_token": schema.TEXT,
            "unknown_token": schema.TEXT,
        }
    ),
    "sentencepiece": schema.exactly(
        {"kind": schema.NAME, "proto": _ASSET, "end_token": schema.or_null(schema.TEXT)}
    ),
}
_LONGEST = 2**31 - 1
# Windows int32 [N, S] -> scores float32 [N].
_Scoring = Callable[[np.ndarray], np.ndarray]


class LoadedTextRater(LoadedRater):
    """A `LoadedRater` that takes a string or bytes (and gives scalars); a list, tuple or array of
    them; a string tensor [B]; token ids int32 [B, S] as array, tensor or {"tokens": ...}; or a
    dataset of one of these.

    Attributes:
      sequence_length: S, the most tokens in a window.
      per_token: whether it has scores of tokens, of which its scores are means.
      features: what it reads of an inner model; ("reference_loss",) where it carries the reference
        model, else nothing.
    """

    needed = (*LoadedRater.needed, "serve_tokens", "text_windows")
    facts = {
        "tokenizer": schema.by_key("kind", _TOKENIZERS),
        "sequence_length": schema.whole(1, _LONGEST),
        "variable_length": schema.BOOLEAN,
        "example_feature": schema.NAME,
        "per_token": schema.optional(schema.BOOLEAN),
        "features": STATE,
    }

    def __init__(self, path: str, saved_model, metadata: dict):
        self.per_token: bool = metadata.get("per_token", False)
        self.features: tuple[str, ...] = tuple(metadata.get("features", ()))
        self.needed += ("token_scores", "serve_token_scores") * self.per_token + self.features
        super().__init__(path, saved_model, metadata)
        self.sequence_length = metadata["sequence_length"]

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer it was meta-trained with, from the artefact's own files."""
        config = self.metadata["tokenizer"]
        assets = f"{folder.ASSETS}/{folder.TOKENIZER_FOLDER}"
        for part in config.values():
            name = f"{assets}/{part['file']}" if isinstance(part, dict) else None
            if name and name not in self.metadata["files"]:  # what was not checked is not opened
                raise ArtefactError(
                    f"{self.path} does not list its tokenizer's file {name}: copy or export the"
                    " rater again."
                )
        return tokenizer_from_config(config, assets_dir=os.path.join(self.path, assets))

    def score_tokens(self, tokens, padding_mask=None) -> dict:
        """Scores windows of token ids.

        Args:
          tokens: int32 [B, S], 0 is padding; array-like or tensor. Fewer than S columns will do
            where `metadata["variable_length"]` is true.
          padding_mask: bool [B, S] or [1, 1], False where `tokens` holds padding other than 0; None
            counts every id but 0.

        Returns:
          `score` and `percentile` float32 [B]: tensors for a tensor, else arrays.

        Raises:
          DataError: tokens of another shape or type, or that the tokenizer does not have (as far as
            they are known: in a graph, their values are not).
        """
        given = self._checked_tokens(tokens, padding_mask)
        scored = self._tensor_tokens(given, padding_mask)
        return scored if tf.is_tensor(tokens) else as_arrays(scored)

    def token_scores(self, inputs: object) -> Any:
        """Scores of each token; an input's score is the mean of them.

        Args:
          inputs: a text or several, as str or bytes; or windows of token ids int32 [B, S'], array
            or tensor, 0 is padding.

        Returns:
          For a text a dict of `tokens` int32 [n] and `token_scores` float32 [n], without padding,
          and for several a list of such; for windows float32 [B, S'], 0 of padding.

        Raises:
          ConfigurationError: the rater has scores of whole texts only.
          DataError: inputs that cannot be scored.
        """
        if not self.per_token:
            raise ConfigurationError(
                f"{self!r} scores whole windows: train a rater of tokens (text_rater.per_token ="
                " True) to have scores of tokens."
            )
        if isinstance(inputs, (str, bytes)):
            return self.token_scores([inputs])[0]
        if tf.is_tensor(inputs) or _are_ids(inputs):
            scores = self._tensor_tokens(
                self._checked_tokens(inputs), signature="serve_token_scores"
            )["token_scores"]
            return scores if tf.is_tensor(inputs) else scores.numpy()
        found: list[dict[str, np.ndarray]] = []
        for step in _steps([utf8(text) for text in _texts(inputs)]):
            cut = self.signatures["token_scores"](text=tf.constant(step, tf.string))
            bounds = np.searchsorted(cut["document"], np.arange(1, len(step)))
            parts = (np.split(cut[name].numpy(), bounds) for name in ("tokens", "token_scores"))
            for tokens, scores in zip(*parts):
                found.append({"tokens": tokens[tokens != 0], "token_scores": scores[tokens != 0]})
        return found

    def reference_loss(self, texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
        """Scores of texts beside what the reference model that the rater carries loses on them.

        Args:
          texts: several, as str or bytes.

        Returns:
          `score`, `percentile` and `reference_loss` (nats, the mean over a text's windows, weighed
          by their tokens), float32 [B].

        Raises:
          ConfigurationError: the rater carries no such model.
          DataError: inputs that are no texts.
        """
        if "reference_loss" not in self.features:
            raise ConfigurationError(f"{self!r} carries no reference model.")
        served = self.signatures["reference_loss"]
        steps = _steps([utf8(text) for text in _texts(texts)])
        parts = [as_arrays(served(text=tf.constant(step, tf.string))) for step in steps or [[]]]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def score_texts(
        self,
        texts: Sequence[str | bytes],
        scoring: WindowScoring | None = None,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, np.ndarray]:
        """Scores many texts, in batches of windows that are full whatever the texts' lengths.

        Args:
          texts: any number, of any lengths.
          scoring: how; None for `WindowScoring()`.
          progress: called after each batch with the number of windows scored by it.

        Returns:
          `score` and `percentile` float32 [B], `windows` int32 [B]: how many a text has.
        """
        encoded = [utf8(text) for text in texts]
        scoring = (scoring or WindowScoring()).settled(sum(map(len, encoded)), self.light)
        score_windows = self._window_scores(scoring, progress)
        most = scoring.windows_per_document
        parts = [(np.zeros(0), np.zeros(0), np.zeros(0, bool))]
        for step in _steps(encoded):
            is_long = len(step[0]) > _BYTES_A_STEP
            score_step = self._score_long_text if is_long else self._score_step
            parts.append(score_step(step, score_windows, most))
        score, counts, empty = (np.concatenate(column) for column in zip(*parts))
        score = np.where(empty, self.document_reference.quantiles[0], score).astype(np.float32)
        percentile = np.where(empty, np.float32(0), self.document_reference.percentile(score))
        return {
            "score": score,
            "percentile": percentile.astype(np.float32),
            "windows": counts.astype(np.int32),
        }

    @functools.cached_property
    def light(self) -> bool:
        """Whether it has no matrix products, see `WindowScoring`."""
        graph = self.signatures["serve_tokens"].graph.as_graph_def()
        bodies = [graph.node, *(function.node_def for function in graph.library.function)]
        return not any(node.op in MATRIX_PRODUCTS for nodes in bodies for node in nodes)

    @functools.cached_property
    def _compiled(self) -> CompiledScores:
        return CompiledScores(self._tensor_tokens)

    def _window_scores(self, scoring: WindowScoring, progress) -> _Scoring:
        rows, longest = scoring.windows_per_batch, self.sequence_length
        assert rows is not None  # it is settled
        widths: tuple[int, ...] | None = None if self.metadata["variable_length"] else (longest,)
        if scoring.compiled:  # few, as each is a program: half of the length too, for what is short
            widths = widths or tuple(sorted({-(-longest // 2), longest}))

        def score(tokens: np.ndarray) -> np.ndarray:
            if scoring.compiled:
                return self._compiled(tokens, rows)
            return self._tensor_tokens(tf.constant(tokens))["score"].numpy()

        return functools.partial(
            windows.score_by_length, score, batch_size=rows, widths=widths, progress=progress
        )

    @functools.cached_property
    def _frozen_specs(self) -> dict[str, tf.TensorSpec]:
        width = None if self.metadata["variable_length"] else self.sequence_length
        return {
            "text": tf.TensorSpec([None], tf.string),
            "tokens": tf.TensorSpec([None, width], tf.int32),
        }

    def _score(self, inputs) -> dict:
        if isinstance(inputs, dict):
            inputs = self._from_dict(inputs)
        if not tf.is_tensor(inputs):
            return self._score_python(inputs)
        refuse_composite(inputs)
        return self._score_tensors(inputs)

    def _from_dict(self, inputs: dict):
        for name in ("tokens", "text"):
            if name in inputs:
                return inputs[name]
        raise DataError(f"A rater reads 'tokens' or 'text'; the dict given has {sorted(inputs)}.")

    def _score_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        if inputs.dtype != tf.string:
            return self.score_tokens(inputs)
        if inputs.shape.rank not in (None, 0, 1):
            raise DataError(
                f"A rater scores a string or a row of them, not strings of shape {inputs.shape}."
            )
        if inputs.shape.rank == 0:
            scored = self.signatures["serving_default"](text=inputs[tf.newaxis])
            return {key: value[0] for key, value in scored.items()}
        return self.signatures["serving_default"](text=inputs)

    def _score_python(self, inputs) -> dict[str, np.ndarray]:
        if _are_ids(inputs):
            return self.score_tokens(inputs)
        if isinstance(inputs, np.ndarray):
            inputs = inputs.tolist()  # of an array of no dimension, what is in it
        if isinstance(inputs, (str, bytes)):
            return {key: value[0] for key, value in self._score_python([inputs]).items()}
        result = self.score_texts(_texts(inputs))
        return {"score": result["score"], "percentile": result["percentile"]}

    def _is_example(self, spec) -> bool:
        part = self._from_dict(spec) if isinstance(spec, dict) else spec
        if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
            raise DataError(
                "A rater of text scores datasets of what it takes, not of"
                f" {spec}: map the dataset first, or use dr_keras' top_k with key."
            )
        return part.shape.rank == (0 if part.dtype == tf.string else 1)

    def _checked_tokens(self, tokens, padding_mask=None) -> tf.Tensor:
        """Windows as a tensor, refused where the rater cannot take them."""
        given = tokens if tf.is_tensor(tokens) else tf.constant(_array(tokens))
        refuse_composite(given, "input of tokens")
        self._check_windows(given.dtype, given.shape)
        if (ids := values_of(given)) is not None:
            self._check_ids(ids, padding_mask)
        return given

    def _check_windows(self, dtype: tf.DType, shape: tf.TensorShape) -> None:
        if not dtype.is_integer:
            raise DataError(_not_ids(dtype))
        if shape.rank is None:
            return
        any_width = self.metadata["variable_length"]
        width = shape[1] if shape.rank == 2 else self.sequence_length + 1
        too_narrow = not any_width and width is not None and width < self.sequence_length
        if too_narrow or (width or 0) > self.sequence_length:
            raise DataError(
                f"This rater takes tokens of shape [B, {self.sequence_length}]"
                f"{' or narrower' if any_width else ''}, not {shape.as_list()}: pad or cut them,"
                " or give it the texts."
            )

    def _check_ids(self, ids: np.ndarray, padding_mask) -> None:
        if padding_mask is not None:
            mask = np.asarray(padding_mask, bool)
            if mask.ndim != 2 or any(n not in (1, m) for n, m in zip(mask.shape, ids.shape)):
                raise DataError(
                    f"The padding mask has shape {list(mask.shape)}, the tokens"
                    f" {list(ids.shape)}: give one value for each token."
                )
            ids = np.where(mask, ids, 0)
        low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
        if low < 0 or high >= self._vocabulary_size:
            raise DataError(
                f"The token ids go from {low} to {high}, and those of this rater's tokenizer from"
                f" 0 to {self._vocabulary_size - 1}: make them with its tokenizer, or give it the"
                " texts."
            )

    @functools.cached_property
    def _vocabulary_size(self) -> int:
        try:
            return self.tokenizer.vocabulary_size
        except ArtefactError:  # of a kind that is not known here
            return _LONGEST

    def _tensor_tokens(
        self, tokens: tf.Tensor, padding_mask=None, signature: str = "serve_tokens"
    ) -> dict[str, tf.Tensor]:
        mask = [[True]] if padding_mask is None else padding_mask
        return self.signatures[signature](
            tokens=tf.cast(tokens, tf.int32), padding_mask=tf.cast(mask, tf.bool)
        )

    def _score_step(
        self, texts: list[bytes], score_windows: _Scoring, most: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, numbers of windows and emptiness of a few texts; `most` windows of each count."""
        tokens, owner = self._cut(texts)
        counts = np.bincount(owner, minlength=len(texts))
        scored = spread(owner, most)
        tokens, owner = tokens[scored], owner[scored]
        lengths = np.count_nonzero(tokens, axis=1)
        score, sizes = windows.document_means(score_windows(tokens), lengths, owner, len(texts))
        return score, counts, sizes == 0

    def _score_long_text(
        self, texts: list[bytes], score_windows: _Scoring, most: int | None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `_score_step` for a single text, of which a few windows are in memory at a time."""
        (text,) = texts

        def encode(piece: bytes) -> np.ndarray:
            tokens, _ = self._cut([piece])
            return tokens[tokens != 0]

        is_bytes = self.metadata["tokenizer"]["kind"] == "byte"
        cut = functools.partial(windows.window_blocks, text, encode, self.sequence_length, is_bytes)
        # cutting costs little beside scoring: a first time to count, where not all are scored
        number = None if most is None else sum(map(len, cut()))
        total = weight = count = 0
        for tokens in cut():
            if number is not None and most is not None:
                scored = chosen(np.arange(count, count + len(tokens)), number, most)
            count += len(tokens)
            if number is not None:
                tokens = tokens[scored]
            weights = np.count_nonzero(tokens, axis=1).astype(np.float64)
            total += np.sum(weights * score_windows(tokens))
            weight += np.sum(weights)
        # a text without a token has one window, as everywhere
        score = np.array([total / max(weight, 1)])
        return score, np.array([max(count, 1)]), np.array([not weight])

    def _cut(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Windows int32 [N, S], and the text that each is from, int32 [N]."""
        cut = self.signatures["text_windows"](text=tf.constant(texts, tf.string))
        return cut["tokens"].numpy(), cut["document"].numpy()


def _are_ids(inputs) -> bool:
    return isinstance(inputs, np.ndarray) and inputs.dtype.kind in "biufc"


def _texts(inputs) -> list[str | bytes]:
    try:
        texts = list(inputs)
    except TypeError:
        texts = [inputs]
    for text in texts:
        if not isinstance(text, (str, bytes)):
            raise DataError(
                "A rater scores texts (str or bytes, or lists, arrays, tensors or datasets of"
                f" them) or token ids, not {type(text).__name__}."
            )
    return texts


def _array(tokens) -> np.ndarray:
    try:
        array = np.asarray(tokens)
        array = np.asarray(array.tolist()) if array.dtype == object else array
        return array if array.size else array.astype(np.int32)
    except (TypeError, ValueError) as error:
        raise DataError(f"These are no rows of token ids of one length ({error}).") from error


def _not_ids(dtype: tf.DType) -> str:
    return (
        f"A rater of text scores strings or token ids, which are whole numbers, and these are"
        f" {dtype.name}: give it the texts, or the ids as int32."
    )


def _steps(texts: list[bytes]) -> list[list[bytes]]:
    """Neighbouring texts together, up to _BYTES_A_STEP."""
    steps: list[list[bytes]] = []
    size = 0
    for text in texts:
        if not steps or size + len(text) > _BYTES_A_STEP or len(steps[-1]) >= _TEXTS_A_STEP:
            steps.append([])
            size = 0
        steps[-1].append(text)
        size += len(text)
    return steps
