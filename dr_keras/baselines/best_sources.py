"""The best-sources arm: the sources that look most like the outer part, whole.

What a person would do who knows the corpus: take the sources that are near the target and leave the
others. Nearness is the mean log importance weight per n-gram of `dsir` over all of a source. Of the
source that fits in partly, a share is kept by hash, since all of its examples score alike. An arm
that learned from examples and not from sources must beat it.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import NgramFeatures
from dr_keras.baselines.dsir import log_importance
from dr_keras.baselines.scores import Scores, require_outer
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def best_sources(
    candidates: Candidates,
    outer: Candidates | None,
    ngrams: NgramFeatures | None = None,
    smoothing: float = 1.0,
    seed: int = 0,
) -> Scores:
    """How near the source of every candidate is to the outer part: one figure a source.

    Args:
      candidates: of the train part.
      outer: of the outer part.
      ngrams, smoothing: see `dsir.log_importance`.
      seed: not read; ties are broken by whoever selects.

    Returns:
      Mean log importance weight per n-gram of the source, nats, the higher the nearer; facts
      "nearness", source -> this figure, nearest first. Costs as for `dsir`.

    Raises:
      ConfigurationError: no outer part, or a setting out of its range.
    """
    outer = require_outer(outer, "best_sources")
    weights, counts = log_importance(candidates, outer, ngrams, smoothing)
    names, source = np.unique(candidates.sources.astype(str), return_inverse=True)
    totals = np.bincount(source, counts)
    with np.errstate(invalid="ignore"):
        nearness = np.bincount(source, weights) / np.where(totals > 0, totals, np.nan)
    order = np.argsort(-nearness, kind="stable")
    known = {str(names[k]): float(nearness[k]) for k in order if np.isfinite(nearness[k])}
    return Scores(nearness[source], facts={"nearness": known})
