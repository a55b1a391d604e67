"""The bilevel problem as pure functions on explicit state, and the weights in between.

Estimators see nothing but this: no Keras model, no data kind, no optimizer by name.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import keras
import tensorflow as tf

from dr_keras.differentiation.second_order import exact_moments
from dr_keras.meta import pytrees
from dr_keras.meta.micro_batches import over_parts, recomputed_in_parts
from dr_keras.meta.optimizers import InnerOptimizer


class InnerState(NamedTuple):
    """All that one inner model is of its own: tensors only.

    Weights that nothing changes are in no state: the functions of a problem close over them, so
    that they exist once for all members; see `dr_keras.meta.model_parts`.

    Attributes:
      theta: trained values.
      statistics: what a training call changes by itself: seeds of dropout, averages of
        normalisation.
      slots: of the inner optimizer.
      age: int32 scalar, inner updates since initialisation.
      hyper: name -> scalar, what this member's optimizer is told beyond its own settings;
        "learning_rate" takes the place of the optimizer's own.
      memory: of the estimator, as its `init` gives it; empty for one that keeps none.
    """

    theta: list
    statistics: list
    slots: dict
    age: tf.Tensor
    hyper: dict = {}
    memory: dict = {}


@dataclasses.dataclass(frozen=True)
class MetaProblem:
    """The pure functions that a meta-gradient is made of.

    Attributes:
      score: (eta, batch) -> scores [B], each of its own example alone; phi_eta of the paper.
      inner_loss: (theta, statistics, batch) -> (per-example losses [B], new statistics).
      outer_loss: (theta, statistics, batch) -> scalar.
      optimizer: the inner optimizer.
      temperature: scores are divided by it before the softmax; 1 in the paper.
    """

    score: Callable
    inner_loss: Callable
    outer_loss: Callable
    optimizer: InnerOptimizer
    temperature: float = 1.0

    def weights(self, eta, batch, parts: int = 1) -> tuple[tf.Tensor, tf.Tensor]:
        """Weights w = softmax over the batch of the scores (paper, equation 2), and scores.

        Args:
          parts: as of `scores`.
        """
        scores = self.scores(eta, batch, parts)
        return self.softmax(scores), scores

    def scores(self, eta, batch, parts: int = 1) -> tf.Tensor:
        """Scores [B], of so many parts of the batch one after the other.

        A derivative runs the rater on each part again: it holds the activations of one.
        """
        return recomputed_in_parts(parts, self.score, eta, batch)

    def softmax(self, scores: tf.Tensor) -> tf.Tensor:
        """Weights of a whole batch's scores [..., B]."""
        return tf.nn.softmax(scores / tf.constant(self.temperature, scores.dtype))


def weight_metrics(weights: tf.Tensor) -> dict[str, tf.Tensor]:
    """Entropy in nats (log B when uniform) and effective sample size 1 / sum w^2 in examples."""
    safe = tf.maximum(weights, tf.constant(1e-30, weights.dtype))
    return {
        "weight_entropy": -tf.reduce_sum(weights * tf.math.log(safe)),
        "effective_sample_size": 1 / tf.reduce_sum(tf.square(weights)),
    }


def model_inputs(model: keras.Model, batch: dict):
    """The features of `batch` that `model` reads, by the names of its inputs.

    A model without named inputs (a subclassed one), or with an input that the batch does not
    have, is handed the whole batch, and says itself what it misses.
    """
    if isinstance(model, keras.Sequential):
        names = [tensor.name for tensor in model.inputs or []]
        return batch[names[0]] if names and names[0] in batch else batch
    structure = getattr(model, "input", None) if hasattr(model, "inputs") else None
    if keras.backend.is_keras_tensor(structure):
        return batch[structure.name] if structure.name in batch else batch
    if isinstance(structure, dict) and all(name in batch for name in structure):
        return {name: batch[name] for name in structure}
    return batch


def keras_problem(
    rater: keras.Model,
    inner_model: keras.Model,
    per_example_loss: Callable,
    optimizer: InnerOptimizer,
    temperature: float = 1.0,
    rater_non_trainable: list | None = None,
) -> MetaProblem:
    """A MetaProblem of two Keras models through `stateless_call`.

    Args:
      rater: Keras model from a batch's features to scores [B] or [B, 1].
      inner_model: Keras model; only its structure is used, its variables are not read.
      per_example_loss: (model_outputs, batch) -> [B].
      optimizer: inner optimizer.
      temperature: of the softmax that makes weights of scores.
      rater_non_trainable: values of the rater's non-trainable variables; constants of the unroll.
    """
    rater_state = (
        rater_non_trainable
        if rater_non_trainable is not None
        else [v.value for v in rater.non_trainable_variables]
    )

    def score(eta, batch):
        scores, _ = rater.stateless_call(
            eta, rater_state, model_inputs(rater, batch), training=False
        )
        return tf.reshape(scores, [-1])

    def inner_loss(theta, statistics, batch):
        with exact_moments():  # the one place whose gradient is differentiated again
            outputs, statistics = inner_model.stateless_call(
                theta, statistics, model_inputs(inner_model, batch), training=True
            )
        return per_example_loss(outputs, batch), list(statistics)

    def outer_loss(theta, statistics, batch):
        outputs, _ = inner_model.stateless_call(
            theta, statistics, model_inputs(inner_model, batch), training=False
        )
        return tf.reduce_mean(per_example_loss(outputs, batch))

    return MetaProblem(score, inner_loss, outer_loss, optimizer, temperature)


