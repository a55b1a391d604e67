"""Exact meta-gradient whose temporaries do not grow with T: each update is re-run in backward."""

import gin
import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import Cotangent, LoopedUnroll, floating
from dr_keras.meta.problem import inner_update


@gin.configurable
class Recompute(LoopedUnroll):
    """Saves what enters each inner update and re-runs it under nested tapes: reverse over reverse.

    Stores one state (theta, slots, non-trainable values) for each update: 12 bytes a parameter
    under Adam; with `checkpoint_every` = k, T / k + k of them. Activations of one update at a
    time. Cost in forward passes F of the inner model, outer batch = inner batch, rater not
    counted: (3T + 3 + 8(T-1) + 3) F; a checkpointed unroll runs the updates once more but for the
    last of each segment, (3T + 3 + 8(T-1) + 3 + 3(T - ceil(T/k))) F.

    Args:
      checkpoint_every: None, a number of updates, or "sqrt"; see `LoopedUnroll`.

    Raises:
      ConfigurationError: `checkpoint_every` is none of these.
    """

    name = "recompute"

    def __init__(self, checkpoint_every: int | str | None = None):
        super().__init__(checkpoint_every)

    def pull_back(self, problem, state, gradient, weights, batch, cotangent, first):
        statistics, slots = floating(state.non_trainable), floating(state.slots)
        sources = Cotangent([], [], []) if first else Cotangent(state.theta, statistics, slots)
        with tf.GradientTape() as tape:
            tape.watch([weights, *tf.nest.flatten(sources)])
            new, _ = inner_update(problem, state, weights, batch)
            targets = [*new.theta, *floating(new.non_trainable), *floating(new.slots)]
        before, by_weights = tape.gradient(
            targets,
            (sources, weights),
            output_gradients=tf.nest.flatten(cotangent),
            unconnected_gradients="zero",
        )
        return pytrees.map_trees(tf.convert_to_tensor, before), by_weights
