"""Exact meta-gradient whose temporaries do not grow with T: each update is re-run in backward."""

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import LoopedUnroll
from dr_keras.meta.problem import floating, inner_gradient
import gin


@gin.configurable
class Recompute(LoopedUnroll):
    """Saves what enters each inner update and re-runs it under nested tapes: reverse over reverse.

    Stores one state (theta, slots, non-trainable values) for each update: 12 bytes a parameter
    under Adam; with `checkpoint_every` = k, T / k + k of them. Activations of one update at a
    time. Cost in forward passes F of the inner model, outer batch = inner batch, rater not
    counted: (3T + 3 + 9(T-1) + 5) F, and (3T + 3 + 8(T-1) + 3) F with gradients saved; a
    checkpointed unroll runs the updates once more but for the last of each segment,
    3(T - ceil(T/k)) F more. With `micro_batches` above 1 a compiler cannot share the inner gradient
    between the optimizer's part and the loss's, (2T - 1) F more: save the gradients there.

    Args:
      save_gradients: off by default, because the re-run computes them anyway.
      checkpoint_every, micro_batches: see `LoopedUnroll`.

    Raises:
      ConfigurationError: as `LoopedUnroll`.
    """

    name = "recompute"

    def __init__(
        self,
        save_gradients: bool = False,
        checkpoint_every: int | str | None = None,
        micro_batches: int = 1,
    ):
        super().__init__(save_gradients, checkpoint_every, micro_batches)

    def second_order(self, problem, state, weights, batch, direction, onward):
        old = floating(state.statistics)
        with tf.GradientTape() as tape:
            tape.watch([weights, *state.theta, *old])
            gradient, _, statistics = inner_gradient(problem, state, weights, batch)
            targets = [*gradient, *floating(statistics)]
        by_theta, by_statistics, by_weights = tape.gradient(
            targets,
            (state.theta, old, weights),
            output_gradients=[*direction, *onward],
            unconnected_gradients="zero",
        )
        return (pytrees.dense(by_theta), pytrees.dense(by_statistics), by_weights, statistics)
