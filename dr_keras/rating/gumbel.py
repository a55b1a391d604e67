"""Gumbel top-K: sampling by score without replacement, decided about each example by itself.

Of N examples the K with the highest z_i / T + G_i are kept, G_i standard Gumbel noise and T a
temperature: a sample without replacement with weights exp(z_i / T) (Vieira 2014, "Gumbel-max trick
and weighted reservoir sampling"; Kool et al. 2019, "Stochastic beams and where to find them",
section 3; for ratings of text Wettig et al. 2024, "QuRating", section 3). T near 0 keeps the best,
a large T keeps at random.

The K-th highest key of a large corpus is a fixed number kappa, so that an example is kept with

    P[z / T + G > kappa] = 1 - exp(-exp(z / T - kappa)),

whoever else is looked at, and the same however the corpus is sharded. What scores are worth beside
each other is fixed by no rater (their scale is free), so z is the *normal score* of the percentile
p, the p-quantile of the standard normal distribution: T is in standard deviations. kappa then
depends on T and the share dropped alone.
"""

import fractions
import functools

import numpy as np
import tensorflow as tf

_CELLS = 1 << 14  # of the percentiles, each standing for its middle


def keep_probability(percentile, discard_fraction: fractions.Fraction, temperature: float):
    """P[z / T + G > kappa], see the module.

    Args:
      percentile: p in [0, 1], any shape. 0 and NaN have no chance, 1 is certain.
      discard_fraction: f in [0, 1): the mean chance over all percentiles is 1 - f; 0 keeps all.
      temperature: T > 0, in standard deviations of normal scores.

    Returns:
      float64 tensor of the percentile's shape.
    """
    p = tf.cast(tf.convert_to_tensor(percentile), tf.float64)
    if not discard_fraction:
        return tf.ones_like(p)
    p = tf.where(tf.math.is_nan(p), tf.zeros_like(p), tf.clip_by_value(p, 0.0, 1.0))
    kappa = kth_key(discard_fraction, temperature)
    # -expm1: the worst have chances far below the rounding of 1
    chance = -tf.math.expm1(-tf.exp(tf.math.ndtri(p) / temperature - kappa))
    # said outright, because kernels differ in what they make of infinite normal scores
    return tf.where(p <= 0.0, tf.zeros_like(p), tf.where(p >= 1.0, tf.ones_like(p), chance))


@functools.lru_cache(maxsize=256)
def kth_key(discard_fraction: fractions.Fraction, temperature: float) -> float:
    """kappa: the share f of keys z / T + G of a large corpus is below it.

    The root of mean_z exp(-exp(z / T - kappa)) = f, by bisection to the rounding of float64.
    """
    percentiles = (np.arange(_CELLS) + 0.5) / _CELLS
    with tf.init_scope(), tf.device("CPU:0"):
        z = tf.math.ndtri(tf.constant(percentiles)).numpy() / temperature
    # noise alone is within -4 and 40 of its place but for a share of 1e-17
    low, high = float(z[0]) - 50.0, float(z[-1]) + 50.0
    for _ in range(200):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        with np.errstate(over="ignore"):  # exp(-inf) is the 0 that is meant
            below = np.mean(np.exp(-np.exp(z - middle)))
        low, high = (low, middle) if below > float(discard_fraction) else (middle, high)
    return (low + high) / 2
