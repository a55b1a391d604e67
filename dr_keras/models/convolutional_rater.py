"""A small rater of convolutions with a stride: it reads a window a few tokens at a time.

What makes it cheap beside a transformer of its width: all but the first layer work on S / stride
positions, and none compares all with all.
"""

import keras

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers
from dr_keras.models.inner_state import score_of
import gin


@gin.configurable
def convolutional_rater(
    vocabulary_size: int = gin.REQUIRED,
    sequence_length: int = gin.REQUIRED,
    width: int = 48,
    stride: int = 4,
    reach: int = 8,
    embedding: int = 16,
    layer_count: int = 2,
    kernel: int = 3,
) -> keras.Model:
    """phi_eta(x): embedded tokens, a strided convolution, residual ones, a mean, a linear score.

    Args:
      vocabulary_size: number of token ids; id 0 is padding and is masked.
      sequence_length: S, the most tokens in a window; it is the same model for all of them.
      width: channels of the convolutions.
      stride: tokens from one position to the next.
      reach: tokens that a position sees first, at least `stride`; the first ones are its own.
      embedding: numbers that a token has.
      layer_count: residual convolutions over positions, each after a normalisation.
      kernel: positions that each of them sees.

    Returns:
      A Keras model from {"tokens": int32 [B, S']} to scores [B], float32 (float64 under that
      policy); 0 before any training. Padding after the last token changes nothing but the cost.

    Raises:
      ConfigurationError: a setting out of its range.
    """
    del sequence_length
    sizes = dict(width=width, stride=stride, embedding=embedding, kernel=kernel)
    for name, value in sizes.items():
        if value < 1:
            raise ConfigurationError(
                f"convolutional_rater.{name} is {value}: it must be at least 1."
            )
    if reach < stride:
        raise ConfigurationError(
            f"convolutional_rater.reach is {reach} and stride {stride}: no position would read some"
            " tokens. Give it at least the stride."
        )
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    embedded = keras.layers.Embedding(
        vocabulary_size,
        embedding,
        embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0),
        name="token_embedding",
    )(tokens)
    real = keras.ops.cast(keras.ops.not_equal(tokens, 0), embedded.dtype)
    embedded = embedded * keras.ops.expand_dims(real, -1)
    # The last position is as wide as all others: padding is nothing, so more of it is as well.
    embedded = keras.ops.pad(embedded, [[0, 0], [0, reach - 1], [0, 0]])
    hidden = keras.layers.Conv1D(
        width, reach, strides=stride, activation=layers.approximate_gelu, name="tokens_to_positions"
    )(embedded)
    mask = keras.ops.expand_dims(real[:, ::stride], -1)  # of positions with a token of their own
    for number in range(layer_count):
        normal = keras.layers.LayerNormalization(name=f"norm_{number}")(hidden) * mask
        hidden = hidden + keras.layers.Conv1D(
            width,
            kernel,
            padding="same",
            activation=layers.approximate_gelu,
            name=f"convolution_{number}",
        )(normal)
    total = keras.ops.sum(hidden * mask, axis=1)
    count = keras.ops.sum(mask, axis=1)
    mean = total / keras.ops.maximum(count, keras.ops.ones_like(count))
    return keras.Model({"tokens": tokens}, score_of(mean, {}), name="convolutional_rater")
