"""What is known of a rater beside how models fare: the `findings` of the results, for every study.

A finding is a key with what JSON holds; the report draws those that are there.

    "scores"              `scores_by_damage`
    "meta_curves"         `meta_curves`
    "meta_health"         `meta_health.meta_health`
    "judgement"           `runs.verdict.Judgement` of the run's best raters
    "extremes"            `learned.extremes`: heading -> examples
    "audit"               `bias.audited`: whom the choice favours
    "learned_fraction"    `learned_fraction`: what the rater's weights leave of a batch
    "within_sources"      `within_sources`: spread of scores, and figures of every source
    "meta_gradient_norm", "agreement", "distributions", "sources", "correlations", "lasso"
                          of `learned` and `lasso`, with "sample", the examples they were taken on
"""

from collections.abc import Callable, Mapping, Sequence
import pathlib

import keras
import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.heuristics import heuristics
from dr_keras.data.examples import ExampleSet, Parts, evenly_spread
from dr_keras.meta.callbacks import read_metrics
from dr_keras.runs.meta_training import judgement_of
from dr_keras.studies import learned, within_sources
from dr_keras.studies.lasso import explain_scores
from dr_keras.studies.meta_health import meta_health
from dr_keras.studies.results import Quality, Rater, read
from dr_keras.training.metrics import rater_quality

_BINS = 50
_DOTS = 400  # a kind of damage
_MEDIANS = 8
_POINTS = 400  # a curve
# Heuristics read texts one by one, which takes minutes for all of a large corpus.
_SAMPLE = 5000
_CHECKPOINT_SAMPLE, _CHECKPOINTS = 1000, 12
# Panel -> line -> (kind of record, name of the figure) in the metrics of a run of meta_train.
_PANELS: dict[str, dict[str, tuple[str, str]]] = {
    "outer loss": {"mean over members": ("step", "outer_loss")},
    "inner loss around the unroll": {
        "before": ("step", "inner_loss_before"),
        "after": ("step", "inner_loss_after"),
    },
    "meta-evaluation: validation loss": {
        "with the rater": ("epoch", "validation_loss"),
        "random choice": ("epoch", "random_validation_loss"),
    },
    "effective sample size": {"mean over members": ("step", "effective_sample_size")},
    "score against corruption": {
        "Pearson": ("epoch", "corruption_pearson"),
        "Spearman": ("epoch", "corruption_spearman"),
    },
    "AUC of clean against damaged": {"damage found": ("epoch", "damage_auc")},
}


def of_scores(scores, sources, levels, kinds, fractions=learned.FRACTIONS) -> dict:
    """Findings that need no more than what is known of every example, [N] each.

    Args:
      scores, levels, kinds: as for `quality`.
      sources: of the examples.
      fractions: discard fractions at which shares of sources are given.
    """
    return {
        "scores": scores_by_damage(scores, levels, kinds),
        "distributions": learned.score_distributions(scores, sources),
        "sources": learned.source_shares(scores, sources, fractions),
        "within_sources": _within_sources(scores, sources, levels),
    }


def _within_sources(scores, sources, levels) -> dict:
    """Spread and ranking of every source; {} with fewer than two."""
    found = within_sources.spread_by_source(scores, sources)
    if found:
        for name, figures in within_sources.ranking(scores, sources, levels).items():
            found["by_source"][name] |= figures
    return found


def of_run(run: pathlib.Path) -> dict:
    """Findings from the metrics and the judgement of a run of meta_train."""
    judgement = judgement_of(run)
    judged = {} if judgement is None else {"judgement": judgement.as_json()}
    return judged | {
        "meta_curves": meta_curves(run),
        "meta_gradient_norm": learned.meta_gradient_norms(run),
        "meta_health": meta_health(run),
    }


def levels_and_kinds(examples: ExampleSet) -> tuple[np.ndarray, np.ndarray]:
    """Level of damage (NaN unknown) and its kind, [N] each, as far as the labels know them."""
    levels = np.asarray(examples.labels.get("level", np.full(len(examples), np.nan)), float)
    return levels, examples.labels.get("damage", np.full(len(examples), "damaged", object))


def of_rater(metadata: Mapping, quality: Quality, **more) -> Rater:
    """The rater of a study, from the metadata of its artefact; `more` are fields of `Rater`."""
    training = metadata["training"]
    return Rater(
        metadata["parameters"],
        metadata["fingerprint"],
        quality,
        training.get("meta_step"),
        training.get("chosen"),
        **more,
    )


def quality(scores, levels, kinds, measured_on: str, sources=None) -> Quality:
    """How scores follow damage of known level, or the reason why nothing is known.

    Args:
      scores: [N].
      levels: [N], 0 clean, NaN unknown.
      kinds: [N], of damage.
      measured_on: which examples these are.
      sources: [N], for the ranking within each; None leaves it out.
    """
    if not np.isfinite(np.asarray(levels, float)).any():
        return Quality(None, None, None, "no damage of known level in this corpus")
    found = rater_quality(scores, levels, kinds, measured_on=measured_on)
    if sources is not None and len(set(sources)) > 1:
        by_source = within_sources.ranking(scores, sources, levels, found["minimum_level"])
        found["within_sources"] = within_sources.mean_ranking(by_source)
    return read(Quality, found, "quality")


