"""Is one way of training better than another? Losses of paired trainings, and how sure they are.

Two trainings are a pair where they have the same initial weights and the same batches to choose
from. Their difference on held-out examples is uncertain in two ways: by the pair (other weights
and batches), and by the documents that happen to be held out. Both count here.
"""

from collections.abc import Sequence
import dataclasses
import functools
import math

import numpy as np
import tensorflow as tf

# Beyond two standard errors on one side, for a normal distribution.
_CHANCE = 0.02275013194817921


@dataclasses.dataclass(frozen=True)
class PairedGain:
    """How much lower a loss is than that of a reference, over pairs of trainings.

    Attributes:
      gain: mean over pairs of (reference - candidate), in the loss's unit; None where a loss is not
        finite.
      standard_error: of the gain, by pairs and by held-out documents; None with fewer than two
        pairs or two documents, which leave it unknown.
      threshold: standard errors that a difference must exceed to count: two, and more with few
        pairs (Student's t with as much chance) or with several candidates.
    """

    gain: float | None
    standard_error: float | None
    threshold: float | None

    @property
    def outcome(self) -> str:
        """ "better", "worse", or "undecided". A candidate whose loss is not finite is worse."""
        if self.gain is None:
            return "worse"
        if self.standard_error is None or self.threshold is None:
            return "undecided"
        beyond = self.threshold * self.standard_error
        if self.gain > beyond:
            return "better"
        return "worse" if self.gain < -beyond else "undecided"


def paired_gain(
    reference: np.ndarray,
    candidate: np.ndarray,
    counts: np.ndarray,
    documents: Sequence | np.ndarray,
    candidates: int = 1,
) -> PairedGain:
    """The gain of a candidate over a reference, and what it is worth.

    With d_r the mean over pairs of the summed loss that row r saves and g the gain, the variance is
    that of the pairs' gains over their number, plus the cluster-robust variance of the ratio
    sum(d_r) / sum(counts), clustered by document (Liang and Zeger, 1986). What a pair and a row
    share by chance is in both, so the standard error errs on the large side. Each variance has a
    quantile of Student's t of its own, by which chance exceeds the threshold no more often than is
    meant, however the two compare (Banerjee, 1960).

    Args:
      reference, candidate: summed losses [K pairs, R held-out rows].
      counts: what each row's loss is summed over, [R]: tokens, or ones.
      documents: which document a row is of, [R].
      candidates: how many are compared with the reference; one of several looks good by chance
        more often (Bonferroni).
    """
    saved = np.asarray(reference, float) - np.asarray(candidate, float)
    counts = np.asarray(counts, float)
    if not np.isfinite(saved).all():
        return PairedGain(None, None, None)
    by_pair = saved.sum(axis=1) / counts.sum()
    gain = float(by_pair.mean())
    _, owner = np.unique(np.asarray(documents).astype(str), return_inverse=True)
    number, pairs = int(owner.max()) + 1, len(by_pair)
    if pairs < 2 or number < 2:
        return PairedGain(gain, None, None)
    left = np.bincount(owner, saved.mean(axis=0) - gain * counts)
    of_pairs = float(by_pair.var(ddof=1)) / pairs
    of_documents = number / (number - 1) * float(np.square(left).sum()) / counts.sum() ** 2
    variance = of_pairs + of_documents
    if not variance:
        return PairedGain(gain, 0.0, 2.0)
    asked = two_errors(pairs - 1, candidates) ** 2 * of_pairs
    asked += two_errors(number - 1, candidates) ** 2 * of_documents
    return PairedGain(gain, math.sqrt(variance), math.sqrt(asked / variance))


@functools.lru_cache(maxsize=256)
def two_errors(freedom: int, candidates: int = 1) -> float:
    """What two standard errors are with so many degrees of freedom.

    The quantile of Student's t that noise exceeds, on one side, as rarely as a normal variable
    exceeds 2, or a number of candidates together do: 2.87 with 4, 4.53 with 2, 2 with very many.
    """
    low, high = 0.0, 1e6
    for _ in range(80):
        middle = (low + high) / 2
        above = 0.5 * float(
            tf.math.betainc(
                tf.constant(freedom / 2, tf.float64),
                tf.constant(0.5, tf.float64),
                tf.constant(freedom / (freedom + middle**2), tf.float64),
            )
        )
        low, high = (middle, high) if above > _CHANCE / candidates else (low, middle)
    return (low + high) / 2
