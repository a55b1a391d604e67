"""Optimizers of both levels as pure functions, and learning rates as functions of an age.

Inner optimizers map (theta, slots, gradient, age) to new values and can be differentiated twice:
Keras' write to variables, through which no gradient flows. `theta` and gradients are lists of
tensors of one floating dtype, `age` is the member's own count of updates done (int32 scalar), and
bias corrections and schedules follow it, so that a member that was just initialised warms up while
an older one decays.

The outer optimizer is an Adam of its own for every member, whose updates are averaged (paper,
section 4 and appendix), so that members whose meta-gradients differ in scale (young and old ones)
have the same say. Global-norm clipping comes first, decoupled weight decay last; its schedule
counts meta-steps.
"""

import dataclasses
import inspect
import math
from typing import Protocol

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
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


def as_schedule(value: float | Schedule, warmup: int = 0) -> Schedule:
    """A number becomes a `constant_rate` with that warm-up; a schedule is returned as it is."""
    return constant_rate(float(value), warmup) if isinstance(value, (int, float)) else value


def peak_rate(value: float | Schedule) -> float:
    """The learning rate that a schedule is scaled to, so that members can have another.

    Raises:
      ConfigurationError: a schedule of somebody's own that has no `learning_rate`.
    """
    peak = value if isinstance(value, (int, float)) else getattr(value, "learning_rate", None)
    if peak is None:
        raise ConfigurationError(
            f"The schedule {value!r} has no learning_rate, which rates of the members' own take the"
            " place of: give it that attribute, the rate that it is scaled to."
        )
    return peak


def check_own_rates(optimizer: "InnerOptimizer") -> None:
    """Raises ConfigurationError where members cannot have learning rates of their own."""
    try:
        inspect.signature(optimizer.update).bind([], {}, [], 0, {})
    except TypeError as error:
        raise ConfigurationError(
            f"learning_rates: the optimizer {type(optimizer).__name__} has one rate for all"
            " members: let its update take a further argument hyper, whose 'learning_rate' it uses."
        ) from error
    if hasattr(optimizer, "learning_rate") and not peak_rate(optimizer.learning_rate) > 0:
        raise ConfigurationError(
            f"learning_rates take the place of the optimizer's rate on its schedule, and that of"
            f" {type(optimizer).__name__} is {optimizer.learning_rate}: make it positive."
        )


class InnerOptimizer(Protocol):
    """What an inner optimizer offers to the estimators."""

    def init(self, theta: list) -> dict:
        """Slots for `theta`: a dict of lists, empty where the optimizer has none."""

    def update(
        self, theta: list, slots: dict, gradient: list, age: tf.Tensor, hyper: dict | None = None
    ) -> tuple:
        """(theta', slots') after one update.

        Args:
          hyper: scalars of the member's own by name, see `InnerState`; an optimizer is handed
            them only where there are some.
        """


@dataclasses.dataclass(frozen=True)
class _Optimizer:
    """Fields and steps that all inner optimizers share.

    A subclass has `init` and `_direction`: (theta, slots, clipped gradient, age) -> (direction,
    slots').
    """

    learning_rate: float | Schedule = 1e-3
    clip_norm: float | None = None  # global norm of the inner gradient; None: not clipped

    def update(self, theta, slots, gradient, age, hyper=None):
        dtype = theta[0].dtype
        rate = as_schedule(self.learning_rate)(age, dtype)
        if hyper and "learning_rate" in hyper:  # its own rate, on the same schedule
            rate *= tf.cast(hyper["learning_rate"], dtype) / peak_rate(self.learning_rate)
        gradient = pytrees.clip_by_global_norm(gradient, self.clip_norm)
        direction, slots = self._direction(theta, slots, gradient, age)
        return [p - rate * d for p, d in zip(theta, direction)], slots


def adam_slots(parameters: list) -> dict:
    """Slots of Adam before any update."""
    return {"m": pytrees.zeros_like(parameters), "v": pytrees.zeros_like(parameters)}


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

    def _direction(self, theta, slots, gradient, age):
        return gradient, slots


@gin.configurable
@dataclasses.dataclass(frozen=True)
class momentum(_Optimizer):
    """Heavy-ball momentum: v = beta v + g; theta - lr * v (Nesterov on request)."""

    beta: float = 0.9
    nesterov: bool = False

    def init(self, theta):
        return {"velocity": pytrees.zeros_like(theta)}

    def _direction(self, theta, slots, gradient, age):
        step = velocity = [self.beta * v + g for v, g in zip(slots["velocity"], gradient)]
        if self.nesterov:
            step = [self.beta * v + g for v, g in zip(velocity, gradient)]
        return step, {"velocity": velocity}


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
        return adam_slots(theta)

    def _direction(self, theta, slots, gradient, age):
        direction, slots = adam_direction(
            gradient, slots, age, self.beta_1, self.beta_2, self.epsilon, self.epsilon_root
        )
        if self.weight_decay:
            direction = [d + self.weight_decay * p for p, d in zip(theta, direction)]
        return direction, slots


@gin.configurable
@dataclasses.dataclass(frozen=True)
class adamw(adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019): lr * decay * theta."""

    weight_decay: float = 0.1


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

    learning_rate: float | Schedule = 1e-3
    warmup: int = 100
    clip_norm: float | None = 0.01
    weight_decay: float = 0.1
    beta_1: float = 0.9
    beta_2: float = 0.999
    epsilon: float = 1e-8

    def init(self, eta: list) -> dict:
        """Slots of one member."""
        return adam_slots(eta)

    def rate(self, meta_step: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        """Learning rate at `meta_step`, counted from 0."""
        return as_schedule(self.learning_rate, self.warmup)(meta_step, dtype)

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