def scores_by_damage(scores, levels, kinds) -> dict:
    """Scores of clean and of damaged examples, and score against level for each kind of damage.

    Args:
      scores, levels, kinds: [N], as for `quality`.

    Returns:
      `edges` [51] of bins, from the 0.1% to the 99.9% quantile; `groups`: "clean", "damaged" and
      "level unknown", those that there are -> examples in each bin [50], those outside counted in
      the outermost; `clean_median`, None where nothing is clean; `kinds`: kind -> `examples`, a
      sample of `dots` and a running `median`, both [(level, score)].
    """
    scores, levels = np.asarray(scores, float), np.asarray(levels, float)
    kinds = np.asarray(["" if kind is None else str(kind) for kind in kinds], dtype=object)
    edges, counts = learned.histogram(scores, _BINS)
    groups = {"clean": levels == 0, "damaged": levels > 0, "level unknown": np.isnan(levels)}
    clean = scores[groups["clean"]]
    rng = np.random.default_rng(0)

    def of(kind: str) -> dict:
        rows = np.flatnonzero(groups["damaged"] & (kinds == kind))
        shown = rng.permutation(rows)[:_DOTS]
        points = np.stack([levels, scores], axis=1)
        return {
            "examples": len(rows),
            "dots": points[shown].round(6).tolist(),
            "median": running_median(levels[rows], scores[rows]),
        }

    return {
        "edges": edges.tolist(),
        "groups": {n: counts(scores[chosen]) for n, chosen in groups.items() if chosen.any()},
        "clean_median": float(np.median(clean)) if clean.size else None,
        "kinds": {kind: of(kind) for kind in sorted(set(kinds[groups["damaged"]]))},
    }


def running_median(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """[(median of x, median of y)] in groups of equal number along x."""
    groups = [g for g in np.array_split(np.argsort(x, kind="stable"), _MEDIANS) if g.size]
    return [[float(np.median(x[g])), float(np.median(y[g]))] for g in groups]


def meta_curves(run: pathlib.Path) -> dict[str, dict[str, list]]:
    """Panel -> line -> [(meta-step, value)] of a run of meta_train; at most 400 points a line."""
    records = {kind: read_metrics(run, kind) for kind in ("step", "epoch")}

    def curve(kind: str, name: str) -> list[list[float]]:
        known: list[Mapping] = [r for r in records[kind] if r.get(name) is not None]
        every = max(1, -(-len(known) // _POINTS))
        return [[r["meta_step"], r[name]] for r in known[::every]]

    drawn = {
        title: {label: curve(*source) for label, source in lines.items()}
        for title, lines in _PANELS.items()
    }
    shown = {title: {k: v for k, v in lines.items() if v} for title, lines in drawn.items()}
    return {title: lines for title, lines in shown.items() if lines}


def what_the_rater_learned(
    run: pathlib.Path | None,
    build_rater: Callable[[], keras.Model],
    parts: Parts,
    scores,
    baselines: Baselines,
    scorers: Sequence[str],
    fractions: Sequence[float] = learned.FRACTIONS,
) -> dict:
    """The `findings` of an evidence study, JSON-able.

    Args:
      run: folder of the rater's meta-training; None for a rater that was given.
      build_rater: builds its Keras model, for the scores of its checkpoints.
      parts: of the corpus.
      scores: of the train part, [N].
      baselines: with the candidates and what else scored them.
      scorers: names of what else scored it; the rater's order is held against theirs.
      fractions: discard fractions at which shares of sources are given.
    """
    train, candidates = parts.train, baselines.candidates
    sources = train.sources
    rows = evenly_spread(len(train), _SAMPLE)
    sample = candidates.take(rows)
    features = heuristics().measure(sample, features=True)
    features |= of_windows(train.take(rows))
    # No example among a sample may break a rule, and what never differs explains nothing.
    features = {name: values for name, values in features.items() if np.ptp(values) > 0}
    others = {n: baselines.scores(n).values[rows] for n in scorers}
    if "perplexity" in others:
        features["nats_per_token"] = others.pop("perplexity")
    finite = {name: values for name, values in features.items() if np.isfinite(values).all()}
    others = {f"score of {name}": values for name, values in others.items()}
    levels, kinds = levels_and_kinds(train)
    known = None if not np.isfinite(levels).any() else levels[rows]
    found = of_scores(scores, sources, levels, kinds, fractions) | {
        "extremes": learned.extremes(candidates, scores, 8, labels=train.labels),
        "sample": len(rows),
        "correlations": learned.rank_correlations(
            scores[rows], features | others, known, sources[rows]
        ),
        "lasso": explain_scores(scores[rows], finite, candidates.documents[rows]),
    }
    if run is not None:
        sample = train.take(rows[:_CHECKPOINT_SAMPLE])
        checkpoints = learned.checkpoint_scores(run, build_rater(), sample, _CHECKPOINTS)
        found |= of_run(run) | {"agreement": learned.checkpoint_agreement(checkpoints)}
    return found


def of_windows(examples: ExampleSet) -> dict[str, np.ndarray]:
    """What is known of windows of tokens without their text, float64 [N] each.

    `packing_density` is the share of a window that is no padding (its number of tokens, in other
    units); where documents are packed, `documents_packed` says how many it holds a token of.
    """
    features = {}
    tokens = examples.features.get("tokens")
    if tokens is not None:
        features["packing_density"] = np.count_nonzero(tokens, axis=1) / tokens.shape[1]
    if "documents" in examples.labels:
        features["documents_packed"] = np.asarray(examples.labels["documents"], float)
    return features
