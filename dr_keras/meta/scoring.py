"""Scores of a whole set of examples with a live rater, whatever it reads and gives."""

from collections.abc import Callable, Collection, Mapping
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
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

    def reads(self, features: Mapping[str, np.ndarray]) -> list[str]:
        """Which features model and loss read, of some that are there; rows [N, ...], N >= 1."""
        rows = _Recording({name: tf.constant(values[:1]) for name, values in features.items()})
        self(rows)
        return [name for name in features if name in rows.read]

    def joined(self, rater: keras.Model, batch: Mapping) -> dict:
        """The batch, and the loss in it where the rater reads it and the batch has none."""
        if "reference_loss" not in state_read(rater, batch):
            return dict(batch)
        wanted = next(tensor for tensor in rater.inputs if tensor.name == "reference_loss")
        losses = self(batch, per_token=len(wanted.shape) == 2)
        return {**batch, "reference_loss": tf.cast(losses, wanted.dtype)}


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


class Scorer:
    """Scores sets with one compiled function, whatever their size.

    Args:
      rater: Keras model from a batch's features to scores, [B] or by token [B, S]; its present
        weights are used.
      batch_size: rows scored at once; the last batch is filled up with copies of its last row.
      jit_compile: compile with XLA.
      reference: the frozen model of a rater that reads "reference_loss".
      mask: as for `example_scores`.
    """

    def __init__(
        self,
        rater: keras.Model,
        batch_size: int = 128,
        jit_compile: bool = True,
        reference: ReferenceLoss | None = None,
        mask: Callable = real_tokens,
    ):
        self._rater, self._batch_size, self._reference = rater, batch_size, reference

        def given(batch):
            batch = reference.joined(rater, batch) if reference else batch
            return rater(model_inputs(rater, batch), training=False)

        def score(batch):
            return example_scores(given(batch), batch, mask)

        self._score = tf.function(score, jit_compile=jit_compile, autograph=False)
        self._given = tf.function(given, jit_compile=jit_compile, autograph=False)

    def __call__(self, examples: ExampleSet) -> np.ndarray:
        """Scores, float32 [N], in the order of the set; a token rater's are means over real tokens.

        Raises:
          ConfigurationError: the rater cannot score by itself, see `check_can_score`.
        """
        return self._of_set(self._score, examples, (0,))

    def token_scores(self, examples: ExampleSet) -> np.ndarray:
        """Scores of each token, float32 [N, S].

        Raises:
          ConfigurationError: the rater gives one score an example; or as for a call.
        """
        if len(self._rater.output.shape) != 2 or self._rater.output.shape[1] == 1:
            raise ConfigurationError(
                f"The rater '{self._rater.name}' gives one score an example, and none to tokens:"
                " train one that does (text_rater.per_token = True)."
            )
        width = examples.features["tokens"].shape[1] if "tokens" in examples.features else 0
        return self._of_set(self._given, examples, (0, width))

    def _of_set(self, function: Callable, examples: ExampleSet, empty: tuple) -> np.ndarray:
        check_can_score(self._rater, examples.features, self._reference is not None)
        parts = []
        for start in range(0, len(examples), self._batch_size):
            rows = np.arange(start, start + self._batch_size)
            rows = np.minimum(rows, len(examples) - 1)
            batch = {name: tf.constant(v[rows]) for name, v in examples.features.items()}
            count = min(self._batch_size, len(examples) - start)
            parts.append(function(batch).numpy()[:count])
        return np.concatenate(parts) if parts else np.zeros(empty, np.float32)
