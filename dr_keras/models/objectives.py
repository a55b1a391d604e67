"""What the updated model is judged by: `(model, batch) -> Terms`, the outer level of meta-training.

`model` gives the outputs of the updated model in inference mode for any batch of its features, a
dict. An objective is any differentiable function of it and of an outer batch. Two kinds:

  - `Terms`: sums and counts. The outer loss is sum(sums) / sum(counts), so that a batch may be
    taken in parts and added up.
  - one scalar: a function of the batch as a whole, which cannot be taken in parts.

An objective that judges by the inner loss has `bound_to(loss)`, which gives it where the user named
no other; `bind` asks for it. One without a derivative, such as `choice_error`, is for estimators
that need none (`EvolutionStrategies`). One of your own needs none of this:

    @gin.configurable
    def brier_score(model, batch):
        probability = tf.nn.sigmoid(model(batch))
        missed = tf.square(probability - tf.cast(batch["label"], probability.dtype))
        return Terms(missed, tf.ones_like(missed))
"""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.losses import (
    checked_counts,
    classification_loss,
    loss_name,
    says_counts,
    token_counts,
    token_loss,
)
import gin

# Of a choice that is not there, among log-likelihoods; far below any, and its exponential is 0.
_NO_CHOICE = -1e9


class Terms(NamedTuple):
    """What an objective adds up; the loss is sum(sums) / sum(counts).

    Attributes:
      sums: [B], by example: losses, or losses times what they count.
      counts: [B], of the same dtype: 1 an example, or its tokens.
    """

    sums: tf.Tensor
    counts: tf.Tensor


def bind(objective: Callable, loss: Callable) -> Callable:
    """The objective, which judges by `loss` where it judges by a loss and names none."""
    bound_to = getattr(objective, "bound_to", None)
    return bound_to(loss) if bound_to else objective


@gin.configurable
@dataclasses.dataclass(frozen=True)
class mean_loss:
    """The mean of a loss over a held-out set.

    Attributes:
      loss: `(outputs, batch) -> losses`, [B] or [B, S]; None is the inner loss, which the trainer
        fills in.
      count_tokens: weigh an example's loss by the tokens it stands for, as losses [B, S] always
        are. By default each example counts 1, whatever its length.

    Raises:
      ConfigurationError: the loss gives another shape; or tokens are to be counted and the loss
        does not say how many there are.
    """

    loss: Callable | None = None
    count_tokens: bool = False

    def bound_to(self, loss: Callable) -> "mean_loss":
        """The same with `loss`, where none is named."""
        return self if self.loss else dataclasses.replace(self, loss=loss)

    def __call__(self, model: Callable, batch: dict) -> Terms:
        loss = self.loss
        if loss is None:
            raise ConfigurationError(
                "mean_loss judges by no loss yet: name one (mean_loss.loss = @my_loss), or call its"
                " bound_to(loss) first, as the trainer does."
            )
        if self.count_tokens and not says_counts(loss):
            raise ConfigurationError(
                f"mean_loss.count_tokens is True, and the loss {loss_name(loss)} does not say how"
                " many tokens a value stands for: decorate it with"
                " dr_keras.models.losses.counted_by, or set count_tokens to False."
            )
        losses = tf.convert_to_tensor(loss(model(batch), batch))
        counts = checked_counts(loss, losses, batch)
        if losses.shape.rank == 2:
            return _by_token(losses, counts)
        if not self.count_tokens:
            return Terms(losses, tf.ones_like(losses))
        return Terms(losses * counts, counts)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class smooth_accuracy:
    """One minus the probability of what is right: an error rate that can be differentiated.

    Of logits [B, C] and batch["label"] it is by example; of a language model's outputs and
    batch["tokens"] it is the mean over the next tokens.
    """

    def __call__(self, model: Callable, batch: dict) -> Terms:
        outputs = model(batch)
        if isinstance(outputs, dict) or outputs.shape.rank == 3:
            wrong = -tf.math.expm1(-token_loss(outputs, batch))
            return _by_token(wrong, tf.cast(token_counts(batch), wrong.dtype))
        wrong = -tf.math.expm1(-classification_loss(outputs, batch))
        return Terms(wrong, tf.ones_like(wrong))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class choice_loss:
    """Cross-entropy of a language model's pick among the choices of multiple-choice questions.

    Each choice has the log-likelihood of its tokens after the prompt, and their softmax is the
    pick. It falls where the right choice becomes likelier than the wrong ones, and not where all
    of them do.

    Attributes:
      per_token: take the mean log-likelihood of a choice's tokens, so that long choices are at no
        disadvantage; by default their sum.
      temperature: of the softmax, above 0.

    A batch has "choices" int32 [B, K, S], the tokens of prompt and choice, 0 is padding; "answers"
    [B, K, S], float or bool, which of these are the choice's; "gold" int [B], the right one. A
    choice without any answer token is none, so that questions may have fewer than K. The first
    token of a row is never predicted and so cannot be an answer.

    Raises:
      ConfigurationError: the temperature is not above 0, or the batch has other features or shapes.
    """

    per_token: bool = False
    temperature: float = 1.0

    def __post_init__(self):
        if not self.temperature > 0:
            raise ConfigurationError(
                f"choice_loss.temperature is {self.temperature}: it must be above 0."
            )

    def __call__(self, model: Callable, batch: dict) -> Terms:
        likelihoods = _likelihoods(model, batch, "choice_loss", self.per_token, self.temperature)
        wrong = tf.nn.sparse_softmax_cross_entropy_with_logits(
            labels=batch["gold"], logits=likelihoods
        )
        return Terms(wrong, tf.ones_like(wrong))


