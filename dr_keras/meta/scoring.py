"""Scores of a whole set of examples with a live rater, whatever it reads and gives."""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.models.inner_state import OF_MEMBER
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.rater_scores import (
    ReferenceLoss,
    check_can_score,
    example_scores,
    real_tokens,
    state_read,
)
from dr_keras.models.source_rater import check_sources


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
        self._rater, self._rows, self._reference = rater, batch_size, reference

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
        check_sources(self._rater, examples.features, examples.sources, examples.name)
        return _over_set(function, examples, self._rows) if examples else np.zeros(empty, "float32")


def scorer_of(problem, examples: ExampleSet, batch_size: int = 128) -> Scorer | None:
    """Scores sets with the rater of a `KerasProblem`; None where it reads what members know."""
    reads = state_read(problem.rater, examples.features)
    if any(name in OF_MEMBER for name in reads):
        return None
    return Scorer(problem.rater, batch_size, reference=reference_of(problem))


def reference_of(problem) -> ReferenceLoss | None:
    """What the reference model of a `KerasProblem` loses; None where it has no such model."""
    if problem.reference is None:
        return None
    return ReferenceLoss(problem.reference, problem.per_example_loss)


def reference_losses(
    reference: ReferenceLoss, examples: ExampleSet, per_token: bool = False, batch_size: int = 128
) -> np.ndarray:
    """What a reference model loses on a set: [N], or [N, S] by token.

    Args:
      batch_size: rows at once.
    """

    def losses(batch):
        return reference(batch, per_token)

    return _over_set(tf.function(losses, jit_compile=True, autograph=False), examples, batch_size)


def _over_set(function: Callable, examples: ExampleSet, size: int) -> np.ndarray:
    """A compiled function of a batch, over a set that is not empty, in its order."""
    parts = []
    for start in range(0, len(examples), size):
        rows = np.minimum(np.arange(start, start + size), len(examples) - 1)
        batch = {name: tf.constant(v[rows]) for name, v in examples.features.items()}
        parts.append(function(batch).numpy()[: len(examples) - start])
    return np.concatenate(parts)
