"""The bilevel problem as pure functions on explicit state, and the weights in between.

Estimators see nothing but this: no Keras model, no data kind, no optimizer by name.
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.combinations import Combination, weighted_mean
from dr_keras.meta.micro_batches import over_parts, recomputed_in_parts
from dr_keras.meta.optimizers import InnerOptimizer
from dr_keras.meta.weighting import Weighting, example_softmax
from dr_keras.models.objectives import Terms


class InnerState(NamedTuple):
    """All that one inner model is of its own: tensors only.

    Weights that nothing changes are in no state: the functions of a problem close over them, so
    that they exist once for all members; see `dr_keras.models.model_parts`.

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


def one_each(batch: dict) -> tf.Tensor:
    """A count of 1 for each example, [B]."""
    return tf.ones([next(iter(batch.values())).shape[0]])


@dataclasses.dataclass(frozen=True)
class MetaProblem:
    """The pure functions that a meta-gradient is made of.

    Losses, scores and weights have one shape: [B] where examples are weighed, [B, S] where tokens
    are.

    Attributes:
      score: (eta, batch) -> scores, those of an example of that example alone; phi_eta of the
        paper.
      inner_loss: (theta, statistics, batch) -> (losses, new statistics).
      objective: (name of a held-out set, theta, statistics, batch) -> `Terms`, or a scalar for a
        batch that cannot be taken in parts.
      optimizer: the inner optimizer.
      weighting: see `dr_keras.meta.weighting`.
      counts: batch -> tokens that each loss stands for, of their shape; 0 where there is nothing.
      features: (state, batch) -> further features of the batch for `score`, what the member makes
        of its examples; None: the rater sees the examples alone, as in the paper.
      through_features: whether the meta-gradient follows these features to the state before the
        update; it is not exact without.
      combination: of several held-out sets; see `dr_keras.meta.combinations`.
    """

    score: Callable
    inner_loss: Callable
    objective: Callable
    optimizer: InnerOptimizer
    weighting: Weighting = example_softmax()
    counts: Callable = one_each
    features: Callable | None = None
    through_features: bool = True
    combination: Combination = weighted_mean()

    @property
    def sees_state(self) -> bool:
        """Whether weights depend on the member's state in the meta-gradient."""
        return self.features is not None and self.through_features

    def weigh(
        self, eta: list, state: InnerState, batch: dict, parts: int = 1
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """(weights, scores) of a batch under a member before its update (paper, equation 2).

        Args:
          parts: as of `scores`.
        """
        scores = self.scores(eta, state, batch, parts)
        return self.weighting(scores, self.counts(batch)), scores

    def scores(self, eta: list, state: InnerState, batch: dict, parts: int = 1) -> tf.Tensor:
        """Scores, of so many parts of the batch one after the other.

        A derivative runs the rater on each part again: it holds the activations of one.
        """
        if self.features is None:
            return recomputed_in_parts(parts, self.score, list(eta), batch)
        seen = seen_of(state)

        def of_part(parameters, batch):
            state_here = with_seen(state, parameters[len(eta) :])
            return self.score(parameters[: len(eta)], batch | self.features(state_here, batch))

        return recomputed_in_parts(parts, of_part, [*eta, *seen], batch)

    def outer_sum(self, name: str, theta: list, statistics: list, batch: dict) -> tuple:
        """(sum, count) of a held-out batch, or part of one; its loss is their quotient."""
        terms = self.objective(name, theta, statistics, batch)
        if isinstance(terms, Terms):
            return tf.reduce_sum(terms.sums), tf.reduce_sum(terms.counts)
        return terms, tf.ones_like(terms)

    def outer_losses(self, theta: list, statistics: list, batches: dict) -> dict:
        """Name of a held-out set -> its loss, a scalar.

        Args:
          batches: name -> batch.
        """
        sums = {n: self.outer_sum(n, theta, statistics, batch) for n, batch in batches.items()}
        return {name: tf.math.divide_no_nan(*pair) for name, pair in sums.items()}

    def outer_loss(self, theta: list, statistics: list, batches: dict) -> tf.Tensor:
        """The combination of `outer_losses`."""
        return self.combination(self.outer_losses(theta, statistics, batches))


def seen_of(state: InnerState) -> list:
    """What features of the state can have derivatives by: theta and floating statistics."""
    return [*state.theta, *floating(state.statistics)]


def with_seen(state: InnerState, values: list) -> InnerState:
    """The state with these values in the place of `seen_of`."""
    values = list(values)
    theta, rest = values[: len(state.theta)], iter(values[len(state.theta) :])
    statistics = [next(rest) if leaf.dtype.is_floating else leaf for leaf in state.statistics]
    return state._replace(theta=theta, statistics=statistics)


def inner_gradient(
    problem: MetaProblem, state: InnerState, weights: tf.Tensor, batch: dict, parts: int = 1
):
    """Gradient g of the weighted loss sum_i w_i l_i(theta).

    Args:
      parts: the batch goes through the model in so many parts, one after the other; see
        `dr_keras.meta.micro_batches`. No tape outside sees through more than one.

    Returns:
      (g, a list like theta, dense; losses, of the weights' shape; new statistics)
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
    """Losses of a batch in training mode, in parts as `inner_gradient`."""

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
      (state', losses): the losses are those before the update, of the weights' shape.
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

    def plus(self, seen: list) -> "Cotangent":
        """With derivatives by what `seen_of` names added."""
        count = len(self.theta)
        theta = [a + b for a, b in zip(self.theta, seen[:count], strict=True)]
        statistics = [a + b for a, b in zip(self.statistics, seen[count:], strict=True)]
        return self._replace(theta=theta, statistics=statistics)


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
    """Directional derivatives of the losses along `direction`, a list like theta.

    With u the cotangent of the inner gradient, this is the cotangent of the weights: g is
    sum_i w_i grad l_i, so that <u, dg/dw_i> = <u, grad l_i>. Forward mode.

    Returns:
      (derivatives, of the losses' shape; new statistics)
    """
    with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
        losses, statistics = problem.inner_loss(state.theta, state.statistics, batch)
    return accumulator.jvp(losses, unconnected_gradients="zero"), statistics
