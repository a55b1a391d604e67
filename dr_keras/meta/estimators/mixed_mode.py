"""Exact meta-gradient by forward over reverse: MixFlow-MG (Kemaev et al., 2025)."""

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import LoopedUnroll
from dr_keras.meta.problem import floating
import gin


@gin.configurable
class MixedMode(LoopedUnroll):
    """Pulls an update back with one forward-over-reverse pass instead of nested reverse passes.

    With u the cotangent of the inner gradient g, an update needs H u, H the Hessian of the
    weighted loss, and <u, grad l_i> for each example. Both are derivatives along u, of g and of
    the losses: one `ForwardAccumulator` around the tape of g. Activations of second order are
    never held. u itself comes from the optimizer's arithmetic, g being an input of it.

    Stores one state for each update (12 bytes a parameter under Adam), and the inner gradients (4
    bytes) unless `save_gradients` is off; with `checkpoint_every` = k, T / k states, and k of
    both. Cost in forward passes F, as in `Recompute`: an update pulled back is 8 F, the first of
    the unroll 3 F: (3T + 3 + 8(T-1) + 3) F with gradients saved.

    Args:
      save_gradients: keep the inner gradients of the forward loop. An optimizer that is linear in
        them (SGD, momentum, without a clip) has no use for them, and XLA drops their
        recomputation: turn it off there.
      checkpoint_every, micro_batches: see `LoopedUnroll`.

    Raises:
      ConfigurationError: as `LoopedUnroll`.
    """

    name = "mixed_mode"

    def second_order(self, problem, state, weights, batch, direction, onward):
        old = floating(state.statistics)
        sources = [*state.theta, *old]
        with tf.autodiff.ForwardAccumulator(state.theta, direction) as accumulator:
            with tf.GradientTape(persistent=bool(old)) as tape:
                tape.watch(sources)
                losses, statistics = problem.inner_loss(state.theta, state.statistics, batch)
                weighted = tf.reduce_sum(tf.cast(weights, losses.dtype) * losses)
                new = floating(statistics)
            first_order = tape.gradient(weighted, sources, unconnected_gradients="zero")
            # By the symmetry of second derivatives, what <u, g> owes to theta and to the
            # statistics is the change of their gradients along u.
            found = accumulator.jvp(pytrees.dense(first_order), unconnected_gradients="zero")
            by_weights = accumulator.jvp(losses, unconnected_gradients="zero")
        if old:
            through = tape.gradient(
                new, sources, output_gradients=onward, unconnected_gradients="zero"
            )
            found = [a + b for a, b in zip(found, pytrees.dense(through), strict=True)]
        count = len(state.theta)
        return found[:count], found[count:], by_weights, statistics
