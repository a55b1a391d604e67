"""The importance arm: n-grams that the outer part has more often than the train part.

DSIR (Xie et al. 2023, "Data Selection for Language Models via Importance Resampling", arXiv
2302.03169): two bags of hashed word n-grams, one of the target and one of the raw data,
give every example the log of its importance weight, the sum over its n-grams of log(share of the
bucket in the target / share in the raw data). The paper samples without replacement in proportion
to the weights, by the Gumbel top-k trick.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import NgramFeatures
from dr_keras.baselines.scores import Scores, require_outer
from dr_keras.baselines.selection import hashes
from dr_keras.errors import ConfigurationError
import gin


def log_importance(
    candidates: Candidates,
    outer: Candidates,
    ngrams: NgramFeatures | None = None,
    smoothing: float = 1.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Log importance weight of every candidate and its number of n-grams, float64 [N] each.

    Args:
      candidates: the raw data.
      outer: the target.
      ngrams: which n-grams and buckets; None for the paper's, unigrams and bigrams of words in
        10,000 buckets.
      smoothing: added to the count of every bucket on both sides, so that a bucket which a small
        target lacks does not decide alone. (The authors' code adds 1e-8 to the shares.)

    Raises:
      ConfigurationError: smoothing is not above 0.
    """
    if not smoothing > 0:
        raise ConfigurationError(f"dsir.smoothing is {smoothing}: it must be above 0.")
    ngrams = ngrams or NgramFeatures("words", (1, 2), 10_000)
    raw, target = ngrams.counts(candidates.texts), ngrams.counts(outer.texts)

    def log_shares(counts):
        totals = np.asarray(counts.sum(axis=0), np.float64).ravel() + smoothing
        return np.log(totals) - np.log(totals.sum())

    return raw @ (log_shares(target) - log_shares(raw)), np.asarray(raw.sum(axis=1)).ravel()


@gin.configurable(denylist=["candidates", "outer", "seed"])
def dsir(
    candidates: Candidates,
    outer: Candidates | None,
    ngrams: NgramFeatures | None = None,
    smoothing: float = 1.0,
    mean: bool = True,
    gumbel: bool = False,
    seed: int = 0,
) -> Scores:
    """Log importance weight of every candidate, outer part against train part.

    Args:
      candidates: of the train part.
      outer: of the outer part.
      ngrams, smoothing: see `log_importance`.
      mean: per n-gram and not their sum, so that length is not what decides. The paper has the sum
        (False), on examples of about one length.
      gumbel: adds Gumbel noise, by a hash of (seed, id), so that the kept are a sample in
        proportion to the weights, as in the paper (True), and not the heaviest. It belongs to
        sums: the noise has a deviation of 1.3, means over n-grams one of much less.
      seed: of the noise.

    Returns:
      Nats, the higher the better; NaN without an n-gram. No network is trained or asked, and the
      few operations are not counted.

    Raises:
      ConfigurationError: no outer part, or a setting out of its range.
    """
    outer = require_outer(outer, "dsir")
    values, counts = log_importance(candidates, outer, ngrams, smoothing)
    facts = {"outer_examples": len(outer), "mean": mean, "gumbel": gumbel}
    if mean:
        values = values / np.maximum(counts, 1)
    if gumbel:
        draws = np.maximum(hashes(candidates.ids, seed, "gumbel"), np.finfo(np.float64).tiny)
        values = values - np.log(-np.log(draws))
    return Scores(np.where(counts > 0, values, np.nan), facts=facts)
