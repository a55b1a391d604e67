"""What the rater of an evidence study learned: the `findings` of its results."""

from collections.abc import Callable, Sequence
import pathlib

import keras
import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.heuristics import heuristics
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.studies import learned
from dr_keras.studies.findings import levels_and_kinds, of_run, of_scores
from dr_keras.studies.lasso import explain_scores

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
    """The `findings` of the results, JSON-able.

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
    levels, kinds = levels_and_kinds(train)
    known = None if not np.isfinite(levels).any() else levels[rows]
    found = of_scores(scores, sources, levels, kinds, fractions) | {
        "extremes": learned.extremes(candidates, scores, 8, labels=train.labels),
        "sample": len(rows),
        "correlations": learned.rank_correlations(scores[rows], features, known, sources[rows]),
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
