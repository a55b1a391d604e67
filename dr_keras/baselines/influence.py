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
import tensorflow as tf

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.classifier import NgramFeatures
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import folds_of, hashes
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.model_inputs import model_inputs
from dr_keras.training.batches import in_order
from dr_keras.training.metrics import spearman
from dr_keras.training.trainers import LanguageModelTrainer, RepeatedTrainer
import gin

# Forward passes of `slopes`, as counted in the graph without what no result needs (the gradients
# themselves, which are traced, are not): 4.06 to 4.12 for language models.
SLOPE_PASSES = 4


def mean_gradient(trainer: RepeatedTrainer, examples: ExampleSet) -> list[np.ndarray]:
    """Gradient of the mean loss per target of a set, for each trainable variable."""
    variables = [variable.value for variable in trainer.model.trainable_variables]

    def of_batch(batch, real):
        with tf.GradientTape() as tape:
            sums, counts = _sums(trainer, batch)
            total = tf.reduce_sum(sums * real)
        gradients = tape.gradient(total, variables, unconnected_gradients="zero")
        return [tf.convert_to_tensor(g) for g in gradients], tf.reduce_sum(counts * real)

    compiled = tf.function(of_batch, autograph=False)
    totals, targets = [np.zeros(v.shape, np.float64) for v in variables], 0.0
    for batch, real in _batches(trainer, examples):
        gradients, count = compiled(batch, real)
        totals = [total + g.numpy() for total, g in zip(totals, gradients, strict=True)]
        targets += float(count)
    if not targets:
        raise DataError(f"the set {examples.name!r} holds nothing to predict")
    return [total / targets for total in totals]


def slopes(
    trainer: RepeatedTrainer, examples: ExampleSet, direction: list[np.ndarray]
) -> np.ndarray:
    """How fast each example's loss per target grows along a direction of the weights, float64 [N].

    It is the product of the example's gradient with the direction; NaN without a target.

    Args:
      direction: one array for each trainable variable.
    """
    variables = [variable.value for variable in trainer.model.trainable_variables]
    along = [tf.constant(part, tf.float32) for part in direction]

    def of_batch(batch):
        # The gradient is linear in the examples' shares of the loss: its slope by them, projected.
        with tf.GradientTape() as outer:
            with tf.GradientTape() as inner:
                sums, counts = _sums(trainer, batch)
                shares = tf.ones_like(sums)
                outer.watch(shares)
                total = tf.reduce_sum(sums * shares)
            gradients = inner.gradient(total, variables, unconnected_gradients="zero")
            products = [
                tf.reduce_sum(tf.convert_to_tensor(g) * part)
                for g, part in zip(gradients, along, strict=True)
            ]
            product = tf.add_n(products)
        return outer.gradient(product, shares), counts

    compiled = tf.function(of_batch, autograph=False)
    pairs = [compiled(batch) for batch, _ in _batches(trainer, examples)]
    found, counts = (
        np.concatenate([np.asarray(pair[k], np.float64) for pair in pairs])[: len(examples)]
        for k in (0, 1)
    )
    return np.where(counts > 0, found / np.maximum(counts, 1), np.nan)


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


def _sums(trainer: RepeatedTrainer, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
    outputs = trainer.model(model_inputs(trainer.model, batch), training=False)
    return trainer.loss_sums(outputs, batch)


def _batches(trainer: RepeatedTrainer, examples: ExampleSet):
    """(batch, 1.0 for each row that is real and not filling, float32 [B])."""
    size = trainer.evaluation_batch_size
    for number, batch in enumerate(in_order(examples, size)):
        real = np.arange(size) + number * size < len(examples)
        yield batch, tf.constant(real, tf.float32)
