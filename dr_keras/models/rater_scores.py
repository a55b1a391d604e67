"""What a rater is handed beside a batch's features, and one score an example of what it gives."""

from collections.abc import Callable, Collection, Mapping
import dataclasses
from typing import Any

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.inner_state import FEATURES, OF_MEMBER
from dr_keras.models.losses import checked_counts
from dr_keras.models.model_inputs import model_inputs


def state_read(rater: keras.Model, columns: Collection[str] = ()) -> tuple[str, ...]:
    """Which features of an inner model a rater reads, by the names of its inputs.

    Args:
      rater: Keras model.
      columns: of the data; an input that one is named after is that column.
    """
    names = [tensor.name for tensor in getattr(rater, "inputs", None) or []]
    return tuple(name for name in FEATURES if name in names and name not in columns)


def reads_by_token(rater: keras.Model) -> bool:
    """Whether a rater reads losses of tokens, and not of examples."""
    return any(len(t.shape) == 2 for t in rater.inputs if t.name.endswith("_loss"))


def check_can_score(rater: keras.Model, columns: Collection[str], with_reference: bool) -> None:
    """Refuses a rater that reads what only meta-training knows.

    Args:
      rater, columns: as for `state_read`.
      with_reference: whether a reference model is at hand.

    Raises:
      ConfigurationError: it reads the loss under a member, or its age; or the loss under a
        reference model, and there is none.
    """
    read = state_read(rater, columns)
    if of_member := [name for name in read if name in OF_MEMBER]:
        raise ConfigurationError(
            f"The rater '{rater.name}' reads {' and '.join(map(repr, of_member))} of the model that"
            " is being trained, which nothing outside that training knows: it cannot be exported,"
            " or score and filter by itself. Use it inside training, where a pipeline has"
            f" {' and '.join(map(repr, of_member))} as columns; or train a rater that reads"
            " 'reference_loss' alone (text_rater.features = [\"reference_loss\"]), or none of them."
        )
    if "reference_loss" in read and not with_reference:
        raise ConfigurationError(
            f"The rater '{rater.name}' reads 'reference_loss', the loss under a reference model:"
            " give that model and its loss beside the rater, or a column of this name."
        )


@dataclasses.dataclass(frozen=True, eq=False)
class ReferenceLoss:
    """What a frozen reference model loses on examples: `batch -> losses`.

    Attributes:
      model: Keras model from a batch's features to outputs; called in inference mode.
      loss: `(outputs, batch) -> losses`, [B] or [B, S].
    """

    model: keras.Model
    loss: Callable

    def __call__(self, batch: Mapping, per_token: bool = False) -> tf.Tensor:
        """Losses [B, S] where `per_token`, else [B]: the mean of an example's tokens.

        Raises:
          ConfigurationError: losses by token are asked for, and the loss is by example.
        """
        outputs = self.model(model_inputs(self.model, batch), training=False)
        losses = tf.convert_to_tensor(self.loss(outputs, batch))
        counts = checked_counts(self.loss, losses, batch)
        if losses.shape.rank == 1 and per_token:
            raise ConfigurationError(
                "The rater reads the reference model's losses by token, and its loss is by example:"
                " use one by token, such as token_loss."
            )
        if per_token or losses.shape.rank == 1:
            return losses
        return mean_of_tokens(losses, counts)

    def reads(self, features: Mapping[str, Any]) -> list[str]:
        """Which features model and loss read, of some that are there; rows [N, ...], N >= 1."""
        rows = _Recording({name: tf.constant(values[:1]) for name, values in features.items()})
        self(rows)
        return [name for name in features if name in rows.read]

    def joined(self, rater: keras.Model, batch: Mapping) -> dict:
        """The batch, and the loss in it where the rater reads it and the batch has none."""
        if "reference_loss" not in state_read(rater, batch):
            return dict(batch)
        return {**batch, "reference_loss": self(batch, reads_by_token(rater))}


class _Recording(dict):
    """A batch that keeps the names of the features that were read."""

    def __init__(self, features):
        super().__init__(features)
        self.read: set[str] = set()

    def __getitem__(self, name):
        self.read.add(name)
        return super().__getitem__(name)


def real_tokens(batch: Mapping) -> tf.Tensor:
    """bool [B, S], where a window of tokens is not padding.

    Raises:
      ConfigurationError: the batch has no tokens.
    """
    if "tokens" not in batch:
        raise ConfigurationError(
            "The rater gives several scores an example, and an example's score is their mean over"
            f" its real tokens; but the features are {sorted(batch)}, without 'tokens'. Say by a"
            " function of the batch, mask, which scores count: [B, S]."
        )
    return tf.not_equal(batch["tokens"], 0)


def mean_of_tokens(values: tf.Tensor, counts: tf.Tensor) -> tf.Tensor:
    """Means [B] of values [B, S] where `counts`, of any type, is not 0; 0 of a row without any."""
    counts = tf.cast(counts, values.dtype)
    total = tf.reduce_sum(counts, axis=1)
    return tf.reduce_sum(values * counts, axis=1) / tf.maximum(total, tf.ones_like(total))


def example_scores(scores, batch: Mapping, mask: Callable = real_tokens) -> tf.Tensor:
    """One score an example, [B], of what a rater gives.

    Args:
      scores: [B], [B, 1], or [B, S] by token.
      batch: what the rater read.
      mask: batch -> [B, S], which scores of tokens count.

    Raises:
      ConfigurationError: the scores have another shape.
    """
    scores = tf.convert_to_tensor(scores)
    if scores.shape.rank == 1 or (scores.shape.rank == 2 and scores.shape[1] == 1):
        return tf.reshape(scores, [-1])
    if scores.shape.rank == 2:
        return mean_of_tokens(scores, mask(batch))
    raise ConfigurationError(
        f"The rater gives scores of shape {scores.shape}: it must give one an example, [B], or"
        " one a token, [B, S]."
    )
