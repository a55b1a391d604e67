"""The influence arm: what one step on a text does to the outer loss.

Influence functions ask how a model's loss elsewhere changes with one training example (Koh and
Liang 2017, arXiv 1703.04730); MATES (Yu et al. 2024, arXiv 2406.06046) probes it for a language
model by one step on each example of a sample, and fits a small model that tells it for all.
Here the probe is the exact derivative of the outer loss along a step of gradient descent on the
example, which is the product of two gradients, g_outer . g_example. It is found for a whole batch
at once as the slope of the examples' losses along g_outer: no gradient of a single example is ever
made. The model is the prior of `reference_models`, a model of the train part; the fit is ridge
regression on n-grams (scikit-learn's, of the extra `study`).
"""

from collections.abc import Callable

import numpy as np
from scipy import sparse
from sklearn.linear_model import Ridge

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import NgramFeatures
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import folds_of, hashes
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.metrics import spearman
from dr_keras.training.slopes import SLOPE_PASSES, mean_gradient, slopes
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def influence(
    candidates: Candidates,
    outer: Candidates | None,
    trainer: TrainerBuilder = LanguageModelTrainer,
    sample: int | None = 2000,
    outer_size: int | None = 1024,
    features: Callable[[list[str]], sparse.csr_matrix] | None = None,
    penalty: float = 1.0,
    held_out: int = 5,
    seed: int = 0,
) -> Scores:
    """How much a step on a candidate lowers the outer loss, by a model of the train part.

    Args:
      candidates: of the train part; windows, or documents of windows.
      outer: examples of the outer part.
      trainer: builds the trainer of the model, see `conditional_loss`.
      sample: candidates that are probed, chosen by hash; the others get what the regression says,
        and so do these, so that all scores are of one kind. None probes all and fits nothing.
      outer_size: at most so many outer examples, evenly spread, make the outer gradient.
      features: texts -> a sparse row each; None for `NgramFeatures()`.
      penalty: of the ridge regression, which has the figures scaled to a deviation of 1.
      held_out: one in so many documents of the sample is held out for the rank correlation; the
        regression that scores is fitted to all.
      seed: of the sample, initial weights and batches.

    Returns:
      The fall of the outer loss by rate of the step, nats per target, the higher the better (by
      the regression: in deviations of the sample); facts "probed", "held_out_spearman" (of the
      regression and the probes; None where all are probed), "outer_nats".

    Raises:
      ConfigurationError: no outer part, or a setting out of its range.
      DataError: candidates without tokens, fewer examples than a batch, or a sample without
        differences to learn.
    """
    if held_out < 2 or penalty <= 0 or (sample is not None and sample < 2 * held_out):
        raise ConfigurationError(
            f"influence: held_out ({held_out}) must be at least 2, penalty ({penalty}) above 0, and"
            f" sample ({sample}) None or at least twice held_out."
        )
    models = ReferenceModels(candidates, outer, trainer, seed=seed, scorer="influence")
    prior, used = models.prior(), models.outer_examples.thinned(outer_size)
    models.trainer.model.set_weights(prior.weights)
    direction = mean_gradient(models.trainer, used)
    probed = np.arange(len(candidates))
    if sample is not None and sample < len(candidates):
        probed = np.sort(np.argsort(hashes(candidates.ids, seed, "influence"))[:sample])
    rows = candidates.rows(np.isin(np.arange(len(candidates)), probed))
    examples, values = candidates.examples, np.full(len(candidates.examples), np.nan)
    values[rows] = slopes(models.trainer, examples.take(rows, "probed"), direction)
    values = candidates.token_means(values)
    forward = prior.forward_flops
    spent = prior.training_flops + 3 * forward * len(used)
    facts = {"probed": len(probed), "held_out_spearman": None, "outer_nats": prior.outer_nats}
    if sample is None:
        return Scores(values, spent, SLOPE_PASSES * forward, facts)
    probed = probed[np.isfinite(values[probed])]
    table = (features or NgramFeatures())(candidates.texts)
    fitted, correlation = _fitted(
        table, values, probed, candidates.documents, penalty, held_out, seed
    )
    facts["held_out_spearman"] = correlation
    return Scores(fitted, spent + SLOPE_PASSES * forward * len(rows), 0.0, facts)


def _fitted(
    table: sparse.csr_matrix,
    values: np.ndarray,
    probed: np.ndarray,
    documents: np.ndarray,
    penalty: float,
    held_out: int,
    seed: int,
) -> tuple[np.ndarray, float | None]:
    """The regression: its figure for all candidates, its rank correlation on held-out documents."""
    known = values[probed]
    deviation = known.std() if len(known) else 0.0
    if not deviation > 0:
        raise DataError("influence: the probed candidates do not differ; probe more (sample).")
    known = (known - known.mean()) / deviation
    apart = folds_of(documents[probed], held_out, seed) == 0

    def fitted(chosen):
        return Ridge(alpha=penalty, solver="sparse_cg").fit(table[probed[chosen]], known[chosen])

    guessed = fitted(~apart).predict(table[probed[apart]])
    correlation = spearman(guessed, known[apart])
    whole = fitted(np.ones(len(probed), bool)).predict(table)
    return whole, float(correlation) if np.isfinite(correlation) else None
