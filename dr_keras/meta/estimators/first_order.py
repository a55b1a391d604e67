"""A biased meta-gradient without second derivatives, for ablations."""

import gin

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import (
    Cotangent,
    LoopedUnroll,
    along,
    pull_back_optimizer,
)
from dr_keras.meta.problem import inner_gradient


@gin.configurable
class FirstOrder(LoopedUnroll):
    """BIASED: takes every inner gradient g_t for independent of theta_t. Not for real runs.

    Kept: how w_t moves g_t, <u_t, grad l_i(theta_t)> for each example; how g_t moves theta_{t+1}
    and the slots; how theta_t and the slots enter the next update directly (the identity, weight
    decay, momentum). Dropped: H_t u_t, the change of later inner gradients because an earlier
    update moved theta, and everything through non-trainable values that follow theta (moving
    statistics of normalisation). At T = 1 nothing is dropped and it is exact; from T = 2 on it is
    wrong by terms of the order of learning rate times curvature.

    Stores what `MixedMode` stores. Cost in forward passes F, as there: (3T + 3 + 2T) F with
    gradients saved.

    Args:
      save_gradients: keep the inner gradients of the forward loop, as in `MixedMode`.
      checkpoint_every: None, a number of updates, or "sqrt"; see `LoopedUnroll`.

    Raises:
      ConfigurationError: `checkpoint_every` is none of these.
    """

    name = "first_order"
    biased = True

    def __init__(self, save_gradients: bool = True, checkpoint_every: int | str | None = None):
        super().__init__(checkpoint_every)
        self.save_gradients = save_gradients

    def pull_back(self, problem, state, gradient, weights, batch, cotangent, first):
        if gradient is None:
            gradient, _, _ = inner_gradient(problem, state, weights, batch)
        theta, slots, direction = pull_back_optimizer(
            problem, state, gradient, cotangent, first
        )
        statistics = pytrees.zeros_like(cotangent.non_trainable)
        before = None if first else Cotangent(theta, statistics, slots)
        return before, along(problem, state, direction, batch)
