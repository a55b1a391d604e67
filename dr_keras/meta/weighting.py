"""From the scores of a batch to the weights of its losses.

A weighting is a callable `(scores, counts) -> weights`, all of one shape, over a whole batch: [B]
where examples are weighed, [B, S] where tokens are. `counts` says how many tokens a loss stands
for, 0 where there is nothing. Weights are not negative and sum to 1.
"""

import dataclasses
from typing import Protocol

import tensorflow as tf

from dr_keras.errors import ConfigurationError
import gin

WITHIN = ("batch", "window")


class Weighting(Protocol):
    """What `MetaTrainer` takes for a weighting."""

    def __call__(self, scores: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
        """Weights of a whole batch's scores."""


def _check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ConfigurationError(f"temperature is {temperature}: it must be positive.")


def _masked_softmax(scores: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the last axis of what is real; 0 elsewhere, and where nothing is real."""
    lowest = tf.constant(scores.dtype.min / 2, scores.dtype)
    return tf.nn.softmax(tf.where(mask, scores, lowest)) * tf.cast(mask, scores.dtype)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class example_softmax:
    """w = softmax over the batch of the scores [B] (paper, equation 2).

    Attributes:
      temperature: scores are divided by it first; 1 in the paper.
      count_tokens: an example's weight is also proportional to the tokens that its loss is the mean
        of, so that with equal scores every token of the batch has the same weight. False in the
        paper, whose windows are full: there it changes nothing.
      floor: share, in [0, 1), of its weight at equal scores that every example keeps, whatever it
        scores: what is drawn with a share p of the batches has at least floor * p of their weight.
        For raters whose weights collapse, as those of sources do. Not in the paper.

    Raises:
      ConfigurationError: the temperature is not positive, or the floor is out of its range; scores
        by token.
    """

    temperature: float = 1.0
    count_tokens: bool = False
    floor: float = 0.0
    rank = 1

    def __post_init__(self):
        _check_temperature(self.temperature)
        if not 0 <= self.floor < 1:
            raise ConfigurationError(
                f"example_softmax.floor is {self.floor}: it must be at least 0 and below 1."
            )

    def __call__(self, scores, counts):
        weights = self._softmax(scores / tf.constant(self.temperature, scores.dtype), counts)
        if not self.floor:
            return weights
        floor = tf.constant(self.floor, scores.dtype)
        return (1 - floor) * weights + floor * self._softmax(tf.zeros_like(scores), counts)

    def _softmax(self, scores, counts):
        if not self.count_tokens:
            return tf.nn.softmax(scores)
        counts = tf.cast(counts, scores.dtype)
        real = counts > 0
        return _masked_softmax(scores + tf.math.log(tf.where(real, counts, 1)), real)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class token_softmax:
    """Softmax of the scores [B, S] over the real tokens. Not in the paper.

    Attributes:
      temperature: scores are divided by it first.
      within: "batch", over all tokens of the batch; "window", over those of each window, whose
        weights sum to 1 / B: then scores choose among tokens and not among windows.

    Raises:
      ConfigurationError: the temperature is not positive, or no such `within`.
    """

    temperature: float = 1.0
    within: str = "batch"
    rank = 2

    def __post_init__(self):
        _check_temperature(self.temperature)
        if self.within not in WITHIN:
            raise ConfigurationError(
                f"token_softmax.within is {self.within!r}: it must be one of {', '.join(WITHIN)}."
            )

    def __call__(self, scores, counts):
        scores /= tf.constant(self.temperature, scores.dtype)
        real = counts > 0
        if self.within == "batch":
            flat = _masked_softmax(tf.reshape(scores, [-1]), tf.reshape(real, [-1]))
            return tf.reshape(flat, scores.shape)
        windows = tf.reduce_sum(tf.cast(tf.reduce_any(real, axis=-1), scores.dtype))
        return _masked_softmax(scores, real) / tf.maximum(windows, 1)


def masked_mean(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Mean of values [B] over examples, or of [B, S] over the tokens that are real.

    Args:
      counts: of the same shape, 0 where nothing is real.
    """
    if counts.shape.rank < 2:
        return tf.reduce_mean(values)
    real = tf.cast(counts > 0, values.dtype)
    return tf.math.divide_no_nan(tf.reduce_sum(values * real), tf.reduce_sum(real))


def share_kept(weights: tf.Tensor, equal: tf.Tensor) -> tf.Tensor:
    """What share of a batch is kept, as it were, by weights w against those of equal scores, q.

    1 / sum w^2 / q, the effective sample size as a share of the batch (Kish, 1965): 1 where w is q,
    and k / B where k of B examples share all the weight. It falls where weights differ, and not
    where all scores do: the mean of gates in [0, 1] would fall with their common level, which
    changes no weight.

    Args:
      weights, equal: of one shape, each with the sum 1; `equal` is 0 only where `weights` is.

    Returns:
      A scalar in (0, 1]; 1 where all is 0.
    """
    ratio = tf.math.divide_no_nan(weights, equal)
    squares = tf.reduce_sum(weights * ratio)
    return tf.where(squares > 0, 1 / tf.where(squares > 0, squares, 1), tf.ones_like(squares))


def weight_metrics(weights: tf.Tensor) -> dict[str, tf.Tensor]:
    """Entropy in nats (log B when uniform) and effective sample size 1 / sum w^2.

    Of weights of any shape: in examples, or in tokens.
    """
    safe = tf.maximum(weights, tf.constant(1e-30, weights.dtype))
    return {
        "weight_entropy": -tf.reduce_sum(weights * tf.math.log(safe)),
        "effective_sample_size": 1 / tf.reduce_sum(tf.square(weights)),
    }
