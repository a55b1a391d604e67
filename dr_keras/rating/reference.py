"""The reference score distribution: what turns a score into a percentile.

A score means nothing by itself (meta-learning leaves its scale and offset free); its place among
the scores of a reference sample does. The distribution is kept as quantiles, so that it travels
inside an artefact and a percentile means the same wherever the artefact goes. How far the scores of
a corpus are from it is its drift.
"""

import dataclasses
import math
from typing import Literal

import numpy as np
import tensorflow as tf

from dr_keras.errors import DataError

# TensorFlow's kernels flush smaller numbers to zero and NumPy's do not: both count as zero here
_TINY = np.finfo(np.float32).tiny


def _flushed(values: np.ndarray) -> np.ndarray:
    return np.where(np.abs(values) < _TINY, np.float32(0), values)


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceDistribution:
    """Quantiles of a sample of scores at Q evenly spaced probabilities from 0 to 1.

    Percentiles are linear between quantiles, 0 below the lowest and 1 above the highest. A score
    that fills a stretch of equal quantiles (many examples scored exactly alike) gets the middle of
    that stretch, so that the mean percentile of the sample stays 1/2. NaN ranks below every score:
    percentile 0.

    Attributes:
      quantiles: float32 [Q], Q >= 2, finite, not decreasing.
      sample_size: how many scores they were taken from; 0 where unknown.

    Raises:
      DataError: the quantiles are not such.
    """

    quantiles: np.ndarray
    sample_size: int = 0

    def __post_init__(self):
        quantiles = np.asarray(self.quantiles, np.float32)
        if quantiles.ndim != 1 or quantiles.size < 2 or not np.all(np.isfinite(quantiles)):
            raise DataError(
                "A reference distribution needs at least 2 finite quantiles in one dimension, not"
                f" an array of shape {quantiles.shape}: make it with"
                " ReferenceDistribution.from_scores."
            )
        if np.any(np.diff(quantiles) < 0):
            raise DataError(
                "The quantiles of a reference distribution decrease somewhere: sort them, or make"
                " them with ReferenceDistribution.from_scores."
            )
        object.__setattr__(self, "quantiles", _flushed(quantiles))

    @classmethod
    def from_scores(cls, scores, quantiles: int = 1001) -> "ReferenceDistribution":
        """The distribution of `scores` (any shape); scores that are not finite are left out.

        Raises:
          DataError: no finite score, or fewer than 2 quantiles asked for.
        """
        scores = np.asarray(scores, np.float64).ravel()
        finite = scores[np.isfinite(scores)]
        if finite.size == 0:
            raise DataError(
                f"None of the {scores.size} scores is finite, so they have no distribution: check"
                " the rater (NaN weights?) and that its corpus is not empty."
            )
        if quantiles < 2:
            raise DataError(f"A reference distribution needs 2 or more quantiles, not {quantiles}.")
        probabilities = np.linspace(0.0, 1.0, quantiles)
        values = np.maximum.accumulate(np.quantile(finite, probabilities).astype(np.float32))
        return cls(values, sample_size=int(finite.size))

    def percentile(self, scores):
        """F(score): the share of the reference sample that a score is better than.

        Args:
          scores: array-like or tensor of any shape.

        Returns:
          float32 of the same shape: a tensor for a tensor (also in a graph, where the quantiles
          become a constant), else a NumPy array. Both are computed by the same operations.
        """
        if tf.is_tensor(scores):
            return self._percentile_tensor(tf.cast(scores, tf.float32))
        with tf.device("CPU:0"):
            return self._percentile_tensor(tf.constant(np.asarray(scores, np.float32))).numpy()

    def _percentile_tensor(self, scores: tf.Tensor) -> tf.Tensor:
        q = tf.constant(self.quantiles)
        last = self.quantiles.size - 1
        flat = tf.reshape(scores, [-1])
        flat = tf.where(tf.abs(flat) < _TINY, tf.zeros_like(flat), flat)
        left = tf.searchsorted(q, flat, side="left")
        right = tf.searchsorted(q, flat, side="right")
        below = tf.gather(q, tf.clip_by_value(left - 1, 0, last))
        above = tf.gather(q, tf.clip_by_value(left, 0, last))
        width = tf.where(above - below >= _TINY, above - below, tf.ones_like(flat))
        between = tf.cast(left - 1, tf.float32) + (flat - below) / width
        middle = tf.cast(left + right - 1, tf.float32) / 2.0
        rank = tf.where(right > left, middle, between)
        top = tf.fill(tf.shape(flat), tf.constant(last, tf.float32))
        zero = tf.zeros_like(flat)
        rank = tf.where(flat < q[0], zero, tf.where(flat > q[-1], top, rank))
        rank = tf.where(tf.math.is_nan(flat), zero, rank)
        return tf.ensure_shape(tf.reshape(rank / top, tf.shape(scores)), scores.shape)

    def to_dict(self) -> dict:
        """What JSON can hold; exact, by the shortest decimal that stands for each float32."""
        quantiles = [float(str(quantile)) for quantile in self.quantiles]
        return {"quantiles": quantiles, "sample_size": self.sample_size}

    @classmethod
    def from_dict(cls, stored: dict) -> "ReferenceDistribution":
        """The inverse of `to_dict`. Raises DataError where `stored` is something else."""
        try:
            return cls(np.asarray(stored["quantiles"], np.float32), int(stored["sample_size"]))
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"This is not a stored reference distribution: {error}") from error


def kolmogorov_smirnov(scores, reference: ReferenceDistribution) -> float:
    """The largest difference of the two distribution functions, in [0, 1].

    The reference is linear between its quantiles, and jumps where several are equal.

    Args:
      scores: array of any shape; what is not finite is left out. NaN where nothing remains.
    """
    scores = np.sort(np.asarray(scores, np.float32).ravel())
    scores = scores[np.isfinite(scores)]
    if not scores.size:
        return math.nan
    quantiles = np.asarray(reference.quantiles, np.float64)
    last = quantiles.size - 1
    places = np.union1d(scores, quantiles)
    below = np.searchsorted(quantiles, places, side="left")
    upto = np.searchsorted(quantiles, places, side="right")
    between = np.interp(places, quantiles, np.arange(last + 1) / last, left=0.0, right=1.0)
    distance = 0.0
    # one function has steps and the other is straight in between: they are furthest at a place of
    # either, just before it or at it
    sides: tuple[tuple[Literal["left", "right"], np.ndarray], ...] = (
        ("left", below / last),
        ("right", (upto - 1) / last),
    )
    for side, at_quantile in sides:
        ours = np.searchsorted(scores, places, side=side) / scores.size
        theirs = np.where(upto > below, at_quantile, between)
        distance = max(distance, float(np.max(np.abs(ours - theirs))))
    return distance


def has_drifted(distance: float, scores: int, reference_size: int, limit: float) -> bool:
    """Whether a distance is above the limit, and above what chance gives at the 1% level.

    Args:
      distance: see `kolmogorov_smirnov`.
      scores: how many scores it was measured on.
      reference_size: sample size of the reference; 0 where unknown.
      limit: what is tolerated.
    """
    if not scores or math.isnan(distance):
        return False
    chance = 1.63 * math.sqrt(1 / scores + (1 / reference_size if reference_size else 0))
    return distance > max(limit, chance)
