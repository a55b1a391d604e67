"""What a rater knows beyond where a text comes from: its ranking and its spread within sources.

A rater that gives every text the mean of its source may look good on the whole, and chooses nothing
but sources, which costs no rater. So the ranking is also taken within each source, and the scores'
spread is taken apart: its square is that between the sources' means plus that within them.
"""

import numpy as np

from dr_keras.training.metrics import area_under_curve, spearman

# Examples of each kind that a source needs for a figure of its own: fewer say little.
ENOUGH = 10
# Below this share of the spread of all scores, those of a source hardly differ.
NEAR_ZERO = 0.1
# Below this standard deviation a softmax at temperature 1 gives all examples the same weight.
NO_SPREAD = 0.05


def ranking(scores, sources, levels, minimum_level: float = 0.2) -> dict[str, dict]:
    """Within each source, how scores follow damage whose level is known.

    Args:
      scores: [N], higher is better.
      sources: [N].
      levels: [N], 0 clean, NaN unknown.
      minimum_level: damage below this is left out of the AUC.

    Returns:
      Source -> "auc", of clean against damaged examples, and "spearman", of score and level among
      the damaged; a figure that a source has too few examples for (`ENOUGH`) is left out, and so is
      a source without any.
    """
    scores, levels = np.asarray(scores, float), np.asarray(levels, float)
    found: dict[str, dict] = {}
    for name, rows in _by_source(sources):
        score, level = scores[rows], levels[rows]
        clean, bad = level == 0, level >= minimum_level
        figures = {}
        if min(clean.sum(), bad.sum()) >= ENOUGH:
            figures["auc"] = area_under_curve(score[clean | bad], clean[clean | bad])
        damaged = level > 0
        if damaged.sum() >= ENOUGH:
            figures["spearman"] = spearman(score[damaged], level[damaged])
        figures = {key: value for key, value in figures.items() if not np.isnan(value)}
        if figures:
            found[name] = figures
    return found


def mean_ranking(by_source: dict[str, dict]) -> dict:
    """`results.WithinSources` of `ranking`: means over sources, each counting the same."""
    found: dict = {}
    for key in ("auc", "spearman"):
        values = [figures[key] for figures in by_source.values() if key in figures]
        found |= {key: float(np.mean(values)) if values else None, f"{key}_sources": len(values)}
    if found["auc"] is None or found["spearman"] is None:
        found["reason"] = f"fewer than {ENOUGH} examples of a kind in every source"
    return found


def spread_by_source(scores, sources) -> dict:
    """The scores' standard deviation: whole, between the sources' means, within them, of each.

    Args:
      scores, sources: [N].

    Returns:
      {} with fewer than two sources. Else `spread`, `between` and `within` (squares of the last two
      add up to that of the first), `by_source`: source, the largest first -> `examples`, `mean`
      (relative to that of all), `spread`; `warnings`: sentences for people.
    """
    scores = np.asarray(scores, float)
    groups = _by_source(sources)
    if len(groups) < 2:
        return {}
    whole = float(scores.std())
    by_source = {
        name: {
            "examples": len(rows),
            "mean": float(scores[rows].mean() - scores.mean()),
            "spread": float(scores[rows].std()),
        }
        for name, rows in sorted(groups, key=lambda item: (-len(item[1]), item[0]))
    }
    inner = sum(one["examples"] * one["spread"] ** 2 for one in by_source.values()) / len(scores)
    within = min(float(np.sqrt(inner)), whole)
    return {
        "spread": whole,
        "between": float(np.sqrt(max(whole**2 - within**2, 0.0))),
        "within": within,
        "by_source": by_source,
        "warnings": _warnings(whole, within, by_source),
    }


def _warnings(whole: float, within: float, by_source: dict[str, dict]) -> list[str]:
    if whole < NO_SPREAD:
        return [
            f"all scores are nearly the same (standard deviation {whole:.2g}): an order of chance"
            " decides what is dropped"
        ]
    said = []
    if within < NEAR_ZERO * whole:
        said.append(
            f"{100 * (1 - (within / whole) ** 2):.0f}% of the scores' variance lies between"
            " sources: the rater chooses sources and hardly tells their texts apart. Hold it"
            " against random_as_rater and best_sources, which need no rater"
        )
    flat = [
        name
        for name, one in by_source.items()
        if one["examples"] >= ENOUGH and one["spread"] < NEAR_ZERO * whole
    ]
    if flat and len(said) == 0:
        named = ", ".join(flat[:5]) + (f" and {len(flat) - 5} more" if len(flat) > 5 else "")
        said.append(f"within these sources scores hardly differ: {named}")
    return said


def _by_source(sources) -> list[tuple[str, np.ndarray]]:
    """(source, its rows)."""
    names, inverse = np.unique(np.asarray(sources).astype(str), return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(names)))[:-1]
    return list(zip(names.tolist(), np.split(order, ends)))
