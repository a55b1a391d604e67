"""What a rater is fitted to: targets of windows and of their tokens, and how far it is from them.

The score of a window is the mean over its tokens of what the last layer makes of each, because that
layer is linear. A teacher that says what every token adds so teaches a hundred times as much by a
window, through a twin of the rater that gives scores by token with the very same weights.
"""

from collections.abc import Callable, Mapping
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from dr_keras.baselines.scores import Scores
from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.data.splits import unit_hash
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.score_health import ranks
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.rater_scores import example_scores

STANDARD, RANKS = KINDS = ("standard", "ranks")

# Features that the examples get for the fit.
_WINDOW, _TOKENS = "fitted_rater/window", "fitted_rater/tokens"


@dataclasses.dataclass(frozen=True, eq=False)
class Lesson:
    """Targets for the windows of a set.

    Attributes:
      windows: float32 [N]; 0 where there is no score.
      tokens: float16 [N, S], NaN where nothing is said; None of a teacher of windows alone.
      fitted, held: rows with a score to learn from, and held out.
      scale: deviation of the windows' targets.
    """

    windows: np.ndarray
    tokens: np.ndarray | None
    fitted: np.ndarray
    held: np.ndarray
    scale: float

    def examples(self, examples: ExampleSet, rows: np.ndarray, name: str) -> ExampleSet:
        """Some rows of the set, with their targets as features."""
        targets = {_WINDOW: self.windows[rows]}
        if self.tokens is not None:
            targets[_TOKENS] = self.tokens[rows]
        chosen = examples.take(rows, name)
        return dataclasses.replace(chosen, features={**chosen.features, **targets})

    def loss(self, huber: float | None, token_share: float) -> Callable:
        """(scores, batch) -> (losses [B], ones [B]), in deviations of the targets.

        Args:
          huber: deviations at which squares become straight lines; None: nowhere.
          token_share: what the mean squared error of tokens counts for, in their own deviation.
        """
        deviation = 1.0
        if self.tokens is not None:
            deviation = float(np.nanstd(self.tokens[self.fitted], dtype=np.float64)) or 1.0

        def sums(outputs, batch):
            scores = tf.cast(example_scores(outputs, batch), tf.float32)
            error = tf.abs(scores - batch[_WINDOW]) / self.scale
            inside = error if huber is None else tf.minimum(error, huber)
            loss = inside * (error - inside / 2)
            if self.tokens is not None:
                targets = tf.cast(batch[_TOKENS], tf.float32)
                known = tf.math.is_finite(targets)
                apart = tf.where(known, tf.cast(outputs, tf.float32) - targets, 0.0) / deviation
                count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1)
                squares = tf.reduce_sum(tf.square(apart), axis=1) / tf.maximum(count, 1.0)
                loss += token_share * squares / 2
            return loss, tf.ones_like(loss)

        return sums


def lesson(
    scores: Scores,
    examples: ExampleSet,
    teacher: str,
    *,
    kind: str,
    scale: float,
    held_out: float,
    least: int,
    by_token: bool,
) -> Lesson:
    """Targets from a teacher's scores.

    Args:
      scores: of the examples.
      examples: of the train part.
      teacher: its name, for messages.
      kind: "standard" or "ranks", see `FittedRater.targets`.
      scale: deviation of the targets.
      held_out: share of the documents that are held out.
      least: rows that there must be to learn from.
      by_token: whether what is said of tokens counts.

    Raises:
      DataError: scores that nothing can be learned from.
    """
    values = np.asarray(scores.values, np.float64)
    if values.shape != (len(examples),):
        raise DataError(
            f"{teacher} gives scores of shape {values.shape} for {len(examples)} windows: a teacher"
            " gives one to each."
        )
    known, apart = np.isfinite(values), held_out_rows(examples, held_out)
    fitted, held = np.flatnonzero(known & ~apart), np.flatnonzero(known & apart)
    if len(fitted) < least or not len(held):
        raise DataError(
            f"{teacher} scores {int(known.sum())} of {len(examples)} windows: {len(fitted)} to fit"
            f" a rater to and {len(held)} held out. It takes at least fitted_rater.batch_size"
            f" ({least}) and 1: give more documents, or another batch_size or held_out."
        )
    if np.ptp(values[fitted]) == 0:
        raise DataError(
            f"{teacher} gives every window the same score: there is nothing to fit a rater to."
        )
    chosen = values[known]
    mean, unit = chosen.mean(), chosen.std() / scale
    if kind == RANKS:
        normal = tf.math.ndtri((ranks(chosen) + 0.5) / len(chosen)).numpy()
        chosen = mean + unit * scale * normal / normal.std()
    windows = np.zeros(len(examples), np.float32)
    windows[known] = (chosen - mean) / unit
    tokens = None
    if by_token and scores.tokens is not None:
        tokens = ((scores.tokens.astype(np.float32) - mean) / unit).astype(np.float16)
    return Lesson(windows, tokens, fitted, held, scale)


