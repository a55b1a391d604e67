"""What every tokenizer offers, what tokenizers share, and the simplest: one token a byte."""

from collections.abc import Sequence
import hashlib
import os
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from dr_keras.data.documents import utf8
from dr_keras.errors import ArtefactError, DataError
import gin

PAD_ID = 0
_FIRST_BYTE = 2  # after padding and end


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back.

    Id 0 is padding everywhere in dr_keras: no text encodes to it, and models mask it.

    Attributes:
      name: kind of the tokenizer, as `config()["kind"]` has it.
      vocabulary_size: ids are in [0, vocabulary_size).
      end_id: stands between packed documents.
      needs_tensorflow_text: whether a SavedModel with `tensor_encode` inside loads only after
        `import tensorflow_text`.
      assets: paths of the files that `tokenizer_from_config` needs.
      trackables: objects that an exported module must hold, so that the resources `tensor_encode`
        uses are saved with it.
    """

    name: str
    vocabulary_size: int
    end_id: int
    needs_tensorflow_text: bool
    assets: list[str]
    trackables: list

    def encode(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        """Ids of each text, int32 [length], neither padded nor truncated."""

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """Text of some ids, for people to read; may lose details, never raises."""

    def tensor_encode(self, text: tf.Tensor, length: int) -> tf.Tensor:
        """Ids of texts in a graph: string [B] -> int32 [B, length], cut or padded with 0.

        Row for row the same ids as `encode`.
        """

    def config(self) -> dict:
        """A JSON-able description that `tokenizer_from_config` turns into an equal tokenizer."""


def asset_config(path: str, content: bytes) -> dict:
    """How a tokenizer's config names a file: by its base name and its SHA-256."""
    return {"file": os.path.basename(path), "sha256": hashlib.sha256(content).hexdigest()}


def find_asset(entry: dict, assets_dir: str | None) -> str:
    """The path of the file that `asset_config` described, after checking its content.

    Raises:
      ArtefactError: the file is missing or holds something else.
    """
    path = os.path.join(assets_dir or "", entry["file"])
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            digest = hashlib.sha256(file.read()).hexdigest()
    except tf.errors.OpError as error:
        raise ArtefactError(
            f"{path}: this tokenizer file cannot be read ({error.message}): the directory is"
            " incomplete; copy or export it again."
        ) from error
    if digest != entry["sha256"]:
        raise ArtefactError(
            f"{path}: this is not the tokenizer file that was saved (its SHA-256 differs), so ids"
            " would not mean the same; copy or export the directory again."
        )
    return path


def read_asset(path: str, what: str) -> bytes:
    """Content of a vocabulary file that the user named.

    Raises:
      DataError: it cannot be read.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise DataError(
            f"{path}: the {what} cannot be read ({error.message}): correct the path, or learn a"
            " vocabulary with dr-keras learn-vocabulary."
        ) from error


class ByteTokenizer:
    """UTF-8 bytes as ids: padding 0, end 1, byte b is b + 2; 258 ids in all.

    No vocabulary to learn, nothing unknown. Any bytes are valid input, NUL and invalid UTF-8 among
    them, and keep their own ids. Made by `byte_tokenizer`. Core TensorFlow operations only: a
    SavedModel with `tensor_encode` inside needs no tensorflow_text.
    """

    name = "byte"
    vocabulary_size = 256 + _FIRST_BYTE
    end_id = 1
    needs_tensorflow_text = False
    assets: list[str] = []
    trackables: list = []

    def encode(self, texts: Sequence[str | bytes]) -> list[np.ndarray]:
        return [
            np.frombuffer(utf8(text), np.uint8).astype(np.int32) + _FIRST_BYTE for text in texts
        ]

    def decode(self, ids: Sequence[int] | np.ndarray) -> str:
        """UTF-8 text of the ids: end becomes a line break, padding nothing, rubbish U+FFFD."""
        ids = np.asarray(ids, np.int64).reshape(-1)
        ids = ids[(ids > PAD_ID) & (ids < self.vocabulary_size)]
        values = np.where(ids == self.end_id, ord("\n"), ids - _FIRST_BYTE).astype(np.uint8)
        return values.tobytes().decode("utf-8", "replace")

    def tensor_encode(self, text: tf.Tensor, length: int) -> tf.Tensor:
        text = tf.convert_to_tensor(text, tf.string)
        # fixed_length pads with NUL bytes; only the length tells them from a NUL in the text.
        values = tf.cast(tf.io.decode_raw(text, tf.uint8, fixed_length=length), tf.int32)
        is_text = tf.sequence_mask(tf.minimum(tf.strings.length(text), length), length)
        return tf.where(is_text, values + _FIRST_BYTE, PAD_ID)

    def config(self) -> dict:
        return {"kind": self.name}


@gin.configurable
def byte_tokenizer() -> ByteTokenizer:
    """The tokenizer of UTF-8 bytes, the default: 258 ids, nothing to learn."""
    return ByteTokenizer()
