"""What the rater of an evidence study learned: the `analysis` of its results."""

from collections.abc import Callable, Sequence
import pathlib

import keras
import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.heuristics import heuristics
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.meta.callbacks import read_metrics
from dr_keras.studies import learned
from dr_keras.studies.lasso import explain_scores
from dr_keras.training.metrics import rater_quality

# Heuristics read texts one by one, which takes minutes for all of a large corpus.
_SAMPLE = 5000
_CHECKPOINT_SAMPLE, _CHECKPOINTS = 1000, 12


def what_the_rater_learned(
    run: pathlib.Path | None,
    build_rater: Callable[[], keras.Model],
    parts: Parts,
    scores,
    baselines: Baselines,
    perplexity: bool,
    fractions: Sequence[float] = learned.FRACTIONS,
) -> dict:
    """The `analysis` section, JSON-able.

    Args:
      run: folder of the rater's meta-training; None for a rater that was given.
      build_rater: builds its Keras model, for the scores of its checkpoints.
      parts: of the corpus.
      scores: of the train part, [N].
      baselines: with the candidates and, if it was worked out, their perplexity.
      perplexity: whether it was.
      fractions: discard fractions at which shares of sources are given.
    """
    train, candidates = parts.train, baselines.candidates
    sources = train.sources
    rows = np.unique(np.linspace(0, len(train) - 1, _SAMPLE).astype(int))
    sample = candidates.take(rows)
    features = heuristics().measure(sample, features=True)
    features |= of_windows(train.take(rows))
    # No example among a sample may break a rule, and what never differs explains nothing.
    features = {name: values for name, values in features.items() if np.ptp(values) > 0}
    if perplexity:
        features["nats_per_token"] = baselines.nats_per_token[rows]
    finite = {name: values for name, values in features.items() if np.isfinite(values).all()}
    levels = np.asarray(train.labels.get("level", np.full(len(train), np.nan)), float)
    known = None if not np.isfinite(levels).any() else levels[rows]
    found = {
        "quality": quality(train, scores, levels),
        "distributions": learned.score_distributions(scores, sources),
        "sources": learned.source_shares(scores, sources, fractions),
        "extremes": learned.extremes(candidates, scores, 8, labels=train.labels),
        "sample": len(rows),
        "correlations": learned.rank_correlations(scores[rows], features, known, sources[rows]),
        "lasso": explain_scores(scores[rows], finite, candidates.documents[rows]),
        "meta_training": {},
    }
    if run is not None:
        found["meta_training"] = {
            "curves": meta_curves(run),
            "meta_gradient_norm": learned.meta_gradient_norms(run),
            "agreement": learned.checkpoint_agreement(
                learned.checkpoint_scores(
                    run, build_rater(), train.take(rows[:_CHECKPOINT_SAMPLE]), _CHECKPOINTS
                )
            ),
        }
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


def quality(train: ExampleSet, scores, levels) -> dict:
    """How scores follow damage of known level, or the reason why nothing is known."""
    if not np.isfinite(levels).any():
        return {"reason": "no damage of known level in this corpus"}
    kinds = train.labels.get("damage", np.full(len(train), "damaged", object))
    where = f"all {len(train):,} windows of the train part"
    return rater_quality(scores, levels, kinds, measured_on=where)


def meta_curves(run: pathlib.Path) -> dict[str, dict[str, list]]:
    """Panel -> line -> [(meta-step, value)] of a run of meta_train; at most 400 points a line."""
    steps, epochs = read_metrics(run, "step"), read_metrics(run, "epoch")
    every = max(1, len(steps) // 400)

    def curve(records, name):
        return [[r["meta_step"], r[name]] for r in records if r.get(name) is not None]

    panels = {
        "outer loss": {"mean of members": curve(steps[::every], "outer_loss")},
        "meta-evaluation: validation loss": {
            "with the rater": curve(epochs, "validation_loss"),
            "random choice": curve(epochs, "random_validation_loss"),
        },
        "effective sample size": {"mean": curve(epochs, "effective_sample_size")},
    }
    drawn = {
        title: {name: points for name, points in lines.items() if points}
        for title, lines in panels.items()
    }
    return {title: lines for title, lines in drawn.items() if lines}
