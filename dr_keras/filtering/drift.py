"""How far the scores of a corpus are from the distribution that an artefact was exported with."""

import math

import numpy as np

from dr_keras.filtering.reference import ReferenceDistribution


def kolmogorov_smirnov(scores, reference: ReferenceDistribution) -> float:
    """The largest difference of the two distribution functions, in [0, 1].

    The reference is known by its Q quantiles only, so that the distance is exact to 1/Q.

    Args:
      scores: array of any shape; what is not finite is left out. NaN where nothing remains.
    """
    scores = np.sort(np.asarray(scores, np.float32).ravel())
    scores = scores[np.isfinite(scores)]
    if not scores.size:
        return math.nan
    quantiles = reference.quantiles
    places = np.union1d(scores, quantiles)
    ours = np.searchsorted(scores, places, side="right") / scores.size
    theirs = np.searchsorted(quantiles, places, side="right") / quantiles.size
    return float(np.max(np.abs(ours - theirs)))


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