@gin.configurable
@dataclasses.dataclass(frozen=True)
class choice_error:
    """Share of multiple-choice questions of which another choice than the right one is likeliest.

    One minus the accuracy. It has no derivative: for `EvolutionStrategies`.

    Attributes:
      per_token: as of `choice_loss`, whose batches it takes. Choices equally likely are a miss.

    Raises:
      ConfigurationError: the batch has other features or shapes.
    """

    per_token: bool = False

    def __call__(self, model: Callable, batch: dict) -> Terms:
        return _misses(_likelihoods(model, batch, "choice_error", self.per_token), batch["gold"])


@gin.configurable
@dataclasses.dataclass(frozen=True)
class error_rate:
    """Share of examples of which the largest of the logits [B, C] is not that of batch["label"].

    One minus the accuracy. It has no derivative: for `EvolutionStrategies`.
    """

    def __call__(self, model: Callable, batch: dict) -> Terms:
        return _misses(model(batch), batch["label"])


def _misses(logits: tf.Tensor, right: tf.Tensor) -> Terms:
    """1 for each row of which another column is at least as large as the right one's.

    NaN where a logit is: nothing is larger than that, and an error rate would hide it.
    """
    own = tf.one_hot(right, logits.shape[-1], on_value=True, off_value=False, dtype=tf.bool)
    value = tf.reduce_sum(tf.where(own, logits, tf.zeros_like(logits)), axis=-1, keepdims=True)
    missed = tf.cast(tf.reduce_any((logits >= value) & ~own, axis=-1), logits.dtype)
    known = tf.reduce_all(tf.math.is_finite(logits), axis=-1)
    missed = tf.where(known, missed, tf.constant(float("nan"), logits.dtype))
    return Terms(missed, tf.ones_like(missed))


def _likelihoods(
    model: Callable, batch: dict, called: str, per_token: bool, temperature: float = 1.0
) -> tf.Tensor:
    """Log-likelihoods of the choices [B, K], divided; `_NO_CHOICE` where there is none."""
    choices, answers = _choices(batch, called)
    count, length = choices.shape[1:]
    rows = {"tokens": tf.reshape(choices, [-1, length])}
    losses = token_loss(model(rows), rows)
    asked = tf.reshape(tf.cast(answers, losses.dtype), [-1, length])
    asked *= tf.cast(token_counts(rows), losses.dtype)
    likelihoods = -tf.reduce_sum(losses * asked, axis=1)
    sizes = tf.reduce_sum(asked, axis=1)
    if per_token:
        likelihoods /= tf.maximum(sizes, tf.ones_like(sizes))
    likelihoods = tf.where(sizes > 0, likelihoods / temperature, _NO_CHOICE)
    return tf.reshape(likelihoods, [-1, count])


def _choices(batch: dict, called: str) -> tuple[tf.Tensor, tf.Tensor]:
    wanted = ("choices", "answers", "gold")
    if missing := [name for name in wanted if name not in batch]:
        raise ConfigurationError(
            f"{called} reads the features {', '.join(wanted)}, and the batch has"
            f" {sorted(batch)}: {missing[0]} is missing. Name another objective for this held-out"
            " set, or give it multiple-choice questions."
        )
    choices, answers = (tf.convert_to_tensor(batch[name]) for name in wanted[:2])
    if choices.shape.rank != 3 or not answers.shape.is_compatible_with(choices.shape):
        raise ConfigurationError(
            f"{called} reads choices [B, K, S] and answers of the same shape; these are"
            f" {choices.shape} and {answers.shape}."
        )
    return choices, answers


def _by_token(values: tf.Tensor, counts: tf.Tensor) -> Terms:
    return Terms(tf.reduce_sum(values * counts, axis=1), tf.reduce_sum(counts, axis=1))
