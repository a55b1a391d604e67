"""Learning rates as functions of an age: the number of updates done before this one.

Inner schedules count the member's own age, so that a member that was just initialised warms up
while an older one decays; the outer schedule counts meta-steps.
"""

import dataclasses
import math
from typing import Protocol

import tensorflow as tf

import gin


class Schedule(Protocol):
    """A learning rate that depends on an age."""

    def __call__(self, age: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        """Learning rate, a scalar of `dtype`, for the update at `age` (int32 scalar)."""


@gin.configurable
@dataclasses.dataclass(frozen=True)
class constant_rate:
    """`learning_rate` at any age, after a linear warm-up over `warmup` updates."""

    learning_rate: float
    warmup: int = 0

    def __call__(self, age: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        """Learning rate, a scalar of `dtype`, for the update at `age` (int32 scalar)."""
        return _warmup(age, self.warmup, dtype) * tf.constant(self.learning_rate, dtype)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class cosine_rate:
    """Linear warm-up, then half a cosine from `learning_rate` down to `final_fraction` of it.

    Past `decay_steps` the rate stays at its floor.
    """

    learning_rate: float
    decay_steps: int
    warmup: int = 0
    final_fraction: float = 0.1

    def __call__(self, age: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        span = max(1, self.decay_steps - self.warmup)
        progress = tf.cast(age - self.warmup, dtype) / tf.cast(span, dtype)
        progress = tf.clip_by_value(progress, tf.zeros([], dtype), tf.ones([], dtype))
        wave = (1 + tf.cos(tf.constant(math.pi, dtype) * progress)) / 2
        floor = tf.constant(self.final_fraction, dtype)
        return (
            _warmup(age, self.warmup, dtype)
            * tf.constant(self.learning_rate, dtype)
            * (floor + (1 - floor) * wave)
        )


def _warmup(age, steps: int, dtype):
    if steps <= 0:
        return tf.ones([], dtype)
    return tf.minimum(tf.ones([], dtype), tf.cast(age + 1, dtype) / tf.cast(steps, dtype))


def as_schedule(value):
    """A number becomes `constant_rate(number)`; a schedule is returned as it is."""
    return constant_rate(float(value)) if isinstance(value, (int, float)) else value
