"""What the signatures of every kind of rater have in common."""

import tensorflow as tf

from dr_keras.rating.reference import ReferenceDistribution

# Of the signature keep_probability, after the inputs that are scored.
KEEP_INPUTS = (
    tf.TensorSpec([], tf.float64, name="discard_fraction"),
    tf.TensorSpec([], tf.int32, name="batch_size"),
)
# 10 ** 18 is the highest power of ten that an int64 holds.
_DIGITS = 18
_LIMB = 10**9
_LARGEST = 2**31 - 1


def outputs(
    scores: tf.Tensor, reference: ReferenceDistribution, empty: tf.Tensor | None = None
) -> dict[str, tf.Tensor]:
    """Scores and percentiles, as every signature that scores returns them.

    Args:
      scores: [B].
      reference: whose percentiles to take.
      empty: bool [B], inputs that hold nothing to score: they get the lowest score of the reference
        and percentile 0, because there is nothing to learn from them and no network saw one.

    Returns:
      `score` and `percentile`, float32 [B].
    """
    scores = tf.cast(scores, tf.float32)
    if empty is not None:
        scores = tf.where(empty, reference.quantiles[0], scores)
    percentile = reference.percentile(scores)
    if empty is not None:
        percentile = tf.where(empty, 0.0, percentile)
    return {"score": scores, "percentile": percentile}


def with_keep_probability(
    scored: dict[str, tf.Tensor], discard_fraction: tf.Tensor, batch_size: tf.Tensor
) -> dict[str, tf.Tensor]:
    """Adds `keep_probability` float32 [B]: the chance to survive batch top-K.

    P[Binomial(B_up - 1, 1 - p) <= B - 1] = I_p(B_up - B, B), as `rating.keep_probability` has
    it, but with fraction and batch size known only when the graph runs.

    Args:
      scored: with `percentile`.
      discard_fraction: float64 scalar, f in [0, 1).
      batch_size: int32 scalar, B, examples kept of each oversized batch.
    """
    batch_size = tf.cast(batch_size, tf.int64)
    dropped = tf.cast(oversized_batch(batch_size, discard_fraction) - batch_size, tf.float64)
    p = tf.cast(scored["percentile"], tf.float64)
    # betainc has no limit at a = 0, where everything is kept
    ones = tf.ones_like(p)
    kept = tf.cast(batch_size, tf.float64)
    chance = tf.math.betainc(tf.maximum(dropped, 1.0) * ones, kept * ones, p)
    chance = tf.where(dropped > 0, chance, ones)
    return {**scored, "keep_probability": tf.cast(chance, tf.float32)}


def oversized_batch(batch_size: tf.Tensor, discard_fraction: tf.Tensor) -> tf.Tensor:
    """B_up in a graph: the exact ceiling of B / (1 - f), f the decimal that was written.

    The same number as `rating.fractions.oversized_batch`, without a division of floats.

    Args:
      batch_size: int64 scalar, at least 1.
      discard_fraction: float64 scalar in [0, 1); stands for its shortest decimal.

    Returns:
      int64 scalar.

    Raises (when the graph runs):
      InvalidArgumentError: fraction or batch size out of range, or B_up of 2**31 or more.
    """
    checks = [
        tf.debugging.Assert(
            (discard_fraction >= 0) & (discard_fraction < 1),
            ["discard_fraction must be in [0, 1), for example 0.5; it is", discard_fraction],
        ),
        tf.debugging.Assert(batch_size >= 1, ["batch_size must be at least 1; it is", batch_size]),
    ]
    with tf.control_dependencies(checks):
        kept = 10**_DIGITS - _decimal(discard_fraction)  # 1 - f in units of 10**-18, exactly
    guess = tf.cast(batch_size, tf.float64) / (tf.cast(kept, tf.float64) / 10.0**_DIGITS)
    small = tf.debugging.Assert(
        guess < _LARGEST, ["B / (1 - discard_fraction) must be below 2**31; it is", guess]
    )
    with tf.control_dependencies([small]):
        candidates = tf.cast(tf.math.round(guess), tf.int64) + tf.range(-2, 3, dtype=tf.int64)
    # The smallest c with c * kept >= B * 10**18, a product of two limbs of nine digits.
    high, low = kept // _LIMB, kept % _LIMB
    enough = candidates * high + candidates * low // _LIMB >= batch_size * _LIMB
    return tf.boolean_mask(candidates, enough)[0]


def _decimal(value: tf.Tensor) -> tf.Tensor:
    """The shortest decimal that reads as a float64 in [0, 1), in units of 10**-18: int64.

    n / 10**k is rounded correctly where n < 2**53, and so equals `value` just where the decimal
    reads as it. Beyond that, where 17 digits were written, the last may be lost.
    """
    powers = tf.constant([10.0**k for k in range(_DIGITS + 1)], tf.float64)
    numerators = tf.math.round(value * powers)
    reads_as_it = tf.equal(numerators / powers, value) & (numerators < 2.0**53)
    digits = tf.argmax(tf.concat([reads_as_it, [True]], axis=0), output_type=tf.int32)
    digits = tf.where(tf.reduce_any(reads_as_it), digits, 15)
    units = tf.constant([10 ** (_DIGITS - k) for k in range(_DIGITS + 1)], tf.int64)
    return tf.cast(tf.gather(numerators, digits), tf.int64) * tf.gather(units, digits)
