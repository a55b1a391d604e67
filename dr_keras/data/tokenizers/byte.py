"""One token a byte: no vocabulary to learn, nothing unknown, core TensorFlow operations only."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers.base import PAD_ID, utf8
import gin

_FIRST_BYTE = 2  # after padding and end


class ByteTokenizer:
    """UTF-8 bytes as ids: padding 0, end 1, byte b is b + 2; 258 ids in all.

    Any bytes are valid input, NUL and invalid UTF-8 among them, and keep their own ids. Made by
    `byte_tokenizer`. A SavedModel with `tensor_encode` inside needs no tensorflow_text.
    """

    name = "byte"
    vocabulary_size = 256 + _FIRST_BYTE
    pad_id = PAD_ID
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
