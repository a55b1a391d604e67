"""Exact meta-gradient by unrolled nested tapes: reverse over reverse, nothing recomputed."""

import tensorflow as tf

from dr_keras.meta import pytrees
from dr_keras.meta.estimators.facts import Facts, ForwardPasses
from dr_keras.meta.estimators.recompute import Recompute
from dr_keras.meta.problem import InnerState, MetaProblem, inner_update
from dr_keras.meta.weighting import weight_metrics
import gin


@gin.configurable
class NestedTape(Facts):
    """Holds every intermediate value of all T updates: fastest while memory lasts.

    Cost in forward passes F of the inner model, outer batch = inner batch, rater not counted:
    (3T + 3 + 6(T-1) + 2) F; memory grows with T.
    """

    name = "nested_tape"

    def forward_passes(self, length):
        return ForwardPasses(3 * length + 6 * (length - 1) + 2, 3)

    def saved_bytes(self, state, length):
        return 0  # states lie among the intermediate values

    def temporary_bytes(self, held, state, length):
        return (2 * length - 1) * held.inner + held.outer + length * (held.rater + held.state)

    def over_devices(self):
        return Recompute(save_gradients=True)  # no tape sees through more than one piece

    def __call__(
        self,
        problem: MetaProblem,
        state: InnerState,
        eta: list,
        inner_batches: dict,
        outer_batches: dict,
        key: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, list, InnerState, dict]:
        """See `dr_keras.meta.estimators` for the interface."""
        length = next(iter(inner_batches.values())).shape[0]
        records = []
        with tf.GradientTape() as outer_tape:
            outer_tape.watch(eta)
            for batch in pytrees.unstack_batches(inner_batches, length):
                weights, scores = problem.weigh(eta, state, batch)
                state, losses = inner_update(problem, state, weights, batch)
                records.append(
                    {"scores": scores, "inner_losses": losses, **weight_metrics(weights)}
                )
            outer_losses = problem.outer_losses(state.theta, state.statistics, outer_batches)
            outer_loss = problem.combination(outer_losses)
        gradient = outer_tape.gradient(outer_loss, eta, unconnected_gradients="zero")
        metrics = {name: tf.stack([record[name] for record in records]) for name in records[0]}
        metrics["outer_losses"] = outer_losses
        return outer_loss, pytrees.dense(gradient), state, metrics
