"""Two arms compared seed by seed: the one rule by which anything is better or worse.

Cells are *paired by seed*: a seed gives every arm the same initial weights, so that what a lucky
seed brings cancels in the difference of two arms. Their difference is the mean over seeds of the
differences, with the standard error of that mean; one arm is called better only where the mean is
more than two of these standard errors from 0, and never with fewer than three seeds. With few seeds
that is a generous rule (`false_calls`), so wins are counted over many cells (`studies.scoreboard`).
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.studies.sizes import Difference, Summary

ERRORS = 2.0  # standard errors of a paired mean beyond which an arm is better or worse
PAIRS = 3  # seeds without which there is no verdict


def summary(by_seed: Mapping[int | str, float], higher_is_better: bool | None = None) -> Summary:
    """Mean and spread (sample standard deviation) of one figure over seeds."""
    values = np.array(list(by_seed.values()), np.float64)
    alone = len(values) < 2
    return Summary(
        mean=float(values.mean()),
        spread=None if alone else float(values.std(ddof=1)),
        by_seed={str(seed): float(value) for seed, value in by_seed.items()},
        reason="one seed has no spread" if alone else None,
        higher_is_better=higher_is_better,
    )


def difference(a: Summary, b: Summary) -> Difference:
    """`a` minus `b`, seed by seed, and whether it is beyond two standard errors.

    Lower is better unless the summary says otherwise. Seeds that one of them lacks do not count.

    Raises:
      ConfigurationError: they have no seed in common.
    """
    both = [seed for seed in a.by_seed if seed in b.by_seed]
    if not both:
        raise ConfigurationError(
            f"seeds {', '.join(a.by_seed)} and {', '.join(b.by_seed)} cannot be compared: arms are"
            " paired by seed, so give both the same seeds."
        )
    gaps = np.array([a.by_seed[seed] - b.by_seed[seed] for seed in both], np.float64)
    gap = float(gaps.mean())
    error = None if len(both) < 2 else float(gaps.std(ddof=1) / np.sqrt(len(both)))
    if error is None or len(both) < PAIRS:
        reason = f"a verdict needs at least {PAIRS} seeds that both arms have"
        return Difference(gap, error, "undecided", reason, len(both))
    outcome = "better" if (gap > 0) == bool(a.higher_is_better) else "worse"
    if abs(gap) <= ERRORS * error:
        outcome = "undecided"
    return Difference(gap, error, outcome, pairs=len(both))


def false_calls(pairs: int) -> float:
    """Chance that two arms that do not differ are called better or worse, by normal differences.

    P(|t| > 2) of Student's t with `pairs` - 1 degrees of freedom: 0.18 for three seeds, 0.12 for
    five; half of it either way. 0 where there is no verdict.
    """
    if pairs < PAIRS:
        return 0.0
    from scipy import stats  # of the extra `study`

    return float(2 * stats.t.sf(ERRORS, pairs - 1))


def compared(
    by_arm: Mapping[str, Mapping[int, float]],
    higher_is_better: bool | None = None,
    rivals: Sequence[str] | None = None,
    thorough: str | None = None,
) -> dict[str, Summary]:
    """The summaries of one figure, arm by arm, each with how it compares with the others.

    Args:
      by_arm: arm -> seed -> figure.
      higher_is_better: whether a larger figure is better.
      rivals: the arms that the others are held against; None takes all.
      thorough: an arm that is held against all whatever `rivals` says.
    """
    found = {arm: summary(by_seed, higher_is_better) for arm, by_seed in by_arm.items()}
    named = found if rivals is None else [name for name in rivals if name in found]

    def against(arm: str) -> dict[str, Difference]:
        others = found if arm == thorough else named
        return {other: difference(found[arm], found[other]) for other in others if other != arm}

    return {arm: dataclasses.replace(mine, against=against(arm)) for arm, mine in found.items()}
