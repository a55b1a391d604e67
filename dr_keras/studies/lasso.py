"""How much of a score plain features explain: least squares and a cross-validated Lasso.

The paper regresses the rater's score on 23 heuristics, as z-scores, and reports the R2 of ordinary
least squares and of a Lasso at the penalty 0.03, over 10 folds (Calian et al. 2025, what the rater
learned): `explain_scores.penalty = 0.03` and `explain_scores.folds = 10`. By default the data
choose the penalty. R2 here is that of held-out folds, so that more features do not raise it by
themselves. The path of coefficients is scikit-learn's, of the extra `study`.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import lasso_path

from dr_keras.baselines.selection import folds_of
from dr_keras.errors import ConfigurationError, NonFiniteError
import gin


@dataclasses.dataclass(frozen=True, eq=False)
class _Scale:
    """Centre and spread of training rows, applied to others."""

    mean: np.ndarray
    deviation: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray) -> "_Scale":
        deviation = values.std(axis=0)
        return cls(values.mean(axis=0), np.where(deviation > 0, deviation, 1.0))

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return (values - self.mean) / self.deviation


@gin.configurable(denylist=["scores", "features", "groups", "seed"])
def explain_scores(
    scores,
    features: Mapping[str, np.ndarray],
    groups: Sequence[str] | None = None,
    folds: int = 5,
    penalties: int = 40,
    smallest: float = 1e-3,
    penalty: float | None = None,
    seed: int = 0,
) -> dict:
    """R2 of scores on all features, by least squares and by Lasso, over held-out folds.

    Features and score are standardised on the rows that a fit learns from. Unless it is given, the
    Lasso's penalty is the largest whose held-out error is within a standard error (over folds) of
    the least, which leaves as few features in as the data cannot tell from the best.

    Args:
      scores: float [N], finite.
      features: name -> float [N], finite.
      groups: [N], the document of each example: those of one document share a fold. None: every
        example is a group.
      folds: at least 2.
      penalties: how many are tried, from the one that leaves nothing in down to `smallest` times
        it, evenly in their logarithm.
      smallest: share of the largest penalty.
      penalty: of the Lasso, instead of the one that the data choose; above 0. The paper's is 0.03.
      seed: of the folds.

    Returns:
      JSON-able: `r2` (Lasso at the chosen penalty), `r2_least_squares`, `r2_best` (Lasso at the
      penalty of least error), `penalty`, `selected` (features left in), `coefficients` of the fit
      to all rows (in standard deviations of the score for one of the feature; largest first),
      `path` ([penalty, R2, features left in]), `left_out` (constant features), `examples`,
      `folds`. Without anything to explain (a constant score, no varying feature) the figures are
      None, with a `reason`.

    Raises:
      ConfigurationError: a setting out of its range, or lengths differ.
      NonFiniteError: a score or feature is not finite.
      DataError: fewer groups than folds.
    """
    if penalties < 2 or not 0 < smallest < 1:
        raise ConfigurationError(
            f"explain_scores: penalties ({penalties}) must be at least 2, and smallest ({smallest})"
            " between 0 and 1."
        )
    if penalty is not None and not 0 < penalty < np.inf:
        raise ConfigurationError(
            f"explain_scores.penalty is {penalty}: it must be above 0; without one, see"
            " r2_least_squares."
        )
    y = np.asarray(scores, np.float64)
    names = list(features)
    columns = [_column(features[name], name, len(y)) for name in names]
    _column(y, "scores", len(y))
    left_out = [n for n, column in zip(names, columns) if np.ptp(column) == 0]
    kept = [k for k, name in enumerate(names) if name not in left_out]
    names = [names[k] for k in kept]
    facts = {"examples": len(y), "folds": folds, "left_out": left_out}
    if not names or np.ptp(y) == 0:
        reason = "no feature varies" if not names else "all scores are equal"
        empty = dict.fromkeys(("r2", "r2_least_squares", "r2_best", "penalty"))
        return {**empty, "selected": 0, "coefficients": {}, "path": [], "reason": reason, **facts}
    x = np.stack([columns[k] for k in kept], axis=1)
    fold = folds_of(np.arange(len(y)) if groups is None else groups, folds, seed)
    whole_x, whole_y = _Scale.of(x)(x), _Scale.of(y)(y)
    largest = float(np.abs(whole_x.T @ whole_y).max() / len(y))
    grid = largest * np.geomspace(1.0, smallest, penalties)
    if penalty is not None:
        grid = np.sort(np.append(grid, penalty))[::-1]
    errors, plain, null = _held_out_errors(x, y, fold, folds, grid)
    r2 = 1 - errors.sum(axis=0) / null.sum()
    # Mean error a row of each fold, and how much it varies between folds.
    by_fold = errors / np.bincount(fold)[:, None]
    best = int(np.argmax(r2))
    if penalty is None:
        within = by_fold[:, best].mean() + by_fold[:, best].std(ddof=1) / np.sqrt(folds)
        chosen = int(np.flatnonzero(by_fold.mean(axis=0) <= within)[0])
    else:
        chosen = int(np.flatnonzero(grid == penalty)[0])
    whole = _coefficients(whole_x, whole_y, grid)
    coefficients = whole[:, chosen]
    left_in = np.count_nonzero(whole, axis=0)
    order = np.argsort(-np.abs(coefficients), kind="stable")
    return {
        "r2": float(r2[chosen]),
        "r2_least_squares": float(1 - plain.sum() / null.sum()),
        "r2_best": float(r2[best]),
        "penalty": float(grid[chosen]),
        "selected": int(np.count_nonzero(coefficients)),
        "coefficients": {names[j]: float(coefficients[j]) for j in order if coefficients[j]},
        "path": [[float(p), float(r), int(n)] for p, r, n in zip(grid, r2, left_in)],
        **facts,
    }


def _held_out_errors(
    x: np.ndarray, y: np.ndarray, fold: np.ndarray, folds: int, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Squared errors summed over each held-out fold: Lasso [folds, penalties], least squares
    [folds], and the mean of the rows learned from [folds]."""
    errors, plain, null = np.empty((folds, len(grid))), np.empty(folds), np.empty(folds)
    for number in range(folds):
        learned, held_out = fold != number, fold == number
        scale_x, scale_y = _Scale.of(x[learned]), _Scale.of(y[learned])
        known, wanted = scale_x(x[learned]), scale_y(y[learned])
        test, truth = scale_x(x[held_out]), scale_y(y[held_out])
        # Errors back in units of the score, so that folds add up.
        unit = scale_y.deviation**2
        residuals = truth[:, None] - test @ _coefficients(known, wanted, grid)
        errors[number] = unit * np.sum(residuals**2, axis=0)
        fitted = np.linalg.lstsq(known, wanted, rcond=None)[0]
        plain[number] = unit * np.sum((truth - test @ fitted) ** 2)
        null[number] = unit * np.sum(truth**2)
    return errors, plain, null


def _coefficients(x: np.ndarray, y: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The w [p, penalties] of least |y - x w|^2 / (2 n) + penalty |w|_1; columns are centred."""
    with warnings.catch_warnings():
        # With more features than rows that differ, no number of sweeps brings the last digits.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return lasso_path(x, y, alphas=grid, precompute=True, tol=1e-9, max_iter=10_000)[1]


def _column(values, name: str, length: int) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.shape != (length,):
        raise ConfigurationError(
            f"{name} has the shape {values.shape}, and there are {length} scores: one an example."
        )
    bad = int(np.sum(~np.isfinite(values)))
    if bad:
        raise NonFiniteError(f"{name}: {bad} of {length} values are not finite; leave these out.")
    return values
