"""A rater of hashed n-grams: what a window is worth by the short strings of tokens in it.

The cost of fastText (Joulin et al. 2017, section 2): a table lookup for every n-gram, a mean, and a
linear score or one hidden layer. N-grams are hashed from token ids by whole-number arithmetic, so
that the same graph runs in Keras, in tf.data, under XLA and in an exported rater, without strings:
the row of an n-gram is the top bits of sum_k c_k t_k mod 2^32 with odd c_k, multiply-shift hashing
(Dietzfelbinger et al. 1997, "A reliable randomized algorithm for the closest-pair problem").
"""

from collections.abc import Sequence

import keras
import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers
from dr_keras.models.inner_state import score_of
import gin

_MOST_BUCKETS = 1 << 24


def _factor(number: int) -> int:
    """c_k: an odd number of 32 bits, as int32; `number` mixed as MurmurHash3 ends."""
    value = number + 1
    for shift, times in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        value = (value ^ (value >> shift)) * times % 2**32
    return int(np.uint32((value ^ (value >> 16)) | 1).astype(np.int32))


@keras.saving.register_keras_serializable(package="dr_keras")
class NgramRows(keras.layers.Layer):
    """Rows of a table for the n-grams of windows, one for each order and token.

    Args:
      orders: lengths n of the n-grams, ascending.
      buckets: rows for the n-grams of one length, a power of two.
    """

    def __init__(self, orders: Sequence[int], buckets: int, **kwargs):
        super().__init__(autocast=False, **kwargs)  # or token ids would arrive as floats
        self.orders, self.buckets = [int(order) for order in orders], int(buckets)

    def call(self, tokens):
        """int32 [B, S] -> a list, by order, of int32 [B, S]: the row of the n-gram that ends there.

        Before a window's first token there is padding, id 0: its first n-grams are shorter ones.
        """
        width = keras.ops.shape(tokens)[1]
        bits = self.buckets.bit_length() - 1
        found, code = [], keras.ops.zeros_like(tokens)
        for back in range(self.orders[-1]):
            earlier = tokens if not back else keras.ops.pad(tokens, [[0, 0], [back, 0]])[:, :width]
            code = code + earlier * _factor(back)  # whole numbers wrap around, everywhere alike
            if back + 1 in self.orders:
                # without a sign, or copies of it would come down with the top bits
                row = keras.ops.right_shift(keras.ops.cast(code, "uint32"), 32 - bits)
                found.append(keras.ops.cast(row, "int32") + self.buckets * len(found))
        return found

    def compute_output_spec(self, tokens):
        return [keras.KerasTensor(tokens.shape, "int32") for _ in self.orders]

    def get_config(self):
        return {**super().get_config(), "orders": self.orders, "buckets": self.buckets}


@gin.configurable
def ngram_rater(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    orders: Sequence[int] = (1, 2, 3, 4),
    buckets: int = 65536,
    width: int = 1,
    hidden: int = 0,
    per_token: bool = False,
) -> keras.Model:
    """phi_eta(x): what the n-grams of a window are worth, the mean over its tokens.

    Args:
      vocabulary_size, sequence_length: as for `text_rater`; it is the same model for all of them.
      orders: lengths of the n-grams, ascending.
      buckets: rows of the table for the n-grams of one length, a power of two.
      width: numbers that an n-gram has; 1: its worth, and the score is linear.
      hidden: units of a hidden layer between their mean, [B, width], and the score; 0: none.
      per_token: a score for each token, without the mean; of linear raters alone.

    Returns:
      A Keras model from {"tokens": int32 [B, S']} to scores [B], or [B, S'] by token, float32
      (float64 under that policy); 0 before any training. Padding after the last token changes
      nothing. Without matrix products, but for those of a hidden layer and of the score.

    Raises:
      ConfigurationError: a setting out of its range.
    """
    del vocabulary_size, sequence_length
    _check(orders, buckets, width, hidden, per_token)
    linear, dtype = width == 1, layers.output_dtype()
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    rows = NgramRows(sorted(orders), buckets, name="ngrams")(tokens)
    table = keras.layers.Embedding(
        len(rows) * buckets,
        width,
        embeddings_initializer="zeros" if linear else keras.initializers.RandomNormal(stddev=0.5),
        name="table",
        dtype=dtype,
    )
    real = keras.ops.cast(keras.ops.not_equal(tokens, 0), dtype)
    worth = sum(table(row) for row in rows) * keras.ops.expand_dims(real, -1)
    if per_token:
        return keras.Model({"tokens": tokens}, worth[..., 0], name="ngram_rater")
    count = keras.ops.sum(real, axis=1, keepdims=True)
    mean = keras.ops.sum(worth, axis=1) / keras.ops.maximum(count, keras.ops.ones_like(count))
    if linear:
        return keras.Model({"tokens": tokens}, mean[:, 0], name="ngram_rater")
    if hidden:
        mean = keras.layers.Dense(
            hidden, activation=layers.approximate_gelu, name="hidden", dtype=dtype
        )(mean)
    return keras.Model({"tokens": tokens}, score_of(mean, {}), name="ngram_rater")


def _check(orders, buckets: int, width: int, hidden: int, per_token: bool) -> None:
    if not orders or min(orders) < 1 or len(set(orders)) < len(orders):
        raise ConfigurationError(
            f"ngram_rater.orders is {tuple(orders)}: name lengths of n-grams of at least 1, each"
            " once, such as (1, 2, 3)."
        )
    if not 2 <= buckets <= _MOST_BUCKETS or buckets & (buckets - 1):
        raise ConfigurationError(
            f"ngram_rater.buckets is {buckets}: it must be a power of two from 2 to"
            f" {_MOST_BUCKETS:,}, such as 65536."
        )
    if width < 1 or hidden < 0:
        raise ConfigurationError(
            f"ngram_rater.width is {width} and hidden {hidden}: they must be at least 1 and 0."
        )
    if width == 1 and hidden:
        raise ConfigurationError(
            f"ngram_rater.hidden is {hidden}, and one number an n-gram (width 1) is its worth: give"
            " it a width such as 8, or leave the hidden layer out."
        )
    if per_token and width > 1:
        raise ConfigurationError(
            "ngram_rater.per_token: tokens have scores of their own in a linear rater alone: set"
            " ngram_rater.width = 1, or for a teacher by token fitted_rater.token_share = 0."
        )
