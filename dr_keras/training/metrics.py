"""How well scores separate and order examples whose quality is known.

All is computed on the host from ranks (by SciPy and scikit-learn, of the extra `study`), so
that any monotone transformation of the scores (logit, percentile) gives the same figure.

Rules shared by all functions:

- a NaN raises `NonFiniteError`: a rater that returns NaN must not get a figure that looks measured.
  Unknown levels are the caller's to leave out (`rater_quality` does);
- a figure that is not defined (one class only, fewer than two examples, a constant input) is `nan`,
  never 0 or 0.5. `rater_quality` turns it into `None` with the reason beside it.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats
from sklearn.metrics import roc_auc_score

from dr_keras.errors import ConfigurationError, NonFiniteError


def _vector(values, name: str) -> np.ndarray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ConfigurationError(f"{name} must have one dimension, not shape {array.shape}")
    bad = int(np.isnan(array).sum())
    if bad:
        raise NonFiniteError(
            f"{name}: {bad} of {array.size} values are NaN; find out which examples the rater "
            "cannot score, or leave out the examples whose value is unknown"
        )
    return array


def _pair(x, y, x_name: str, y_name: str) -> tuple[np.ndarray, np.ndarray]:
    x, y = _vector(x, x_name), _vector(y, y_name)
    if x.size != y.size:
        raise ConfigurationError(f"{x_name} has {x.size} values but {y_name} has {y.size}")
    return x, y


def area_under_curve(scores, is_positive) -> float:
    """Chance that a positive example scores above a negative one, ties counting half.

    This is the area under the ROC curve.

    Args:
        scores: [N] finite or infinite, no NaN.
        is_positive: [N] booleans.

    Returns:
        A float in [0, 1]; `nan` where one of the classes is empty.
    """
    positive = np.asarray(is_positive, dtype=bool)
    scores, _ = _pair(scores, positive, "scores", "is_positive")
    if not positive.any() or positive.all():
        return float("nan")
    # Ranks in place of scores, of which scikit-learn takes no infinite ones.
    return float(roc_auc_score(positive, stats.rankdata(scores)))


def pearson(x, y) -> float:
    """Linear correlation of two [N] vectors; `nan` below two examples or for a constant input."""
    x, y = _pair(x, y, "x", "y")
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise NonFiniteError("pearson needs finite values; use spearman for infinite scores")
    # Scaled first, so that squares of very large or very small values neither overflow nor vanish.
    x, y = (x - x.mean()) / np.ptp(x), (y - y.mean()) / np.ptp(y)
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def spearman(x, y) -> float:
    """Rank correlation of two [N] vectors, ties by average rank; undefined cases as `pearson`."""
    x, y = _pair(x, y, "x", "y")
    return pearson(stats.rankdata(x), stats.rankdata(y))


def regression(x, y) -> dict[str, float]:
    """Least-squares line y = intercept + slope x of two [N] vectors, and how well they agree.

    Returns:
        {"slope", "intercept", "pearson", "spearman"}; `nan` where a figure is not defined (see
        `pearson`).
    """
    x, y = _pair(x, y, "x", "y")
    figures = {"pearson": pearson(x, y), "spearman": spearman(x, y)}
    if x.size < 2 or np.ptp(x) == 0:
        return {"slope": float("nan"), "intercept": float("nan"), **figures}
    centred = x - x.mean()
    slope = float(centred @ y / (centred @ centred))
    return {"slope": slope, "intercept": float(y.mean() - slope * x.mean()), **figures}


def _figure(value: float) -> float | None:
    return None if np.isnan(value) else value


def _quality(clean: np.ndarray, scores: np.ndarray, levels: np.ndarray, minimum: float) -> dict:
    """AUC of `clean` scores against damaged ones, and order among the damaged."""

    def auc(damaged: np.ndarray) -> float | None:
        positive = np.arange(clean.size + damaged.size) < clean.size
        return _figure(area_under_curve(np.concatenate([clean, damaged]), positive))

    figures = {
        "auc": auc(scores[levels >= minimum]),
        "auc_all": auc(scores),
        "spearman": _figure(spearman(scores, levels)),
        "damaged": int(scores.size),
        "damaged_from_minimum_level": int((levels >= minimum).sum()),
    }
    needs = {
        "auc_all": "both clean and damaged examples",
        "auc": f"clean examples and damaged ones of level {minimum:g} or more",
        "spearman": "damaged examples of differing level and score",
    }
    missing = [f"{name}: needs {what}" for name, what in needs.items() if figures[name] is None]
    if missing:
        figures["reason"] = "; ".join(missing)
    return figures


def rater_quality(
    scores,
    levels,
    kinds: Sequence[str] | np.ndarray,
    minimum_level: float = 0.2,
    measured_on: str = "",
) -> dict:
    """How a rater's scores follow damage whose level is known: the `rater` section of the results.

    Args:
        scores: [N] higher is better.
        levels: [N] damage realised, in [0, 1]; 0 is known clean, NaN unknown (left out, counted).
        kinds: [N] kind of damage ("clean" or None where there is none).
        minimum_level: damage below this is left out of `auc` (it stays in `auc_all`).
        measured_on: a few words on which examples these are.

    Returns:
        `auc` (clean against damage of at least `minimum_level`), `auc_all`, `spearman` (of score
        and level among the damaged, all kinds pooled), `by_damage` with the same for each kind,
        counts, and a `reason` wherever a figure is None.

    Raises:
        NonFiniteError: a score is NaN.
        ConfigurationError: lengths differ.
    """
    levels = np.asarray(levels, dtype=np.float64)
    kinds = np.asarray(["" if kind is None else str(kind) for kind in kinds], dtype=object)
    scores = _vector(scores, "scores")
    if not scores.size == levels.size == kinds.size:
        raise ConfigurationError(
            f"{scores.size} scores, {levels.size} levels and {kinds.size} kinds of damage: "
            "each example needs one of each"
        )
    known = ~np.isnan(levels)
    is_damaged = known & (levels > 0)
    clean = scores[known & (levels == 0)]
    quality = {
        "measured_on": measured_on,
        "minimum_level": float(minimum_level),
        "examples": int(known.sum()),
        "level_unknown": int((~known).sum()),
        "clean": int(clean.size),
        **_quality(clean, scores[is_damaged], levels[is_damaged], minimum_level),
    }
    quality["by_damage"] = {
        kind: _quality(clean, scores[chosen], levels[chosen], minimum_level)
        for kind in sorted(set(kinds[is_damaged]))
        for chosen in [is_damaged & (kinds == kind)]
    }
    return quality
