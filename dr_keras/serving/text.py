"""A rater of text: what is exported, and what a loaded one takes.

Its signatures:

    serving_default    text string [B]                       -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    serve_tokens       tokens int32 [B, S'], padding_mask bool, S' <= S
                                                             -> score, percentile
    keep_probability   text string [B], discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability
    text_windows       text string [B]                       -> tokens int32 [N, S], document [N]

Scores, percentiles and probabilities are float32 [B], B >= 0. Texts longer than S tokens are scored
window by window and get the mean of their windows' scores, weighed by tokens (`serving.windows`);
the percentile of a text is taken under the distribution of documents, that of a window of tokens
under the distribution of windows. Any bytes are text. An empty text, or a row of nothing but
padding, has the lowest score of the reference distribution and percentile 0.

Where the mask is False (or the id 0) is padding; it comes after the tokens. The mask broadcasts,
and by default everything counts. `serve_tokens` is made of core operations only, and so is all of
a byte rater.
"""

from collections.abc import Callable, Sequence
import functools
import os

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.documents import utf8
from dr_keras.data.tokenizers import Tokenizer, tokenizer_from_config
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.serving import folder, schema, windows
from dr_keras.serving.loading import LoadedRater, as_arrays, refuse_composite, values_of
from dr_keras.serving.signatures import RaterKind, References, Signature, outputs

# What a server is warmed up with.
_WARMUP_TEXT = b"A sentence by which a server gets warm. "
_TEXT = tf.TensorSpec([None], tf.string, name="text")
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


