"""How much of a score plain features explain: least squares and a cross-validated Lasso.

The paper regresses the rater's score on heuristics and reports the R2 of ordinary least squares and
of a Lasso that leaves only some of them in (Calian et al. 2025, what the rater learned). R2 here is
that of held-out folds, so that more features do not raise it by themselves.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from dr_keras.baselines.selection import folds_of
from dr_keras.errors import ConfigurationError, NonFiniteError
import gin


def lasso(
    x: np.ndarray,
    y: np.ndarray,
    penalty: float,
    start: np.ndarray | None = None,
    tolerance: float = 1e-9,
    sweeps: int = 10_000,
) -> np.ndarray:
    """Coefficients w that minimise |y - x w|^2 / (2 n) + penalty |w|_1, by coordinate descent.

    No intercept: give centred columns. With orthogonal columns of mean square 1, w is the soft
    threshold of x'y / n at `penalty`, after one sweep.

    Args:
      x: float [n, p].
      y: float [n].
      penalty: at least 0.
      start: [p], coefficients to start from.
      tolerance: it is done when no coefficient moved by more in a sweep.
      sweeps: at most so many.
    """
    return _descend(x.T @ x / len(y), x.T @ y / len(y), penalty, start, tolerance, sweeps)


def _descend(
    gram: np.ndarray,
    moment: np.ndarray,
    penalty: float,
    start: np.ndarray | None = None,
    tolerance: float = 1e-9,
    sweeps: int = 10_000,
) -> np.ndarray:
    """`lasso` from x'x / n and x'y / n: a sweep costs p^2, whatever n is."""
    w = np.zeros(len(moment)) if start is None else np.array(start, np.float64)
    for _ in range(sweeps):
        moved = 0.0
        for j in range(len(w)):
            if gram[j, j] <= 0:
                continue
            pull = moment[j] - gram[j] @ w + gram[j, j] * w[j]
            new = np.sign(pull) * max(abs(pull) - penalty, 0.0) / gram[j, j]
            moved = max(moved, abs(new - w[j]))
            w[j] = new
        if moved <= tolerance:
            break
    return w


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
    seed: int = 0,
) -> dict:
    """R2 of scores on all features, by least squares and by Lasso, over held-out folds.

    Features and score are standardised on the rows that a fit learns from. The Lasso's penalty is
    the largest whose held-out error is within a standard error (over folds) of the least, which
    leaves as few features in as the data cannot tell from the best.

    Args:
      scores: float [N], finite.
      features: name -> float [N], finite.
      groups: [N], the document of each example: those of one document share a fold. None: every
        example is a group.
      folds: at least 2.
      penalties: how many are tried, from the one that leaves nothing in down to `smallest` times
        it, evenly in their logarithm.
      smallest: share of the largest penalty.
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
    errors, plain, null = _held_out_errors(x, y, fold, folds, grid)
    r2 = 1 - errors.sum(axis=0) / null.sum()
    # Mean error a row of each fold, and how much it varies between folds.
    by_fold = errors / np.bincount(fold)[:, None]
    best = int(np.argmax(r2))
    within = by_fold[:, best].mean() + by_fold[:, best].std(ddof=1) / np.sqrt(folds)
    chosen = int(np.flatnonzero(by_fold.mean(axis=0) <= within)[0])
    gram, moment = whole_x.T @ whole_x / len(y), whole_x.T @ whole_y / len(y)
    w, path, coefficients = None, [], None
    for k, penalty in enumerate(grid):
        w = _descend(gram, moment, penalty, w, 1e-7)
        path.append([float(penalty), float(r2[k]), int(np.count_nonzero(w))])
        if k == chosen:
            coefficients = w.copy()
    order = np.argsort(-np.abs(coefficients), kind="stable")
    return {
        "r2": float(r2[chosen]),
        "r2_least_squares": float(1 - plain.sum() / null.sum()),
        "r2_best": float(r2[best]),
        "penalty": float(grid[chosen]),
        "selected": int(np.count_nonzero(coefficients)),
        "coefficients": {names[j]: float(coefficients[j]) for j in order if coefficients[j]},
        "path": path,
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
        gram, moment = known.T @ known / len(wanted), known.T @ wanted / len(wanted)
        w = None
        for k, penalty in enumerate(grid):
            w = _descend(gram, moment, penalty, w, 1e-7)
            errors[number, k] = unit * np.sum((truth - test @ w) ** 2)
        fitted = np.linalg.lstsq(known, wanted, rcond=None)[0]
        plain[number] = unit * np.sum((truth - test @ fitted) ** 2)
        null[number] = unit * np.sum(truth**2)
    return errors, plain, null


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
