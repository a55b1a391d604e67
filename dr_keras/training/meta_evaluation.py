"""Meta-evaluation: how well does a fresh model train on what the present rater keeps?

The paper chooses its checkpoint by meta-evaluation (section 4). Here a fresh inner model is
trained for a fixed number of updates on batches that batch top-K selects with the rater at hand,
and its loss on the validation part is the figure. Every evaluation uses the same initialisations,
the same oversized batches and the same validation rows, so that only the rater differs; so does the
reference, a random choice from those batches. A rater that does no better is not worth its use.

Losses count as a trainer of `dr_keras.training.trainers` counts them: each target (a real token of
text; an example of other data) the same, in training and in validation, so that a padded example
counts for what it holds.
"""

from collections.abc import Callable, Mapping
import inspect
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import DataError, NonFiniteError
from dr_keras.meta.checks import at_least
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import InnerOptimizer, adam
from dr_keras.meta.population import initial_state
from dr_keras.meta.problem import inner_update
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.losses import says_counts
from dr_keras.models.objectives import mean_loss
from dr_keras.models.rater_scores import example_scores, real_tokens
from dr_keras.rating.fractions import oversized_batch
from dr_keras.rating.rules import split_best
from dr_keras.system.reading_ahead import ReadingAhead
import gin

_ROWS = 32  # at least so many validation rows at a time


