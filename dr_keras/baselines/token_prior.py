"""The token-prior arm: text whose tokens are neither too common nor too rare.

Prior-based filtering (Seo et al. 2025, "Prior-based Noisy Text Data Filtering: Fast and Strong
Alternative For Perplexity", arXiv 2509.18577): a token's prior is its frequency in the corpus; the
mean and the deviation of the log-priors over a text stand for its perplexity, and texts far from
the corpus's median of either are dropped, without asking a model.
"""

from collections.abc import Sequence

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores, require_windows
from dr_keras.data.columns import Column, by_rows
from dr_keras.errors import ConfigurationError, DataError
import gin

STATISTICS = ("mean", "deviation")


@gin.configurable(denylist=["candidates", "outer", "seed"])
def token_prior(
    candidates: Candidates,
    outer: Candidates | None = None,
    statistics: Sequence[str] = STATISTICS,
    to_outer: bool = True,
    seed: int = 0,
) -> Scores:
    """Minus the distance of a text's token log-frequencies from what is usual.

    The distance of each statistic from the median is divided by the median of such distances over
    the candidates, so that both count alike, and the two are added as squares.

    Args:
      candidates: of the train part, with tokens; frequencies are theirs.
      outer: of the outer part; None where there is none.
      statistics: which of "mean" and "deviation" count.
      to_outer: whether the medians are those of the outer part, where there is one, so that text
        like it ranks first; False, as in the paper, takes those of the candidates.
      seed: not read.

    Returns:
      Minus the distance, the higher the better; NaN without a token. Facts "medians" (nats) and
      "of", the part that they are from. No network is trained or asked.

    Raises:
      ConfigurationError: no such statistic.
      DataError: candidates without tokens.
    """
    if not statistics or set(statistics) - set(STATISTICS):
        raise ConfigurationError(
            f"token_prior.statistics is {statistics!r}: choose among {', '.join(STATISTICS)}."
        )
    usual = outer if to_outer and outer is not None else candidates
    for part in (candidates, usual):
        require_windows(part, "token_prior")
        if "tokens" not in part.examples.features:
            raise DataError("'token_prior' is about text: these examples have no tokens.")
    largest = max(_largest(part.examples.features["tokens"]) for part in (candidates, usual))
    counts = np.zeros(largest + 1, np.int64)

    def count(tokens: np.ndarray) -> np.ndarray:
        counts[:] += np.bincount(tokens.ravel(), minlength=len(counts))
        return tokens[:0]

    by_rows(count, candidates.examples.features["tokens"])
    counts[0] = 0  # padding
    # A token that the candidates lack counts as half a token, below any that they have.
    log_prior = np.log(np.maximum(counts, 0.5) / counts.sum())
    found, wanted = _moments(candidates, log_prior), _moments(usual, log_prior)
    distance, medians = np.zeros(len(candidates)), {}
    for name in statistics:
        medians[name] = float(np.nanmedian(wanted[name]))
        gap = np.abs(found[name] - medians[name])
        typical = np.nanmedian(gap)
        distance += np.square(gap / typical) if typical > 0 else np.square(gap)
    facts = {"medians": medians, "of": "train" if usual is candidates else "outer"}
    return Scores(-np.sqrt(distance), facts=facts)


def _largest(tokens: np.ndarray | Column) -> int:
    return int(by_rows(lambda rows: rows.max(axis=1), tokens).max())


def _moments(candidates: Candidates, log_prior: np.ndarray) -> dict[str, np.ndarray]:
    """Mean and deviation of the log-priors of each candidate's tokens; NaN without a token."""

    def sums(tokens: np.ndarray) -> np.ndarray:
        real = tokens != 0
        values = np.where(real, log_prior[tokens], 0.0)
        return np.stack(
            [real.sum(axis=1), values.sum(axis=1), np.square(values).sum(axis=1)], axis=1
        )

    rows = tuple(by_rows(sums, candidates.examples.features["tokens"]).T)
    if candidates.members is not None:
        rows = tuple(np.array([row[m].sum() for m in candidates.members]) for row in rows)
    count, first, second = rows
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = first / count
        deviation = np.sqrt(np.maximum(second / count - np.square(mean), 0))
    return {"mean": mean, "deviation": deviation}
