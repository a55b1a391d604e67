"""WordPiece and SentencePiece, on the layers of keras_hub (which need tensorflow_text).

keras_hub tokenizes outside a graph with Python code and inside it with tensorflow_text, and the
two need not agree on odd input. Ids must mean the same in training and in an exported rater, so
everything here goes through a graph: one of the tokenizer's own for `encode`, the caller's for
`tensor_encode`.
"""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dr_keras.data.documents import utf8
from dr_keras.data.tokenizers.base import PAD_ID, asset_config, read_asset
from dr_keras.errors import ConfigurationError, DataError
import gin

_TEXTS_A_BATCH = 256


class SubwordTokenizer:
    """A keras_hub tokenizer layer as a `Tokenizer`.

    Made by `wordpiece_tokenizer` and `sentencepiece_tokenizer`. Invalid UTF-8 is read as U+FFFD, a
    NUL as a space.

    Args:
      name: kind, as the config has it.
      layer: keras_hub tokenizer, string -> ragged int32; its id 0 is padding.
      ids: the id that stands between packed documents, and that of what the vocabulary cannot
        spell (`unknown_id`).
      config: what `config()` returns.
      path: the vocabulary file, as the user named it.
    """

    needs_tensorflow_text = True

    def __init__(self, name: str, layer, ids: tuple[int, int], config: dict, path: str):
        if not layer.built:
            layer.build(None)  # an unbuilt layer cannot be exported
        self.name = name
        self.vocabulary_size = int(layer.vocabulary_size())
        self.end_id, self.unknown_id = map(int, ids)
        self.assets = [path]
        self.trackables = [layer]
        self._layer = layer
        self._config = config
        # Traced once: a graph of its own for every call would cost more than the tokenizing.
        self._encode_batch = tf.function(
            self._ragged, input_signature=[tf.TensorSpec([None], tf.string)], autograph=False
        )

    def encode(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        rows = []
        for first in range(0, len(texts), _TEXTS_A_BATCH):
            batch = [utf8(text) for text in texts[first : first + _TEXTS_A_BATCH]]
            ids = self._encode_batch(tf.constant(batch, tf.string))
            rows.extend(np.split(ids.values.numpy(), ids.row_splits.numpy()[1:-1]))
        return rows

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of the ids: end becomes a line break; padding and unknown numbers nothing."""
        ids = np.asarray(ids, np.int64).reshape(-1)
        ids = ids[(ids > PAD_ID) & (ids < self.vocabulary_size)]
        documents = np.split(ids, np.flatnonzero(ids == self.end_id))
        texts = []
        for document in documents:
            document = document[document != self.end_id]
            text = self._layer.detokenize(document.tolist()) if len(document) else ""
            texts.append(text if isinstance(text, str) else _as_text(text))
        return "\n".join(texts)

    def tensor_encode(self, text: tf.Tensor, length: int) -> tf.Tensor:
        text = tf.convert_to_tensor(text, tf.string)
        if tf.executing_eagerly():
            ids = np.full([len(text), length], PAD_ID, np.int32)
            for row, encoded in zip(ids, self.encode(list(text.numpy()))):
                row[: len(encoded)] = encoded[:length]
            return tf.constant(ids)
        return self._ragged(text).to_tensor(default_value=PAD_ID, shape=[None, length])

    def config(self) -> dict:
        return dict(self._config)

    def _ragged(self, text: tf.Tensor) -> tf.RaggedTensor:
        text = tf.strings.unicode_transcode(text, "UTF-8", "UTF-8", errors="replace")
        # WordPiece would drop the rest of a word after a NUL.
        text = tf.strings.regex_replace(text, r"\x00", " ")
        return tf.cast(self._layer(text), tf.int32)


def _as_text(value) -> str:
    value = value.numpy() if hasattr(value, "numpy") else value
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


@gin.configurable
def wordpiece_tokenizer(
    vocabulary: str = gin.REQUIRED,
    lowercase: bool = False,
    strip_accents: bool = False,
    pad_token: str = "[PAD]",
    end_token: str = "[SEP]",
    unknown_token: str = "[UNK]",
) -> SubwordTokenizer:
    """WordPiece (Schuster and Nakajima, 2012), as BERT uses it.

    Args:
      vocabulary: text file with a token a line, `pad_token` in the first; pieces inside a word
        begin with `##`. `learn_vocabulary` writes such a file.
      lowercase: lower-case text first; must agree with how the vocabulary was learned.
      strip_accents: remove accents first; likewise.
      pad_token: the token of id 0.
      end_token: the token that stands between packed documents.
      unknown_token: the token of words that the vocabulary cannot spell.

    Raises:
      DataError: the file cannot be read, or lacks one of the tokens above, or repeats a token.
    """
    import keras_hub  # a slow import that bytes do without

    content = read_asset(vocabulary, "WordPiece vocabulary")
    try:
        tokens = content.decode("utf-8").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{vocabulary}: not a WordPiece vocabulary: invalid UTF-8 at byte {error.start}; name a"
            " text file with one token a line."
        ) from error
    tokens = [token.removesuffix("\r") for token in tokens]
    lines: dict[str, int] = {}
    for number, token in enumerate(tokens, 1):
        if token in lines:
            raise DataError(
                f"{vocabulary}: line {number} repeats the token {token!r} of line {lines[token]}:"
                " remove one, or learn the vocabulary again."
            )
        lines[token] = number
    if tokens[0] != pad_token:
        raise DataError(
            f"{vocabulary}: the first token is {tokens[0]!r}, but id 0 must be padding: put"
            f" {pad_token!r} in line 1, or set pad_token."
        )
    for argument, token in (("end_token", end_token), ("unknown_token", unknown_token)):
        if token not in lines:
            raise DataError(
                f"{vocabulary}: there is no token {token!r}: add it, or set {argument} to the one"
                " that the file uses."
            )
    layer = keras_hub.tokenizers.WordPieceTokenizer(
        vocabulary=tokens,
        lowercase=lowercase,
        strip_accents=strip_accents,
        oov_token=unknown_token,
        dtype="int32",
    )
    config = {
        "kind": "wordpiece",
        "vocabulary": asset_config(vocabulary, content),
        "lowercase": lowercase,
        "strip_accents": strip_accents,
        "pad_token": pad_token,
        "end_token": end_token,
        "unknown_token": unknown_token,
    }
    ids = (lines[end_token] - 1, lines[unknown_token] - 1)
    return SubwordTokenizer("wordpiece", layer, ids, config, vocabulary)


@gin.configurable
def sentencepiece_tokenizer(
    proto: str = gin.REQUIRED, end_token: str | None = None
) -> SubwordTokenizer:
    """SentencePiece (Kudo and Richardson, 2018), as T5 uses it.

    Args:
      proto: the model file; its piece 0 must be padding. `learn_vocabulary` writes such a file.
      end_token: the piece that stands between packed documents; None: the model's own end of
        sentence.

    Raises:
      DataError: the file cannot be read or is no SentencePiece model.
      ConfigurationError: its id 0 is not padding, or the end token is not a piece of its own.
    """
    import keras_hub  # a slow import that bytes do without
    import sentencepiece

    content = read_asset(proto, "SentencePiece model")
    try:
        model = sentencepiece.SentencePieceProcessor(model_proto=content)
        pieces = model.get_piece_size()
    except Exception as error:  # the library raises whatever its C++ code reports
        raise DataError(f"{proto}: not a SentencePiece model ({error}).") from error
    if not pieces:
        raise DataError(f"{proto}: not a SentencePiece model (it has no pieces).")
    if not model.is_control(0) or 0 in (model.bos_id(), model.eos_id()):
        raise ConfigurationError(
            f"{proto}: id 0 is {model.id_to_piece(0)!r}, but dr_keras masks id 0 as padding: train"
            " the model with pad_id=0, or learn one with dr-keras learn-vocabulary."
        )
    end_id = model.eos_id() if end_token is None else model.piece_to_id(end_token)
    if end_id <= 0 or end_id == model.unk_id():
        raise ConfigurationError(
            f"{proto}: "
            + (
                "the model has no end of sentence: set end_token to one of its pieces."
                if end_token is None
                else f"the model has no piece {end_token!r}: choose another end_token."
            )
        )
    layer = keras_hub.tokenizers.SentencePieceTokenizer(proto=content, dtype="int32")
    config = {
        "kind": "sentencepiece",
        "proto": asset_config(proto, content),
        "end_token": end_token,
    }
    return SubwordTokenizer("sentencepiece", layer, (end_id, model.unk_id()), config, proto)
