"""The perplexity arm: a small language model scores the text, and one stretch of scores stays.

A model must not score what it was trained on: the examples are cut into folds by document, and each
is scored by the model that was trained on the other folds, which costs no held-out data.
"""

from collections.abc import Callable

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores, require_windows
from dr_keras.baselines.selection import folds_of
from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training import flops
from dr_keras.training.target_counts import mean_over_targets
from dr_keras.training.trainers import LanguageModelTrainer
import gin


def nats_per_token(trainer: LanguageModelTrainer, examples: ExampleSet) -> np.ndarray:
    """Mean negative log-likelihood of each example, float64 [N]; NaN where nothing is predicted."""
    return mean_over_targets(*trainer.losses(examples))


@gin.configurable(denylist=["candidates", "outer", "seed"])
def cross_perplexity(
    candidates: Candidates,
    outer: Candidates | None = None,
    trainer: Callable[[], LanguageModelTrainer] = LanguageModelTrainer,
    folds: int = 2,
    test_size: int = 64,
    seed: int = 0,
) -> Scores:
    """Nats per token of every candidate under a model that never saw its document.

    One model is trained for each fold, on the other folds, all with one compiled step. The paper
    keeps the lowest, the middle or the highest; the middle was the best of the three at a discard
    fraction of 0.9 (Calian et al. 2025, baselines).

    Args:
      candidates: windows, or documents of windows.
      outer: not read.
      trainer: builds the trainer of the scoring model. Its size and steps are bound under a scope,
        as in `cross_perplexity.trainer = @scorer/LanguageModelTrainer`.
      folds: at least 2.
      test_size: at most so many examples of the scored fold make the trainer's test curve, which
        is not used.
      seed: of the folds, initial weights and batches.

    Returns:
      Scores, the lower the likelier.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: too few documents or examples, or candidates without tokens.
    """
    if test_size < 1:
        raise ConfigurationError(f"test_size is {test_size}: it must be at least 1.")
    require_windows(candidates, "perplexity")
    examples = candidates.examples
    fold = folds_of(document_ids(examples), folds, seed)
    learned = [
        _fold_to_learn(examples, np.flatnonzero(fold != number), number) for number in range(folds)
    ]
    trainer = trainer()
    nats = np.full(len(examples), np.nan)
    for number in range(folds):
        rows = np.flatnonzero(fold == number)
        scored = examples.take(rows, f"scored fold {number}")
        trainer.train(learned[number], scored.thinned(test_size), seed)
        nats[rows] = nats_per_token(trainer, scored)
    forward = flops.forward_flops(trainer.model, flops.feature_shapes(examples.features))
    spent = folds * flops.training_flops(forward, trainer.steps * trainer.batch_size)
    known = nats[np.isfinite(nats)]
    facts = {"nats_per_token": float(known.mean()) if known.size else None, "folds": folds}
    return Scores(candidates.token_means(nats), float(spent), float(forward), facts)


def _fold_to_learn(examples: ExampleSet, rows: np.ndarray, number: int) -> ExampleSet:
    """The rows to learn from, with their weights, if every weighted corpus still has a row."""
    part = examples.take(rows, f"all but fold {number}")
    present = set(part.corpora.tolist())
    missing = [n for n, w in (part.weights or {}).items() if w > 0 and n not in present]
    if missing:
        raise DataError(
            f"All documents of the corpora {missing} fall into one fold: add documents to them, or"
            " raise cross_perplexity.folds."
        )
    return part
