"""Gradients of a trainer's model, and how each example's loss changes along a direction.

No gradient of a single example is made: a gradient is linear in the shares that examples have in
the loss, so its product with a direction, differentiated by the shares, is what each contributes.
"""

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError
from dr_keras.models.model_inputs import model_inputs
from dr_keras.training.batches import in_order
from dr_keras.training.target_counts import mean_over_targets
from dr_keras.training.trainers import RepeatedTrainer

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
    return mean_over_targets(found, counts)


def _sums(trainer: RepeatedTrainer, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
    outputs = trainer.model(model_inputs(trainer.model, batch), training=False)
    return trainer.loss_sums(outputs, batch)


def _batches(trainer: RepeatedTrainer, examples: ExampleSet) -> Iterator[tuple[dict, tf.Tensor]]:
    """(batch, 1.0 for each row that is real and not filling, float32 [B])."""
    size = trainer.evaluation_batch_size
    for number, batch in enumerate(in_order(examples, size)):
        real = np.arange(size) + number * size < len(examples)
        yield batch, tf.constant(real, tf.float32)
