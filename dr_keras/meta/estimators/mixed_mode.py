"""Exact meta-gradient by forward over reverse: MixFlow-MG (Kemaev et al., 2025)."""

import gin
import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import (
    Cotangent,
    LoopedUnroll,
    along,
    floating,
    pull_back_optimizer,
)
from dr_keras.meta.problem import inner_gradient


@gin.configurable
class MixedMode(LoopedUnroll):
    """Pulls an update back with one forward-over-reverse pass instead of nested reverse passes.

    With u the cotangent of the inner gradient g, an update needs H u, H the Hessian of the
    weighted loss, and <u, grad l_i> for each example. Both are derivatives along u, of g and of
    the losses: one `ForwardAccumulator` around the tape of g. Activations of second order are
    never held. u itself comes from the optimizer's arithmetic, g being an input of it.

    Stores one state for each update (12 bytes a parameter under Adam), and the inner gradients (4
    bytes) unless `save_gradients` is off; with `checkpoint_every` = k, T / k states, and k of
    both. Cost in forward passes F, as in `Recompute`: an update pulled back is 6 F, the first of
    the unroll 2 F, and 3 F more each where g is computed again:
    (3T + 3 + 6(T-1) + 2) F with gradients saved.

    Args:
      save_gradients: keep the inner gradients of the forward loop. An optimizer that is linear in
        them (SGD, momentum, without a clip) has no use for them, and XLA drops their
        recomputation: turn it off there.
      checkpoint_every: None, a number of updates, or "sqrt"; see `LoopedUnroll`.

    Raises:
      ConfigurationError: `checkpoint_every` is none of these.
    """

    name = "mixed_mode"

    def __init__(self, save_gradients: bool = True, checkpoint_every: int | str | None = None):
        super().__init__(checkpoint_every)
        self.save_gradients = save_gradients

    def pull_back(self, problem, state, gradient, weights, batch, cotangent, first):
        if gradient is None:
            gradient, _, _ = inner_gradient(problem, state, weights, batch)
        direct, by_slots, direction = pull_back_optimizer(
            problem, state, gradient, cotangent, first
        )
        if first:
            return None, along(problem, state, direction, batch)

        statistics = floating(state.non_trainable)
        sources = [*state.theta, *statistics]
        with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
            with tf.GradientTape(persistent=bool(statistics)) as tape:
                tape.watch(sources)
                losses, non_trainable = problem.inner_loss(
                    state.theta, state.non_trainable, batch
                )
                weighted = tf.reduce_sum(tf.cast(weights, losses.dtype) * losses)
                new_statistics = floating(non_trainable)
            first_order = tape.gradient(weighted, sources, unconnected_gradients="zero")
            # By the symmetry of second derivatives, what <u, g> owes to theta and to the
            # statistics is the change of their gradients along u.
            second_order = accumulator.jvp(
                pytrees.dense(first_order), unconnected_gradients="zero"
            )
            by_weights = accumulator.jvp(losses, unconnected_gradients="zero")
        if statistics:
            through = tape.gradient(
                new_statistics,
                sources,
                output_gradients=cotangent.non_trainable,
                unconnected_gradients="zero",
            )
            second_order = [a + b for a, b in zip(second_order, pytrees.dense(through))]
        count = len(state.theta)
        theta = [a + b for a, b in zip(direct, second_order[:count])]
        return Cotangent(theta, second_order[count:], by_slots), by_weights