class TextKind(RaterKind):
    """A rater of text; `RaterKind` says what the parts are.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B], S perhaps open.
      tokenizer: the one it was meta-trained with.
      sequence_length: S, the most tokens in a window.
      example_feature: the feature of a tf.train.Example that holds the text.
      chunk: windows scored at once inside a graph; bounds its memory.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together.
    """

    kind = "text"

    def __init__(
        self,
        rater: keras.Model,
        tokenizer: Tokenizer,
        sequence_length: int,
        example_feature: str = "text",
        chunk: int = 256,
    ):
        _check_fit(rater, tokenizer, sequence_length)
        if not isinstance(example_feature, str) or not example_feature:
            raise ConfigurationError(
                f"example_feature is {example_feature!r}: name the feature of a tf.train.Example"
                " that holds the text."
            )
        if chunk < 1:
            raise ConfigurationError(f"chunk is {chunk}: score at least 1 window at once.")
        super().__init__(rater)
        self.requires = ["tensorflow_text"] if tokenizer.needs_tensorflow_text else []
        self.trackables = list(tokenizer.trackables)
        self.assets = {
            os.path.join(folder.TOKENIZER_FOLDER, os.path.basename(path)): path
            for path in tokenizer.assets
        }
        self.tokens = tf.TensorSpec([None, rater.inputs[0].shape[1]], tf.int32, name="tokens")
        # A function of its own, so that the graph holds the network once and not once a signature.
        self.score = tf.function(self._score, input_signature=[self.tokens], autograph=False)
        self._tokenizer = tokenizer
        self.sequence_length = int(sequence_length)
        self._any_width = rater.inputs[0].shape[1] is None
        self._feature = example_feature
        self._chunk = chunk

    def facts(self) -> dict:
        return {
            "tokenizer": self._tokenizer.config(),
            "sequence_length": self.sequence_length,
            "variable_length": self._any_width,
            "example_feature": self._feature,
        }

    def windows(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Windows int32 [N, S] of texts, string [B], and the text that each is from, int32 [N]."""
        return windows.text_windows(self._tokenizer, text, self.sequence_length)

    def served(self, references: References) -> Signature:
        @tf.function(input_signature=[_TEXT], autograph=False)
        def serve_text(text):
            tokens, owner = self.windows(text)
            scores = windows.score_in_chunks(
                self.score, tokens, self._chunk, cut_padding=self._any_width
            )
            scores, empty = windows.document_scores(scores, tokens, owner, tf.shape(text)[0])
            return outputs(scores, references.documents, empty)

        # short and long, so that one and several windows are met
        repeated = _WARMUP_TEXT * (1 + 2 * self.sequence_length // len(_WARMUP_TEXT))
        texts = np.array([_WARMUP_TEXT, repeated], object)
        return Signature(lambda text: serve_text(text), [_TEXT], {"text": texts})

    def parse(self, examples: tf.Tensor) -> list[tf.Tensor]:
        features = {self._feature: tf.io.FixedLenFeature([], tf.string)}
        return [tf.io.parse_example(examples, features)[self._feature]]

    def example(self) -> tf.train.Example:
        example = tf.train.Example()
        example.features.feature[self._feature].bytes_list.value.append(_WARMUP_TEXT)
        return example

    def _score(self, tokens: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.rater({"tokens": tokens}, training=False), tf.float32)


@TextKind.signature("serve_tokens")
def _serve_tokens(rater: TextKind, served: Signature, references: References) -> Signature:
    mask = tf.TensorSpec([None, None], tf.bool, name="padding_mask")

    def serve_tokens(tokens, padding_mask=tf.constant([[True]])):
        tokens = tf.where(padding_mask, tokens, 0)
        return outputs(rater.score(tokens), references.units, windows.is_empty(tokens))

    tokens = np.ones([2, rater.sequence_length], np.int32)
    warmup = {"tokens": tokens, "padding_mask": np.ones_like(tokens, bool)}
    return Signature(serve_tokens, [rater.tokens, mask], warmup, core=True)


@TextKind.signature("text_windows")
def _text_windows(rater: TextKind, served: Signature, references: References) -> Signature:
    return Signature(lambda text: dict(zip(("tokens", "document"), rater.windows(text))), [_TEXT])


def _check_fit(rater: keras.Model, tokenizer: Tokenizer, sequence_length: int) -> None:
    if len(rater.inputs) != 1 or len(rater.inputs[0].shape) != 2:
        raise ConfigurationError(
            "An exported text rater takes {'tokens': int32 [B, S]} and nothing else; this one takes"
            f" {[tensor.name for tensor in rater.inputs]}."
        )
    width = rater.inputs[0].shape[1]
    if width not in (None, sequence_length):
        raise ConfigurationError(
            f"The rater takes windows of {width} tokens, but sequence_length is {sequence_length}:"
            " export it with the length it was built for."
        )
    for layer in rater.layers:
        positions = getattr(layer, "sequence_length", None)  # of a position embedding
        if positions is not None and positions < sequence_length:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {positions} positions, but sequence_length"
                f" is {sequence_length}: export it with the length it was built for."
            )
        reads_tokens = isinstance(layer, keras.layers.Embedding) and layer.input is rater.inputs[0]
        if reads_tokens and layer.input_dim < tokenizer.vocabulary_size:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {layer.input_dim} token ids, but the"
                f" {tokenizer.name} tokenizer has {tokenizer.vocabulary_size}: use the tokenizer"
                " that the rater was meta-trained with."
            )


class LoadedTextRater(LoadedRater):
    """A `LoadedRater` that takes a string or bytes (and gives scalars); a list, tuple or array of
    them; a string tensor [B]; token ids int32 [B, S] as array, tensor or {"tokens": ...}; or a
    dataset of one of these.

    Attributes:
      sequence_length: S, the most tokens in a window.
    """

    needed = (*LoadedRater.needed, "serve_tokens", "text_windows")
    facts = {
        "tokenizer": schema.by_key("kind", _TOKENIZERS),
        "sequence_length": schema.whole(1, _LONGEST),
        "variable_length": schema.BOOLEAN,
        "example_feature": schema.NAME,
    }

    def __init__(self, path: str, saved_model, metadata: dict):
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
        given = tokens if tf.is_tensor(tokens) else tf.constant(_array(tokens))
        refuse_composite(given, "input of tokens")
        self._check_windows(given.dtype, given.shape)
        if (ids := values_of(given)) is not None:
            self._check_ids(ids, padding_mask)
        scored = self._tensor_tokens(given, padding_mask)
        return scored if tf.is_tensor(tokens) else as_arrays(scored)

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
        score_windows = functools.partial(
            windows.score_by_length,
            lambda rows: self._tensor_tokens(tf.constant(rows))["score"].numpy(),
            batch_size=windows_per_batch,
            widths=None if self.metadata["variable_length"] else (self.sequence_length,),
            progress=progress,
        )
        parts = [(np.zeros(0), np.zeros(0), np.zeros(0, bool))]
        for step in _steps([utf8(text) for text in texts]):
            is_long = len(step[0]) > _BYTES_A_STEP
            score_step = self._score_long_text if is_long else self._score_step
            parts.append(score_step(step, score_windows))
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
        if isinstance(inputs, np.ndarray):
            if inputs.dtype.kind in "biufc":
                return self.score_tokens(inputs)
            inputs = inputs.tolist()  # of an array of no dimension, what is in it
        if isinstance(inputs, (str, bytes)):
            return {key: value[0] for key, value in self._score_python([inputs]).items()}
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
        result = self.score_texts(texts)
        return {"score": result["score"], "percentile": result["percentile"]}

    def _is_example(self, spec) -> bool:
        part = self._from_dict(spec) if isinstance(spec, dict) else spec
        if not isinstance(part, tf.TensorSpec) or part.shape.rank is None:
            raise DataError(
                "A rater of text scores datasets of what it takes, not of"
                f" {spec}: map the dataset first, or use dr_keras' top_k with key."
            )
        return part.shape.rank == (0 if part.dtype == tf.string else 1)

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

    def _tensor_tokens(self, tokens: tf.Tensor, padding_mask=None) -> dict[str, tf.Tensor]:
        mask = [[True]] if padding_mask is None else padding_mask
        return self.signatures["serve_tokens"](
            tokens=tf.cast(tokens, tf.int32), padding_mask=tf.cast(mask, tf.bool)
        )

    def _score_step(
        self, texts: list[bytes], score_windows: _Scoring
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores, numbers of windows and emptiness of a few texts."""
        tokens, owner = self._cut(texts)
        lengths = np.count_nonzero(tokens, axis=1)
        score, sizes = windows.document_means(score_windows(tokens), lengths, owner, len(texts))
        return score, np.bincount(owner, minlength=len(texts)), sizes == 0

    def _score_long_text(
        self, texts: list[bytes], score_windows: _Scoring
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As `_score_step` for a single text, of which a few windows are in memory at a time."""
        (text,) = texts

        def encode(piece: bytes) -> np.ndarray:
            tokens, _ = self._cut([piece])
            return tokens[tokens != 0]

        total = weight = count = 0
        is_bytes = self.metadata["tokenizer"]["kind"] == "byte"
        for tokens in windows.window_blocks(text, encode, self.sequence_length, is_bytes):
            weights = np.count_nonzero(tokens, axis=1).astype(np.float64)
            total += np.sum(weights * score_windows(tokens))
            weight += np.sum(weights)
            count += len(tokens)
        # a text without a token has one window, as everywhere
        score = np.array([total / max(weight, 1)])
        return score, np.array([max(count, 1)]), np.array([not weight])

    def _cut(self, texts: list[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """Windows int32 [N, S], and the text that each is from, int32 [N]."""
        cut = self.signatures["text_windows"](text=tf.constant(texts, tf.string))
        return cut["tokens"].numpy(), cut["document"].numpy()


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
