"""The outer optimizer: an Adam of its own for every member, their updates averaged.

Paper, section 4 and appendix: each inner model's meta-gradient goes through its own Adam, and the
resulting updates are averaged, so that members whose meta-gradients differ in scale (young and
old ones) have the same say. Global-norm clipping comes first, decoupled weight decay last.
"""

import dataclasses

import tensorflow as tf

from dr_keras.meta import pytrees, schedules
from dr_keras.meta.inner_optimizers import adam_direction
import gin


@gin.configurable
@dataclasses.dataclass(frozen=True)
class OuterAdam:
    """Adam on meta-gradients.

    Attributes:
      learning_rate: a number or a schedule of the meta-step; not published by the paper.
      warmup: meta-steps of linear warm-up (the paper: 100), applied to a plain number.
      clip_norm: global norm of each member's meta-gradient (the paper: 0.01); None: not clipped.
      weight_decay: decoupled, times the learning rate (the paper: 0.1).
    """

    learning_rate: float | schedules.Schedule = 1e-3
    warmup: int = 100
    clip_norm: float | None = 0.01
    weight_decay: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def init(self, eta: list) -> dict:
        """Slots of one member."""
        return {"m": pytrees.zeros_like(eta), "v": pytrees.zeros_like(eta)}

    def rate(self, meta_step: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        """Learning rate at `meta_step`, counted from 0."""
        schedule = self.learning_rate
        if isinstance(schedule, (int, float)):
            schedule = schedules.constant_rate(float(schedule), self.warmup)
        return schedule(meta_step, dtype)

    def member_update(self, gradient: list, slots: dict, count: tf.Tensor) -> tuple[list, dict]:
        """Adam's direction for one member's meta-gradient, without learning rate.

        Args:
          gradient: list like eta.
          slots: that member's own.
          count: int scalar, meta-gradients this member has contributed before.

        Returns:
          (direction, slots'): eta moves by -rate * mean of the members' directions.
        """
        gradient = pytrees.clip_by_global_norm(gradient, self.clip_norm)
        return adam_direction(
            gradient, slots, count, self.beta_1, self.beta_2, self.epsilon, epsilon_root=0.0
        )

    def apply(self, eta: list, direction: list, meta_step: tf.Tensor) -> list:
        """eta - rate * (direction + weight_decay * eta)."""
        rate = self.rate(meta_step, eta[0].dtype)
        return [
            p - rate * (d + tf.constant(self.weight_decay, p.dtype) * p)
            for p, d in zip(eta, direction)
        ]
