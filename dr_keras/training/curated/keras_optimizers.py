"""Keras optimizers as pure functions of values, through which a meta-gradient can go.

A Keras optimizer writes to variables, and no derivative passes through that. The ones below have a
counterpart that does the same arithmetic; all others are refused.
"""

from collections.abc import Callable
import dataclasses

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.optimizers import InnerOptimizer, adam, adam_direction, momentum, sgd

# What an optimizer of Keras may be told that has no counterpart, and the value that asks for it.
_NOT_THERE = {
    "clipnorm": None,
    "clipvalue": None,
    "use_ema": False,
    "loss_scale_factor": None,
    "gradient_accumulation_steps": None,
    "amsgrad": False,
}


@dataclasses.dataclass(frozen=True)
class keras_schedule:
    """A Keras learning rate schedule as a function of the age, in updates."""

    schedule: Callable

    def __call__(self, age: tf.Tensor, dtype=tf.float32) -> tf.Tensor:
        """Learning rate, a scalar of `dtype`, for the update at `age` (int32 scalar)."""
        return tf.cast(self.schedule(age), dtype)


@dataclasses.dataclass(frozen=True)
class keras_adam(adam):
    """Adam whose epsilon stands beside the root before its bias is corrected, as Keras has it."""

    def _direction(self, theta, slots, gradient, age):
        dtype = theta[0].dtype
        correction = 1 - tf.pow(tf.constant(self.beta_2, dtype), tf.cast(age + 1, dtype))
        epsilon = self.epsilon / tf.sqrt(correction)
        direction, slots = adam_direction(
            gradient, slots, age, self.beta_1, self.beta_2, epsilon, self.epsilon_root
        )
        if self.weight_decay:
            direction = [d + self.weight_decay * p for p, d in zip(theta, direction)]
        return direction, slots


@dataclasses.dataclass(frozen=True)
class FunctionalOptimizer:
    """What a model is trained by, as pure functions.

    Attributes:
      optimizer: of `dr_keras.meta.optimizers`.
      learning_rate: () -> the present rate, which takes the place of the optimizer's own, so that a
        callback may change it; None where the optimizer has its own.
    """

    optimizer: InnerOptimizer
    learning_rate: Callable[[], tf.Tensor] | None = None

    def hyper(self) -> dict:
        """What the update is told beside its gradient, see `InnerState`."""
        if self.learning_rate is None:
            return {}
        return {"learning_rate": tf.cast(self.learning_rate(), tf.float32)}


def functional(optimizer) -> FunctionalOptimizer:
    """The counterpart of an optimizer; one of `dr_keras.meta.optimizers` is taken as it is.

    Args:
      optimizer: keras.optimizers.SGD, Adam or AdamW, an instance; or an inner optimizer.

    Raises:
      ConfigurationError: it has no counterpart, or a setting that none has.
    """
    if not isinstance(optimizer, keras.optimizers.Optimizer):
        if callable(getattr(optimizer, "update", None)) and hasattr(optimizer, "init"):
            return FunctionalOptimizer(optimizer)
        raise ConfigurationError(
            f"The optimizer is {optimizer!r}: give keras.optimizers.SGD, Adam or AdamW, made"
            " already, or one of dr_keras.meta.optimizers, such as adam(3e-3)."
        )
    name = type(optimizer).__name__
    makers = {keras.optimizers.SGD: _sgd, keras.optimizers.Adam: _adam}
    makers[keras.optimizers.AdamW] = _adam
    if type(optimizer) not in makers:
        raise ConfigurationError(
            f"The optimizer {name} has no counterpart that a meta-gradient can go through: use"
            " keras.optimizers.SGD, Adam or AdamW, or an optimizer of pure functions"
            " (dr_keras.meta.optimizers.InnerOptimizer)."
        )
    for setting, without in _NOT_THERE.items():
        value = getattr(optimizer, setting, without)
        if value is not without and value != without:
            raise ConfigurationError(
                f"{name}.{setting} is {value}, which has no counterpart that a meta-gradient can go"
                " through: leave it out (global_clipnorm is there)."
            )
    excluded = ("_exclude_from_weight_decay_pattern", "_exclude_from_weight_decay_cache")
    if any(getattr(optimizer, attribute, None) for attribute in excluded):
        raise ConfigurationError(
            f"{name} leaves variables out of its weight decay, which has no counterpart: decay all"
            " of them, or none."
        )
    schedule, rate = _rate_of(optimizer)
    return FunctionalOptimizer(makers[type(optimizer)](optimizer, schedule), rate)


def _rate_of(optimizer) -> tuple:
    """(the functional optimizer's rate or schedule, () -> the rate that takes its place or None)"""
    given = optimizer._learning_rate
    if isinstance(given, keras.optimizers.schedules.LearningRateSchedule):
        return keras_schedule(given), None
    return 1.0, lambda: tf.convert_to_tensor(optimizer.learning_rate)


def _adam(optimizer, rate) -> InnerOptimizer:
    return keras_adam(
        learning_rate=rate,
        clip_norm=optimizer.global_clipnorm,
        beta_1=optimizer.beta_1,
        beta_2=optimizer.beta_2,
        epsilon=optimizer.epsilon,
        weight_decay=optimizer.weight_decay or 0.0,
    )


def _sgd(optimizer, rate) -> InnerOptimizer:
    if optimizer.weight_decay:
        raise ConfigurationError(
            f"SGD.weight_decay is {optimizer.weight_decay}, which has no counterpart that a"
            " meta-gradient can go through: leave it out, or use AdamW."
        )
    if not optimizer.momentum:
        return sgd(rate, optimizer.global_clipnorm)
    if isinstance(rate, keras_schedule):
        # Keras' velocity holds the rates of earlier updates, the counterpart's does not.
        raise ConfigurationError(
            "SGD with momentum and a learning rate schedule has no counterpart that a meta-gradient"
            " can go through: give a number as its learning_rate, or use Adam."
        )
    return momentum(rate, optimizer.global_clipnorm, optimizer.momentum, optimizer.nesterov)