def inner_gradient(
    problem: MetaProblem, state: InnerState, weights: tf.Tensor, batch: dict, parts: int = 1
):
    """Gradient g of the weighted loss sum_i w_i l_i(theta).

    Args:
      parts: the batch goes through the model in so many parts, one after the other; see
        `dr_keras.meta.micro_batches`. No tape outside sees through more than one.

    Returns:
      (g, a list like theta, dense; losses [B]; new statistics)
    """

    def gradient_of(examples, statistics):
        weights, batch = examples
        with tf.GradientTape() as tape:
            tape.watch(state.theta)
            losses, statistics = problem.inner_loss(state.theta, statistics, batch)
            weighted = tf.reduce_sum(tf.cast(weights, losses.dtype) * losses)
        gradient = tape.gradient(weighted, state.theta, unconnected_gradients="zero")
        return pytrees.dense(gradient), [losses], statistics

    gradient, (losses,), statistics = over_parts(
        parts, gradient_of, (weights, batch), state.statistics
    )
    return gradient, losses, statistics


def inner_losses(problem: MetaProblem, state: InnerState, batch: dict, parts: int = 1):
    """Losses [B] of a batch in training mode, in parts as `inner_gradient`."""

    def of_part(batch, statistics):
        losses, statistics = problem.inner_loss(state.theta, statistics, batch)
        return [], [losses], statistics

    _, (losses,), _ = over_parts(parts, of_part, batch, state.statistics)
    return losses


def inner_update(
    problem: MetaProblem, state: InnerState, weights: tf.Tensor, batch: dict, parts: int = 1
):
    """One inner update theta' = U(theta, slots, grad_theta sum_i w_i l_i(theta)).

    Args:
      parts: as of `inner_gradient`.

    Returns:
      (state', losses [B]): the per-example losses are those before the update.
    """
    gradient, losses, statistics = inner_gradient(problem, state, weights, batch, parts)
    return moved(problem, state, gradient, statistics), losses


def moved(problem: MetaProblem, state: InnerState, gradient: list, statistics: list) -> InnerState:
    """The state after the optimizer's update by an inner gradient."""
    theta, slots = optimizer_update(problem, state, gradient)
    return state._replace(theta=theta, statistics=statistics, slots=slots, age=state.age + 1)


def optimizer_update(problem: MetaProblem, state: InnerState, gradient: list) -> tuple[list, dict]:
    """(theta', slots') = U(theta, slots, gradient)."""
    # Optimizers of somebody's own need not know what members may differ in.
    hyper = (state.hyper,) if state.hyper else ()
    return problem.optimizer.update(state.theta, state.slots, gradient, state.age, *hyper)


class Cotangent(NamedTuple):
    """d outer_loss / d state: one list of tensors a part, leaves of floating type only."""

    theta: list
    statistics: list
    slots: list


def floating(tree) -> list:
    """Leaves that a derivative can go through; seeds and counters have none."""
    return [leaf for leaf in tf.nest.flatten(tree) if leaf.dtype.is_floating]


def pull_back_optimizer(
    problem: MetaProblem, state: InnerState, gradient: list, cotangent: Cotangent, first: bool
) -> tuple[list, list, list]:
    """Cotangents of (theta, slots, gradient) through U alone, element-wise arithmetic.

    `theta` here is the direct dependence of theta' on theta, the inner gradient held still. For
    the first update the first two are empty.
    """
    slots = floating(state.slots)
    with tf.GradientTape() as tape:
        tape.watch(gradient if first else [state.theta, slots, gradient])
        theta, new_slots = optimizer_update(problem, state, gradient)
        targets = [*theta, *floating(new_slots)]
    sources = ([], [], gradient) if first else (state.theta, slots, gradient)
    return tape.gradient(
        targets,
        sources,
        output_gradients=[*cotangent.theta, *cotangent.slots],
        unconnected_gradients="zero",
    )


def along(
    problem: MetaProblem, state: InnerState, direction: list, batch: dict
) -> tuple[tf.Tensor, list]:
    """Directional derivatives of the losses [B] along `direction`, a list like theta.

    With u the cotangent of the inner gradient, this is the cotangent of the weights: g is
    sum_i w_i grad l_i, so that <u, dg/dw_i> = <u, grad l_i>. Forward mode.

    Returns:
      (derivatives [B], new statistics)
    """
    with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
        losses, statistics = problem.inner_loss(state.theta, state.statistics, batch)
    return accumulator.jvp(losses, unconnected_gradients="zero"), statistics
