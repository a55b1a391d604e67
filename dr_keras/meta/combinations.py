"""From the losses of several held-out sets to the one number that is minimised.

A combination is a callable `{name of the set: loss} -> scalar`, differentiable. Of one set it is
that set's loss.
"""

from collections.abc import Mapping
import dataclasses
from typing import Protocol

import tensorflow as tf

from dr_keras.errors import ConfigurationError
import gin


class Combination(Protocol):
    """What `MetaTrainer` takes for a combination."""

    def __call__(self, losses: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The objective of the rater, of one scalar loss for each set."""

    def check(self, names) -> None:
        """Raises ConfigurationError where the settings do not fit these sets."""


@gin.configurable
@dataclasses.dataclass(frozen=True)
class weighted_mean:
    """sum_k c_k L_k / sum_k c_k.

    Attributes:
      weights: name -> c_k, not negative; None: all 1.
    """

    weights: Mapping[str, float] | None = None

    def check(self, names):
        if self.weights is None:
            return
        known, given = sorted(names), sorted(self.weights)
        if known != given:
            raise ConfigurationError(
                f"weighted_mean.weights names the sets {', '.join(given)}, and the held-out sets"
                f" are {', '.join(known)}: give each of them a weight, and no others."
            )
        if min(self.weights.values()) < 0 or not sum(self.weights.values()) > 0:
            raise ConfigurationError(
                f"weighted_mean.weights is {dict(self.weights)}: weights must not be negative, and"
                " one must be positive."
            )

    def __call__(self, losses):
        if len(losses) == 1:
            return next(iter(losses.values()))
        weights = self.weights or dict.fromkeys(losses, 1.0)
        total = sum(weights.values())
        return tf.add_n([loss * (weights[name] / total) for name, loss in losses.items()])


@gin.configurable
@dataclasses.dataclass(frozen=True)
class worst:
    """The worst of the losses, or a smooth stand-in for it: t log mean_k exp(L_k / t).

    Its gradient weighs the sets by softmax(L / t); its value lies between their mean (t large)
    and their maximum, which it is at t = 0.

    Attributes:
      temperature: in nats of loss; 0 is the exact maximum.

    Raises:
      ConfigurationError: the temperature is negative.
    """

    temperature: float = 0.0

    def __post_init__(self):
        if self.temperature < 0:
            raise ConfigurationError(
                f"worst.temperature is {self.temperature}: it must be 0 or positive."
            )

    def check(self, names):
        if len(names) < 2:
            raise ConfigurationError(
                f"MetaTrainer.combination = @worst() has the one held-out set {', '.join(names)}:"
                " name several (text_data.outer = {'a': @..., 'b': @...}), or leave it out."
            )

    def __call__(self, losses):
        values = tf.stack(list(losses.values()))
        if self.temperature == 0:
            return tf.reduce_max(values)
        temperature = tf.constant(self.temperature, values.dtype)
        count = tf.cast(tf.size(values), values.dtype)
        return temperature * (tf.reduce_logsumexp(values / temperature) - tf.math.log(count))
