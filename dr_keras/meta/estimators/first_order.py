"""A biased meta-gradient without second derivatives, for ablations."""

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.unroll import LoopedUnroll
from dr_keras.meta.problem import along
import gin


@gin.configurable
class FirstOrder(LoopedUnroll):
    """BIASED: takes every inner gradient g_t for independent of theta_t. Not for real runs.

    Kept: how w_t moves g_t, <u_t, grad l_i(theta_t)> for each example; how g_t moves theta_{t+1}
    and the slots; how theta_t and the slots enter the next update directly (the identity, weight
    decay, momentum). Dropped: H_t u_t, the change of later inner gradients because an earlier
    update moved theta, and everything through non-trainable values that follow theta (moving
    statistics of normalisation). At T = 1 nothing is dropped and it is exact; from T = 2 on it is
    wrong by terms of the order of learning rate times curvature.

    Stores what `MixedMode` stores. Cost in forward passes F, as there: (3T + 3 + 3T) F with
    gradients saved.

    Args:
      save_gradients, checkpoint_every, micro_batches: as for `MixedMode`.

    Raises:
      ConfigurationError: as `LoopedUnroll`.
    """

    name = "first_order"
    biased = True
    second_passes = 3  # `along`: a forward pass and its tangents
    shared_passes = 1
    second_activations = 1

    def second_order(self, problem, state, weights, batch, direction, onward):
        by_weights, statistics = along(problem, state, direction, batch)
        nothing = pytrees.zeros_like(list(state.theta)), pytrees.zeros_like(onward)
        return *nothing, by_weights, statistics
