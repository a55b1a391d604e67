"""What every tokenizer offers, and what tokenizers share."""

from collections.abc import Sequence
import hashlib
import os
from typing import Protocol, runtime_checkable

import numpy as np
import tensorflow as tf

from dr_keras.data.documents import pieces
from dr_keras.errors import ArtefactError, DataError

PAD_ID = 0


@runtime_checkable
class Tokenizer(Protocol):
    """Text to token ids and back.

    Id 0 is padding everywhere in dr_keras: no text encodes to it, and models mask it.

    Attributes:
      name: kind of the tokenizer, as `config()["kind"]` has it.
      vocabulary_size: ids are in [0, vocabulary_size).
      pad_id: always 0.
      end_id: stands between packed documents.
      needs_tensorflow_text: whether a SavedModel with `tensor_encode` inside loads only after
        `import tensorflow_text`.
      assets: paths of the files that `tokenizer_from_config` needs.
      trackables: objects that an exported module must hold, so that the resources `tensor_encode`
        uses are saved with it.
    """

    name: str
    vocabulary_size: int
    pad_id: int
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


def utf8(text: str | bytes) -> bytes:
    """UTF-8 bytes of a text. Lone surrogates, which UTF-8 cannot hold, become question marks."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


def utf8_size(text: str) -> int:
    """The number of bytes of `utf8(text)`, for which a large text is not copied."""
    return len(text) if text.isascii() else sum(len(utf8(piece)) for piece in pieces(text))


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
