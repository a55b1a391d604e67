"""Inner optimizers: pure functions of (theta, slots, gradient, age), differentiable twice.

Keras optimizers write to variables, through which no gradient flows; these return new values.
`theta` and gradients are lists of tensors of one floating dtype, `age` is the member's own count
of updates done (int32 scalar), and bias corrections and schedules follow it.
"""

import dataclasses
from typing import Protocol

import tensorflow as tf

from dr_keras.meta import pytrees, schedules
import gin


class InnerOptimizer(Protocol):
    """What an inner optimizer offers to the estimators."""

    def init(self, theta: list) -> dict:
        """Slots for `theta`: a dict of lists, empty where the optimizer has none."""

    def update(self, theta: list, slots: dict, gradient: list, age: tf.Tensor) -> tuple:
        """(theta', slots') after one update."""


@dataclasses.dataclass(frozen=True)
class _Optimizer:
    """Fields and steps that all inner optimizers share."""

    learning_rate: float | schedules.Schedule = 1e-3
    clip_norm: float | None = None  # global norm of the inner gradient; None: not clipped

    def _rate(self, theta, age):
        return schedules.as_schedule(self.learning_rate)(age, theta[0].dtype)

    def _clipped(self, gradient):
        return pytrees.clip_by_global_norm(gradient, self.clip_norm)


def adam_direction(gradient, slots, age, beta_1, beta_2, epsilon, epsilon_root):
    """Adam's bias-corrected direction and its new slots {"m", "v"} (Kingma and Ba, 2015).

    `age` is the number of updates done before this one, int scalar; `epsilon_root` is added
    inside the root, `epsilon` outside.
    """
    dtype = gradient[0].dtype
    count = tf.cast(age + 1, dtype)
    correction_1 = 1 - tf.pow(tf.constant(beta_1, dtype), count)
    correction_2 = 1 - tf.pow(tf.constant(beta_2, dtype), count)
    m = [beta_1 * a + (1 - beta_1) * g for a, g in zip(slots["m"], gradient)]
    v = [beta_2 * a + (1 - beta_2) * tf.square(g) for a, g in zip(slots["v"], gradient)]
    direction = [
        (a / correction_1) / (tf.sqrt(b / correction_2 + epsilon_root) + epsilon)
        for a, b in zip(m, v)
    ]
    return direction, {"m": m, "v": v}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class sgd(_Optimizer):
    """theta - lr * g."""

    def init(self, theta):
        return {}

    def update(self, theta, slots, gradient, age):
        rate = self._rate(theta, age)
        gradient = self._clipped(gradient)
        return [p - rate * g for p, g in zip(theta, gradient)], slots


@gin.configurable
@dataclasses.dataclass(frozen=True)
class momentum(_Optimizer):
    """Heavy-ball momentum: v = beta v + g; theta - lr * v (Nesterov on request)."""

    beta: float = 0.9
    nesterov: bool = False

    def init(self, theta):
        return {"velocity": pytrees.zeros_like(theta)}

    def update(self, theta, slots, gradient, age):
        rate = self._rate(theta, age)
        gradient = self._clipped(gradient)
        velocity = [self.beta * v + g for v, g in zip(slots["velocity"], gradient)]
        step = velocity
        if self.nesterov:
            step = [self.beta * v + g for v, g in zip(velocity, gradient)]
        return [p - rate * s for p, s in zip(theta, step)], {"velocity": velocity}


@gin.configurable
@dataclasses.dataclass(frozen=True)
class adam(_Optimizer):
    """Adam with a second epsilon inside the root.

    Where a gradient is exactly 0 (an embedding row the batch never uses), v is 0 and the
    derivative of sqrt(v) is infinite: the meta-gradient would be NaN. `epsilon_root` keeps it
    finite; it is added after the bias correction.
    """

    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8
    epsilon_root: float = 1e-12
    weight_decay: float = 0.0  # decoupled: `adamw` is this class with another default

    def init(self, theta):
        return {"m": pytrees.zeros_like(theta), "v": pytrees.zeros_like(theta)}

    def update(self, theta, slots, gradient, age):
        rate = self._rate(theta, age)
        direction, slots = adam_direction(
            self._clipped(gradient),
            slots,
            age,
            self.beta_1,
            self.beta_2,
            self.epsilon,
            self.epsilon_root,
        )
        if self.weight_decay:
            direction = [d + self.weight_decay * p for p, d in zip(theta, direction)]
        return [p - rate * d for p, d in zip(theta, direction)], slots


@gin.configurable
@dataclasses.dataclass(frozen=True)
class adamw(adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): lr * decay * theta."""

    weight_decay: float = 0.1