def held_out_rows(examples: ExampleSet, share: float) -> np.ndarray:
    """Which windows a fit does not see, bool [N]: about so large a share of the documents, by hash.

    Windows of a document are alike: a document is held out with all of them.
    """
    documents = document_ids(examples)
    out = {d: unit_hash("fitted rater", d) < share for d in set(documents.tolist())}
    return np.array([out[document] for document in documents], bool)


def twin_by_token(rater: keras.Model, rater_fn: Callable | None) -> keras.Model:
    """A model with the weights of `rater` that gives scores by token; the rater where it does.

    Args:
      rater: that is to be fitted.
      rater_fn: builds it; called with `per_token=True`.

    Raises:
      ConfigurationError: the function builds no such twin.
    """
    if len(rater.output.shape) == 2 and rater.output.shape[1] != 1:
        return rater
    try:
        if rater_fn is None:
            raise TypeError("there is no function that builds the rater")
        twin = rater_fn(per_token=True)
        twin.set_weights(rater.get_weights())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"The teacher says what single tokens add, and the rater '{rater.name}' has no twin by"
            f" token ({error}): build it by a function that takes per_token, such as text_rater, or"
            " set fitted_rater.token_share = 0."
        ) from error
    return twin


def take_over(twin: keras.Model, rater: keras.Model, rows: ExampleSet) -> None:
    """Gives `rater` the weights of its twin; checks on some rows that it means the same by them."""
    if twin is rater:
        return
    rater.set_weights(twin.get_weights())
    batch = {name: tf.constant(values) for name, values in rows.features.items()}
    ours, theirs = (
        example_scores(one(model_inputs(one, batch), training=False), batch).numpy()
        for one in (rater, twin)
    )
    if not np.allclose(ours, theirs, rtol=1e-3, atol=1e-3 * (1 + np.abs(theirs).max())):
        raise ConfigurationError(
            f"The score of the rater '{rater.name}' is not the mean of what its twin by token gives"
            " tokens: set fitted_rater.token_share = 0."
        )


def begin_from(
    rater: keras.Model, weights: Mapping[str, np.ndarray] | None, setting: str, giver: str
) -> None:
    """Gives a rater the weights of another model; its last layer, `score`, keeps its own.

    Args:
      rater: with layers of the same names and sizes.
      weights: name -> values.
      setting: of `FittedRater`, and `giver`, who has the weights: for messages.

    Raises:
      ConfigurationError: there are none, or not for every layer.
    """
    known = {_layer(name): value for name, value in (weights or {}).items()}
    wanted = [v for v in rater.trainable_variables if not v.path.startswith("score/")]
    differ = [
        variable.path
        for variable in wanted
        if getattr(known.get(_layer(variable.path)), "shape", None) != tuple(variable.shape)
    ]
    if differ:
        raise ConfigurationError(
            f"fitted_rater.{setting}: {giver} has no weights for {differ[0]} of the rater"
            f" '{rater.name}'"
            + (f" and {len(differ) - 1} more" if len(differ) > 1 else "")
            + ". Give the rater the width, layers and heads of that model (conditional_loss gives"
            " weights with by_token = True), or leave the setting out."
        )
    for variable in wanted:
        variable.assign(known[_layer(variable.path)])


def _layer(name: str) -> str:
    """A weight's name, alike in causal blocks and others, which call their attention otherwise."""
    return name.replace("_layer/", "/")
