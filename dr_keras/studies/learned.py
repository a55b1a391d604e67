"""What the rater learned: figures of its scores, every one a pure function to JSON-able values.

Scores are those of N examples in one order; a share or percentile is taken among them. A figure
that is not defined is None. The pictures are in `learned_plots`, the regression in `lasso`.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.selection import kept_count
from dr_keras.data.examples import ExampleSet, evenly_spread
from dr_keras.errors import CheckpointError, ConfigurationError, DataError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.checkpoints import load_rater_weights, rater_steps
from dr_keras.meta.scoring import Scorer
from dr_keras.training.metrics import spearman

QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)


def _scores(values, others: Mapping[str, Sequence] | None = None) -> np.ndarray:
    scores = np.asarray(values, np.float64)
    if scores.ndim != 1 or not scores.size:
        raise DataError(f"scores of shape {scores.shape}: give one score an example, at least one.")
    if not np.isfinite(scores).all():
        raise DataError(
            f"{np.sum(~np.isfinite(scores))} of {scores.size} scores are not finite: leave these"
            " examples out, and say how many there were."
        )
    for name, other in (others or {}).items():
        if len(other) != scores.size:
            raise ConfigurationError(f"{scores.size} scores but {len(other)} {name}.")
    return scores


def percentiles(scores) -> np.ndarray:
    """Share of the scores below each, ties counted half: float64 [N] in (0, 1)."""
    return (stats.rankdata(scores) - 0.5) / len(scores)


def histogram(
    scores: np.ndarray, bins: int
) -> tuple[np.ndarray, Callable[[np.ndarray], list[int]]]:
    """Edges [bins + 1] from the 0.1% to the 99.9% quantile, and what counts scores between them.

    Scores outside count in the outermost bins.
    """
    low, high = np.quantile(scores, (0.001, 0.999))
    edges = np.linspace(low, high if high > low else low + 1.0, bins + 1)
    return edges, lambda some: np.histogram(np.clip(some, low, edges[-1]), edges)[0].tolist()


def score_distributions(scores, sources: Sequence[str], bins: int = 40) -> dict:
    """Distribution of scores, of all and by source.

    Returns:
      `edges` [bins + 1] from the 0.1% to the 99.9% quantile (scores outside count in the outermost
      bins); `all` and `by_source` (the lowest mean percentile first): `examples`, `mean`,
      `deviation`, `mean_percentile`, `quantiles` (at `QUANTILES`), `counts` [bins].
    """
    scores = _scores(scores, {"sources": sources})
    sources = np.asarray(sources).astype(str)
    edges, counts = histogram(scores, bins)
    places = percentiles(scores)

    def of(chosen: np.ndarray) -> dict:
        values = scores[chosen]
        return {
            "examples": int(values.size),
            "mean": float(values.mean()),
            "deviation": float(values.std()),
            "mean_percentile": float(places[chosen].mean()),
            "quantiles": [float(q) for q in np.quantile(values, QUANTILES)],
            "counts": counts(values),
        }

    by_source = {str(name): of(sources == name) for name in np.unique(sources)}
    ordered = sorted(by_source, key=lambda name: by_source[name]["mean_percentile"])
    return {
        "edges": edges.tolist(),
        "probabilities": list(QUANTILES),
        "all": of(np.ones(scores.size, bool)),
        "by_source": {name: by_source[name] for name in ordered},
    }


def source_shares(scores, sources: Sequence[str], fractions: Sequence[float] = FRACTIONS) -> dict:
    """Share of each source in what is kept, against the discard fraction.

    Args:
      scores: [N]; the lowest are dropped first, of equal ones the earlier.
      sources: [N].
      fractions: discard fractions in [0, 1).

    Returns:
      `fractions`; `shares`: source -> share of what is kept at each; `kept_of_source`: source ->
      share of the source that is kept at each. The largest source first.
    """
    scores = _scores(scores, {"sources": sources})
    sources = np.asarray(sources).astype(str)
    names, inverse = np.unique(sources, return_inverse=True)
    whole = np.bincount(inverse)
    order = np.argsort(scores, kind="stable")
    kept = []
    for fraction in fractions:
        rows = order[scores.size - kept_count(scores.size, fraction) :]
        kept.append(np.bincount(inverse[rows], minlength=len(names)))
    kept = np.array(kept).reshape(len(fractions), len(names))
    shares = kept / kept.sum(axis=1, keepdims=True)
    of_source = kept / whole
    largest = np.argsort(-whole, kind="stable")
    return {
        "fractions": [float(f) for f in fractions],
        "shares": {str(names[k]): shares[:, k].tolist() for k in largest},
        "kept_of_source": {str(names[k]): of_source[:, k].tolist() for k in largest},
    }


def rank_correlations(
    scores, features: Mapping[str, np.ndarray], levels=None, sources: Sequence[str] | None = None
) -> dict:
    """Spearman's correlation of the score with each feature, strongest first.

    Args:
      scores: [N].
      features: name -> [N]: heuristics, length, perplexity. Examples whose value is NaN are left
        out of that one figure.
      levels: [N] of damage, NaN where unknown; adds "level_of_damage" (all with a known level) and
        "level_of_damage_among_damaged".
      sources: [N]; adds the mean over sources of the correlation within each, weighted by their
        examples, which a preference for sources alone leaves at 0.

    Returns:
      feature -> {"spearman", "examples", "within_sources" where sources are given}; None, with a
      `reason`, where it is not defined.
    """
    scores = _scores(scores, {} if sources is None else {"sources": sources})
    columns = {name: np.asarray(v, np.float64) for name, v in features.items()}
    if levels is not None:
        levels = np.asarray(levels, np.float64)
        columns["level_of_damage"] = levels
        columns["level_of_damage_among_damaged"] = np.where(levels > 0, levels, np.nan)
    names = None if sources is None else np.asarray(sources).astype(str)
    found = {}
    for name, values in columns.items():
        if values.shape != scores.shape:
            raise ConfigurationError(f"{name}: {values.shape} values of {scores.size} examples.")
        known = ~np.isnan(values)
        correlation = _spearman(scores[known], values[known])
        found[name] = {"spearman": correlation, "examples": int(known.sum())}
        if names is not None:
            found[name]["within_sources"] = _within(scores[known], values[known], names[known])
        if correlation is None:
            found[name]["reason"] = "needs two examples or more of differing value and score"
    strength = {n: -1.0 if f["spearman"] is None else abs(f["spearman"]) for n, f in found.items()}
    return {name: found[name] for name in sorted(found, key=lambda n: -strength[n])}


def _spearman(x: np.ndarray, y: np.ndarray) -> float | None:
    value = spearman(x, y)
    return None if np.isnan(value) else float(value)


def _within(scores: np.ndarray, values: np.ndarray, sources: np.ndarray) -> float | None:
    total = examples = 0.0
    for name in np.unique(sources):
        chosen = sources == name
        correlation = _spearman(scores[chosen], values[chosen])
        if correlation is not None:
            total += correlation * chosen.sum()
            examples += chosen.sum()
    return float(total / examples) if examples else None


def extremes(
    candidates: Candidates, scores, count: int = 8, characters: int = 600, labels=None
) -> dict[str, list[dict]]:
    """The lowest- and highest-rated examples, as the report shows them.

    Args:
      candidates: N examples with their texts.
      scores: [N].
      count: at each end.
      characters: of text shown.
      labels: what is known for evaluation, such as `ExampleSet.labels`; "level" and "damage" are
        shown.

    Returns:
      "Rated lowest" and "Rated highest" -> [{"text", "id", "source", "score", "percentile" (among
      all N), and "level", "damage" where known}].
    """
    scores = _scores(scores, {"candidates": candidates.ids})
    places = percentiles(scores)
    order = np.argsort(scores, kind="stable")
    sources = candidates.sources.astype(str)

    def shown(row: int) -> dict:
        example = {
            "text": candidates.text(row)[:characters],
            "id": str(candidates.ids[row]),
            "source": str(sources[row]),
            "score": float(scores[row]),
            "percentile": float(places[row]),
        }
        for name in ("level", "damage"):
            value = None if labels is None or name not in labels else labels[name][row]
            if value is not None and value == value:  # NaN is an unknown level
                example[name] = float(value) if name == "level" else str(value)
        return example

    return {
        "Rated lowest": [shown(int(row)) for row in order[:count]],
        "Rated highest": [shown(int(row)) for row in order[::-1][:count]],
    }


def checkpoint_scores(
    base_dir, rater, sample: ExampleSet, at_most: int = 12
) -> dict[int, np.ndarray]:
    """Scores of a sample by the rater of every checkpoint of a run: meta-step -> float [N].

    The rater is left with the weights of the last one.

    Args:
      base_dir: of the meta-training run.
      rater: a Keras model of the run's rater.
      sample: what to score.
      at_most: so many checkpoints, evenly spread, first and last among them.

    Raises:
      CheckpointError: the run has no weights of a rater.
    """
    steps = rater_steps(base_dir)
    if not steps:
        raise CheckpointError(f"{base_dir} holds no weights of a rater: meta-train there first.")
    score = Scorer(rater)
    found = {}
    for k in evenly_spread(len(steps), at_most):
        load_rater_weights(rater, base_dir, steps[k])
        found[int(steps[k])] = np.asarray(score(sample), np.float64)
    return found


def checkpoint_agreement(scores: Mapping[int, np.ndarray]) -> dict:
    """Rank correlation between the scores of a run's checkpoints.

    Args:
      scores: meta-step -> [N], the same examples in the same order.

    Returns:
      `meta_steps` [C]; `matrix` [C, C] of Spearman's correlation; `with_next` [C - 1], each with
      the one after it (the paper: above 0.95 after a few thousand meta-steps); `with_last` [C].
    """
    steps = sorted(scores)
    values = [_scores(scores[step]) for step in steps]
    if len({v.size for v in values}) > 1:
        raise ConfigurationError("checkpoints scored different numbers of examples.")
    matrix: list[list[float | None]] = [[None] * len(steps) for _ in steps]
    for a in range(len(steps)):
        for b in range(a, len(steps)):
            matrix[a][b] = matrix[b][a] = _spearman(values[a], values[b])
    return {
        "meta_steps": [int(step) for step in steps],
        "matrix": matrix,
        "with_next": [matrix[k][k + 1] for k in range(len(steps) - 1)],
        "with_last": [row[-1] for row in matrix],
    }


def meta_gradient_norms(base_dir) -> dict:
    """Norm of the meta-gradient through training, from the run's metrics.jsonl.

    Returns:
      `meta_steps`, `mean` (over the population), `members` [P] lists; `summary`: `median`,
      `largest`, `first_quarter` and `last_quarter` (medians of the first and last quarter of the
      run: a norm that grows tells of a run about to fail), and `not_finite` (values). Empty lists
      and Nones for a run without metrics.
    """
    records = [r for r in read_metrics(base_dir, "step") if "meta_gradient_norm" in r]
    members = [r.get("members", {}).get("meta_gradient_norm") or [] for r in records]
    width = max(map(len, members), default=0)
    mean = [r["meta_gradient_norm"] for r in records]
    known = np.array([v for v in mean if v is not None], np.float64)
    quarter = max(len(known) // 4, 1)

    def median(values: np.ndarray) -> float | None:
        return float(np.median(values)) if values.size else None

    single = [value for row in members for value in row] if width else mean
    return {
        "meta_steps": [int(r["meta_step"]) for r in records],
        "mean": mean,
        "members": [[row[m] if m < len(row) else None for row in members] for m in range(width)],
        "summary": {
            "median": median(known),
            "largest": float(known.max()) if known.size else None,
            "first_quarter": median(known[:quarter]),
            "last_quarter": median(known[-quarter:]),
            "not_finite": int(sum(value is None for value in single)),
        },
    }
