"""How far the scores of a corpus are from the distribution that an artefact was exported with."""

import math
from typing import Literal

import numpy as np

from dr_keras.rating.reference import ReferenceDistribution


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
