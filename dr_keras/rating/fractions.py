"""Batch top-K in numbers: exact sizes of oversized batches, and the chance to survive in one.

In floats `ceil(B / (1 - f))` is off by one in 3.6% of common cases (0.9 and 0.1 are not what they
say), so sizes are computed from the decimal that the user wrote.

Batch top-K compares an example with whoever shares its batch. Averaged over random batches that
is a coin whose bias depends only on the example's percentile p (the paper, section 2): each of the
other B_up - 1 examples is better with probability 1 - p, and the example is kept where at most
B - 1 of them are. A corpus can so be filtered document by document, on any number of machines,
with the same decisions as in training pipelines.
"""

import decimal
import fractions
import math

import tensorflow as tf

from dr_keras.errors import ConfigurationError

Decimal = float | int | str | decimal.Decimal | fractions.Fraction


def exact_fraction(discard_fraction: Decimal) -> fractions.Fraction:
    """The share of examples to discard, as the decimal that was written.

    Args:
      discard_fraction: a number in [0, 1). A float stands for its shortest decimal: 0.1 is 1/10.

    Raises:
      ConfigurationError: not a number, or outside [0, 1).
    """
    try:
        # str of a float, of a NumPy float32 and of a Decimal is its shortest decimal
        exact = fractions.Fraction(str(discard_fraction))
    except (ValueError, ZeroDivisionError):
        exact = None
    if exact is None or not 0 <= exact < 1:
        raise ConfigurationError(
            f"discard_fraction is {discard_fraction!r}: give a number from 0 (keep everything) to"
            " just below 1, for example 0.5 to drop the worse half."
        )
    return exact


def oversized_batch(batch_size: int, discard_fraction: Decimal) -> int:
    """B_up: how many examples to score in order to keep `batch_size` of them.

    The exact ceiling of B / (1 - f).

    Raises:
      ConfigurationError: the batch size is not a positive integer, or the fraction is not in
        [0, 1).
    """
    exact = exact_fraction(discard_fraction)
    if isinstance(batch_size, bool) or batch_size != int(batch_size) or batch_size < 1:
        raise ConfigurationError(
            f"batch_size is {batch_size!r}: give the number of examples to keep of each oversized"
            " batch, an integer of at least 1."
        )
    return math.ceil(int(batch_size) / (1 - exact))


def achieved_fraction(batch_size: int, discard_fraction: Decimal) -> float:
    """The share that batch top-K really discards, 1 - B / B_up: at least `discard_fraction`."""
    oversized = oversized_batch(batch_size, discard_fraction)
    return float(1 - fractions.Fraction(int(batch_size), oversized))


def keep_probability(percentile, batch_size: int, oversized: int) -> tf.Tensor:
    """P[Binomial(B_up - 1, 1 - p) <= B - 1] = I_p(B_up - B, B), the regularized incomplete beta.

    Args:
      percentile: p in [0, 1], any shape; a high p is a good example. NaN stands for an example
        without a usable score, which ranks below all others.
      batch_size: B, examples kept of each oversized batch.
      oversized: B_up >= B, see `oversized_batch`. B_up = B keeps everything.

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
