"""The chance that an example survives batch top-K, as a function of its percentile alone.

Batch top-K compares an example with whoever shares its batch. Averaged over random batches that
is a coin whose bias depends only on the example's percentile p (the paper, section 2): each of the
other B_up - 1 examples is better with probability 1 - p, and the example is kept where at most
B - 1 of them are. A corpus can so be filtered document by document, on any number of machines,
with the same decisions as in training pipelines.
"""

import tensorflow as tf

from dr_keras.errors import ConfigurationError


def keep_probability(percentile, batch_size: int, oversized: int) -> tf.Tensor:
    """P[Binomial(B_up - 1, 1 - p) <= B - 1] = I_p(B_up - B, B), the regularized incomplete beta.

    Args:
      percentile: p in [0, 1], any shape; a high p is a good example. NaN stands for an example
        without a usable score, which ranks below all others.
      batch_size: B, examples kept of each oversized batch.
      oversized: B_up >= B, see `fractions.oversized_batch`. B_up = B keeps everything.

    Returns:
      float64 tensor of the percentile's shape, in [0, 1].

    Raises:
      ConfigurationError: B < 1 or B_up < B.
    """
    if batch_size < 1 or oversized < batch_size:
        raise ConfigurationError(
            f"keep_probability needs 1 <= batch_size <= oversized, not batch_size {batch_size} and"
            f" oversized {oversized}: compute oversized with fractions.oversized_batch."
        )
    # float64, because in float32 the tails that decide about the very best and the very worst
    # examples are gone
    p = tf.cast(tf.convert_to_tensor(percentile), tf.float64)
    if oversized == batch_size:  # betainc has no limit at a = 0
        return tf.ones_like(p)
    p = tf.where(tf.math.is_nan(p), tf.zeros_like(p), tf.clip_by_value(p, 0.0, 1.0))
    dropped = tf.cast(oversized - batch_size, tf.float64)
    kept = tf.cast(batch_size, tf.float64)
    return tf.math.betainc(dropped * tf.ones_like(p), kept * tf.ones_like(p), p)