@gin.configurable(denylist=["rater", "train", "validation"])
class MetaEvaluation:
    """Callable that returns {"validation_loss": ...} for the rater's present weights.

    Its trainings are no cells of a study's grid: the rater changes under them while meta-training
    goes on, so nothing could be reused by a later call; scoring is part of the compiled update; and
    they have the inner model, loss and optimizer of meta-training, not a trainer of an evaluation.

    Args:
      rater: Keras model under evaluation; read at each call.
      train, validation: parts of the corpus; the test part is never used here.
      inner_model: builds the Keras model that is trained.
      per_example_loss: (outputs, batch) -> [B].
      optimizer: inner optimizer of the training.
      updates: training updates per training.
      repeats: trainings per evaluation, each from weights and on batches of its own; the figure is
        their mean. Short trainings are noisy: what one says of two raters may be chance.
      batch_size: B, examples kept per update.
      discard_fraction: of batch top-K (B_up = B / (1 - discard_fraction), exactly).
      validation_size: at most so many validation examples, evenly spread.
      seed: of initialisations and batches.
      reference: as of `MetaTrainer`, for a rater that reads its loss.
      read_ahead: batches that a thread reads before they are needed; 0: none.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: no validation example, or fewer train examples than an oversized batch.
    """

    def __init__(
        self,
        rater: keras.Model,
        train: ExampleSet,
        validation: ExampleSet,
        inner_model: Callable[[], keras.Model],
        per_example_loss: Callable,
        optimizer: InnerOptimizer | None = None,
        updates: int = 60,
        repeats: int = 1,
        batch_size: int = 32,
        discard_fraction: float = 0.5,
        validation_size: int = 256,
        seed: int = 0,
        jit_compile: bool = True,
        reference: keras.Model | None = None,
        read_ahead: int = 2,
    ):
        at_least("MetaEvaluation.read_ahead", read_ahead, 0)
        at_least("MetaEvaluation.updates", updates, 1)
        at_least("MetaEvaluation.repeats", repeats, 1)
        self._rater, self._updates = rater, updates
        self._batch_size, self._read_ahead = batch_size, read_ahead
        oversized = oversized_batch(batch_size, discard_fraction)
        seeds = [derive_seed(seed, "repeat", r) if r else seed for r in range(repeats)]
        self._trainings = [
            (
                derive_seed(each, "meta-evaluation", "model"),
                BatchStream(train, oversized, derive_seed(each, "meta-evaluation")),
            )
            for each in seeds
        ]
        if min(len(validation), validation_size) < 1:
            raise DataError(
                f"The set '{validation.name}' has {len(validation)} examples and validation_size is"
                f" {validation_size}: the meta-evaluation needs at least one. Add documents, raise"
                " validation_size, or set meta_train.evaluate = False."
            )
        self.validation = validation.thinned(validation_size)
        self._constructor = inner_model
        self._random: float | None = None
        optimizer = optimizer or adam()
        with seeded(self._trainings[0][0]):
            structure = inner_model()
        self._optimizer = optimizer
        self._problem = KerasProblem(
            rater,
            structure,
            per_example_loss,
            optimizer,
            objective=mean_loss(per_example_loss, bool(says_counts(per_example_loss))),
            reference=reference,
        )
        problem = self._problem(self._problem.constants())

        def update(eta, state, batch, use_scores):
            mask = real_tokens if "tokens" in batch else problem.counts
            scores = example_scores(problem.scores(eta, state, batch), batch, mask)
            # Without a rater the first B of the oversized batch are a random choice.
            order = -tf.cast(tf.range(oversized), scores.dtype)
            ranked = tf.where(use_scores, scores, order)
            kept, _ = split_best(ranked, batch_size, oversized)
            kept_batch = {name: tf.gather(value, kept) for name, value in batch.items()}
            # The loss of an example is the mean over what it counts: a weight for each target.
            counts = problem.counts(kept_batch)
            weights = counts / tf.maximum(tf.reduce_sum(counts), 1)
            return inner_update(problem, state, weights, kept_batch)[0]

        def row_losses(state, batch):
            terms = problem.objective("validation", state.theta, state.statistics, batch)
            return terms.sums, terms.counts

        self._update = tf.function(update, jit_compile=jit_compile, autograph=False)
        self._row_losses = tf.function(row_losses, jit_compile=jit_compile, autograph=False)

    @property
    def structure(self) -> keras.Model:
        """An inner model, of whose values none is used."""
        return self._problem.inner_model

    def __call__(self, use_scores: bool = True) -> dict[str, float]:
        """Trains and evaluates; `use_scores=False` gives random selection, the reference."""
        losses = self.losses(use_scores)
        return {"validation_loss": sum(losses) / len(losses)}

    def losses(self, use_scores: bool = True) -> list[float]:
        """The validation loss of each of the `repeats` trainings, in the same order always."""
        sums, counts = self.all_row_losses(use_scores)
        return (sums.sum(axis=1) / counts.sum()).tolist()

    def all_row_losses(self, use_scores: bool = True) -> tuple[np.ndarray, np.ndarray]:
        """Makes all trainings: summed losses [repeats, R] and numbers of targets [R]."""
        found = [self.row_losses(k, use_scores) for k in range(len(self._trainings))]
        return np.stack([sums for sums, _ in found]), found[0][1]

    def beside_random(self) -> dict[str, float]:
        """Adds "random_validation_loss", the reference, which is trained once and remembered.

        Raises:
          NonFiniteError: the reference's loss is not finite, so that there is nothing to compare
            with. That of a rater is given as it is.
        """
        if self._random is None:
            self._random = self(use_scores=False)["validation_loss"]
        if not math.isfinite(self._random):
            raise NonFiniteError(
                f"Meta-evaluation: after {self._updates} updates on a random choice the validation"
                f" loss is {self._random}. Lower the learning rate of MetaEvaluation.optimizer,"
                " look for values that are not finite in the data, or set"
                " meta_train.evaluate = False."
            )
        return self() | {"random_validation_loss": self._random}

    def row_losses(
        self, repeat: int, use_scores: bool = True, progress: Callable[[int], None] | None = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Makes one training, and says what it loses on every row of `validation`.

        Args:
          repeat: which training, below `repeats`.
          use_scores: as of a call.
          progress: called with the number of updates done.

        Returns:
          Summed losses and the numbers of targets that they are sums over, float64 [R] each.

        Raises:
          DataError: no row has a target.
        """
        seed, stream = self._trainings[repeat]
        state = initial_state(self._constructor, self._optimizer, self._problem.parts, seed)
        eta = [tf.identity(v.value) for v in self._rater.trainable_variables]
        choose = tf.constant(use_scores)
        with ReadingAhead(stream.batch, range(self._updates), self._read_ahead) as batches:
            for step, read in enumerate(batches):
                batch = {n: tf.constant(v) for n, v in read.items()}
                state = self._update(eta, state, batch, choose)
                if progress is not None:
                    progress(step + 1)
        return self._on_validation(state)

    def _on_validation(self, state) -> tuple[np.ndarray, np.ndarray]:
        count, size = len(self.validation), max(self._batch_size, _ROWS)
        size = min(size, count)
        rows = np.arange(-(-count // size) * size)
        rows[count:] = 0  # the last batch is filled up: of another size it would compile again
        pairs = [
            self._row_losses(
                state, {n: tf.constant(v[some]) for n, v in self.validation.features.items()}
            )
            for some in np.split(rows, len(rows) // size)
        ]
        sums, counts = (
            np.concatenate([np.asarray(pair[k], np.float64) for pair in pairs])[:count]
            for k in (0, 1)
        )
        if not counts.sum():
            raise DataError(f"The set '{self.validation.name}' holds nothing to predict.")
        return sums, counts


def bound_settings() -> dict[str, Any]:
    """The settings of `MetaEvaluation` as gin has them, defaults included; references as such."""
    parameters = inspect.signature(MetaEvaluation).parameters.items()
    bound = gin.get_bindings(MetaEvaluation, resolve_references=False)
    return {name: parameter.default for name, parameter in parameters} | bound


def training_flops(inner: int, rater: int, settings: Mapping[str, Any], validation: int) -> int:
    """Operations of one training and its evaluation, by formula.

    Scores are computed for a random choice too, by the same program.

    Args:
      inner, rater: of one example's forward pass.
      settings: "updates", "batch_size" and "discard_fraction", as of `MetaEvaluation`.
      validation: rows evaluated.
    """
    batch_size = settings["batch_size"]
    oversized = oversized_batch(batch_size, settings["discard_fraction"])
    updates = settings["updates"] * (3 * inner * batch_size + rater * oversized)
    return int(updates + inner * validation)
