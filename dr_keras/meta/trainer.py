"""Meta-training of a rater: custom training steps, a loop that takes Keras callbacks.

Keras' own `fit` cannot resume bit for bit and owns the iterator, so the loop here is its twin: it
drives the usual `keras.callbacks`, one "batch" a meta-step and one "epoch" every
`steps_per_epoch` meta-steps, and `train_step` is a custom training step as in a `keras.Model`.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import time

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, NonFiniteError, WorkerLostError, as_raised
from dr_keras.meta import checks
from dr_keras.meta.combinations import Combination, weighted_mean
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.devices.split_member import carried_together, check_split
from dr_keras.meta.devices.strategies import placement_of
from dr_keras.meta.draws import Drawn, by_member, rate
from dr_keras.meta.estimators import Estimator
from dr_keras.meta.estimators.choice import estimator_for
from dr_keras.meta.initial_members import initial_members as members_from
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.member_batches import MemberBatches, ReadBatches
from dr_keras.meta.meta_step import MemberStep, PopulationStep
from dr_keras.meta.micro_batches import check_parts
from dr_keras.meta.optimizers import InnerOptimizer, OuterAdam, adam, check_own_rates
from dr_keras.meta.population import Beginnings, Population
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.meta.start_ages import Ageing
from dr_keras.meta.weighting import Weighting, example_softmax
from dr_keras.models.objectives import mean_loss
from dr_keras.system.memory import handed_back
from dr_keras.system.progress import Interruption
from dr_keras.system.reading_ahead import ReadingAhead
import gin

ON_NONFINITE = ("stop", "reinit")

# What TensorFlow raises in one worker when another has gone, depending on who notices first.
_NO_ANSWER = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
)


@dataclasses.dataclass
class StepRecord:
    """What one meta-step leaves behind for callbacks, beyond the scalar logs.

    Attributes:
      meta_step: number of meta-steps done, this one included.
      members: name -> array [P]: "outer_loss", "meta_gradient_norm", "inner_loss_before",
        "inner_loss_after", "weight_entropy", "effective_sample_size", "finite"; "learning_rate"
        where members have their own.
      scores: float [P, T, B], of the inner batches before the update of the rater.
      rows: int [P, T, B], the examples' row numbers in the train set.
      ages: inner updates of each member after the step.
      reinitialised: members started afresh before the step.
    """

    meta_step: int
    members: dict[str, np.ndarray]
    scores: np.ndarray
    rows: np.ndarray
    ages: list[int]
    reinitialised: list[int]


def _known_mean(values: list[float]) -> float:
    """The mean of those that are known: a ratio of noise takes two meta-steps to be."""
    known = [value for value in values if not np.isnan(value)]
    return sum(known) / len(known) if known else float("nan")


@gin.configurable
class MetaTrainer:
    """Learns a rater by meta-gradients through a population of inner models.

    Args:
      rater: Keras model from a batch's features to scores [B].
      inner_model: builds an inner Keras model, a new one at each call.
      per_example_loss: (inner model's outputs, batch) -> losses [B].
      inner_optimizer: see `dr_keras.meta.optimizers`.
      outer_optimizer: see `OuterAdam`.
      estimator: see `dr_keras.meta.estimators`.
      unroll_length: T, inner updates the meta-gradient goes through (the paper: 2).
      advance_updates: further inner updates after each unroll, on fresh batches weighed by the
        rater, without meta-gradient. They cost a plain training step each, so that members grow
        older for a given budget. Not in the paper, which has 0.
      population_size: inner models (the paper: 8).
      lifetime: inner updates until a member starts again; None: never. Not published. It may differ
        by member, as the last four: a list, or a draw of `dr_keras.meta.draws`.
      inner_batch_size, outer_batch_size: examples (the paper: 128 and 128); of several held-out
        sets, from each.
      weighting: from the scores of a batch to its weights, see `dr_keras.meta.weighting`; by
        default the paper's softmax over examples.
      objective: what the updated model is judged by on a held-out batch, or one by name of the
        set; see `dr_keras.models.objectives`. By default the mean of the inner loss.
      combination: of the losses of several held-out sets, see `dr_keras.meta.combinations`; by
        default their mean.
      reference: model with weights that stay, for a rater that reads "reference_loss".
      through_features: whether the meta-gradient goes through what the rater reads of a member's
        state; see `MetaProblem`.
      seed: decides initialisation and every batch.
      on_nonfinite: "stop" raises NonFiniteError; "reinit" restarts the member and counts it.
      jit_compile: compile the meta-step of a member with XLA.
      strategy: where members live: one of `dr_keras.meta.devices.strategies`, or a strategy of
        tf.distribute; None: one device. It decides nothing about the result but rounding.
      learning_rates: of the inner optimizer, in place of its own; its schedule goes on. None: its
        own for all members.
      start_ages: inner updates without meta-gradient that a member makes after each initialisation
        before it contributes; they count for its age, and not for its lifetime.
      initial_members: paths of Keras weights of the inner model that members start from, such as
        final.weights.h5 of `train_language_model`; None: fresh weights.
      initial_noise: standard deviation of what is added to the weights that a member starts from,
        relative to the root mean square of each.
      read_ahead: meta-steps whose batches a thread reads before they are needed, and which lie in
        memory; 0: each reads its own. It decides nothing about the result.

    Raises:
      ConfigurationError: a setting out of its range, or batches that the estimator's
        `micro_batches` do not divide.
    """

    def __init__(
        self,
        rater: keras.Model,
        inner_model: Callable[[], keras.Model],
        per_example_loss: Callable,
        inner_optimizer: InnerOptimizer | None = None,
        outer_optimizer: OuterAdam | None = None,
        estimator: Estimator | None = None,
        unroll_length: int = 2,
        advance_updates: int = 0,
        population_size: int = 8,
        lifetime: int | Sequence[int | None] | Drawn | None = 1000,
        inner_batch_size: int = 128,
        outer_batch_size: int = 128,
        weighting: Weighting | None = None,
        objective: Callable | Mapping[str, Callable] | None = None,
        combination: Combination | None = None,
        reference: keras.Model | None = None,
        through_features: bool = True,
        seed: int = 0,
        on_nonfinite: str = "stop",
        jit_compile: bool = True,
        strategy: OneDevice | tf.distribute.Strategy | None = None,
        learning_rates: float | Sequence[float] | Drawn | None = None,
        start_ages: int | Sequence[int] | Drawn = 0,
        initial_members: str | Sequence[str | None] | Drawn | None = None,
        initial_noise: float | Sequence[float] | Drawn = 0.0,
        read_ahead: int = 2,
    ):
        sizes = {"inner": inner_batch_size, "outer": outer_batch_size}
        checks.at_least("unroll_length", unroll_length, 1)
        checks.at_least("advance_updates", advance_updates, 0)
        checks.at_least("read_ahead", read_ahead, 0)
        for kind, size in sizes.items():
            checks.at_least(f"{kind}_batch_size", size, 1)
        if on_nonfinite not in ON_NONFINITE:
            raise ConfigurationError(
                f"on_nonfinite is {on_nonfinite!r}: it must be one of {', '.join(ON_NONFINITE)}."
            )
        self.rater = rater
        self.per_example_loss = per_example_loss
        self.inner_optimizer = inner_optimizer or adam()
        self.outer_optimizer = outer_optimizer or OuterAdam()
        self.unroll_length = unroll_length
        self.updates_per_step = unroll_length + advance_updates
        self.inner_batch_size, self.outer_batch_size = inner_batch_size, outer_batch_size
        self.seed, self.on_nonfinite, self.read_ahead = seed, on_nonfinite, read_ahead
        self.placement = placement_of(strategy)

        with seeded(derive_seed(seed, "structure")):
            self.inner_model = inner_model()  # its structure only; members hold the values
        self.estimator = estimator_for(estimator, self.inner_model, jit_compile)
        self.problem = KerasProblem(
            rater,
            self.inner_model,
            per_example_loss,
            self.inner_optimizer,
            weighting or example_softmax(),
            objective or mean_loss(),
            combination or weighted_mean(),
            reference,
            through_features,
        )
        self._eta = [v.value for v in rater.trainable_variables]
        checks.at_least("population_size", population_size, 1)
        self.placement.check_population(population_size)
        group = self.placement.group(population_size)
        statistics = self.problem.parts.statistics(self.inner_model.non_trainable_variables)
        if group is None:
            check_parts(self.micro_batches, sizes, statistics, self.estimator)
        else:
            check_split(group, self.estimator, statistics, sizes)
        own_rate = None
        if learning_rates is not None:
            check_own_rates(self.inner_optimizer)
            own_rate = by_member("learning_rates", learning_rates, population_size, seed, rate)
        beginnings = Beginnings(
            inner_model,
            self.inner_optimizer,
            self.outer_optimizer,
            self._eta,
            seed,
            self.problem.parts,
            getattr(self.estimator, "init", None),
            own_rate,
            members_from(initial_members, initial_noise, population_size, seed, self.problem),
        )
        self.population = Population(
            beginnings, population_size, lifetime, self.updates_per_step, self.placement, start_ages
        )
        # What replicas compute with; on one device these are the rater's own variables.
        self._replica_eta = self.placement.copies(self._eta)
        self._kept = self.problem.kept_variables()
        replica_kept = {n: self.placement.copies(kept) for n, kept in self._kept.items()}
        self.meta_step = tf.Variable(0, dtype=tf.int32, trainable=False)
        self.nonfinite_count = tf.Variable(0, dtype=tf.int32, trainable=False)
        self.last_record: StepRecord | None = None
        self.train_set: ExampleSet | None = None
        self.outer_names: tuple[str, ...] = ()
        member = MemberStep(self.problem, self.estimator, self.outer_optimizer, self.micro_batches)
        if group is None:
            self._member_step = tf.function(member.step, jit_compile=jit_compile, autograph=False)
            self._advance = tf.function(member.advance, jit_compile=jit_compile, autograph=False)
        else:
            split = carried_together(group, member, jit_compile)
            self._member_step, self._advance = split.step, split.advance
        self._population_step = PopulationStep(
            self.population,
            self._replica_eta,
            replica_kept,
            self.outer_optimizer,
            self._member_step,
            self._advance,
            unroll_length,
        )
        self._ageing = Ageing(
            self.population,
            rater,
            self._replica_eta,
            replica_kept,
            self._advance,
            inner_batch_size,
            seed,
            self.nonfinite_count if on_nonfinite == "reinit" else None,
            read_ahead,
        )
        self.train_step = tf.function(self._train_step_function, autograph=False)

    # --- the compiled step -----------------------------------------------------------------

    @property
    def micro_batches(self) -> int:
        """In how many parts a batch goes through the models."""
        return getattr(self.estimator, "micro_batches", 1)

    @property
    def rows_at_once(self) -> int:
        """Examples of an inner batch that go through the rater at once: scoring's memory."""
        return max(self.inner_batch_size // self.micro_batches, 1)

    def _train_step_function(self, inner_batches: dict, outer_batches: dict, keys) -> tuple:
        """One meta-step of all members on all replicas.

        Args:
          inner_batches: features [P, T + advance_updates, B, ...], of each replica's members, or
            its part of their batches.
          outer_batches: name of a held-out set -> features [P, B_outer, ...], likewise.
          keys: int32 [P, 2], the members' for this step.

        Returns:
          (name -> [P] (and "scores" [P, T, B]) as in StepRecord, and "age" after the step; name ->
          scalar of the step).
        """
        rater_state = [tf.identity(v.value) for v in self.rater.non_trainable_variables]
        count, report, of_step = self._population_step(
            inner_batches, outer_batches, keys, rater_state, tf.identity(self.meta_step)
        )
        self.meta_step.assign_add(1)
        self.nonfinite_count.assign_add(self.population.size - count)
        return report, of_step

    # --- the loop --------------------------------------------------------------------------

    def fit(
        self,
        train: ExampleSet,
        outer: ExampleSet | Mapping[str, ExampleSet],
        meta_steps: int,
        steps_per_epoch: int = 50,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        validate: Callable[[], dict[str, float]] | None = None,
        validate_first: bool = False,
    ) -> keras.callbacks.History:
        """Meta-trains until `meta_steps` are done, counted from the trainer's own `meta_step`.

        With a strategy of several workers, all of them call `fit` alike, with callbacks that act
        alike; `validate` is called on the chief alone.

        Callbacks see the rater as their `model` (so `ModelCheckpoint` saves the rater) and, where
        they have a `set_trainer` method, this trainer. `on_train_batch_end` comes after every
        meta-step, `on_epoch_end` every `steps_per_epoch`, with means over that epoch and what
        `validate` returned; after a resume in mid-epoch the means are over the rest of it. Its
        "data_wait_share" is the mean share of a meta-step's time that went by waiting for data.

        Args:
          train: examples of the inner updates.
          outer: held-out examples of the outer loss, or several such sets by name.
          meta_steps: total to reach.
          steps_per_epoch: meta-steps per epoch.
          callbacks: Keras callbacks.
          validate: called at each epoch's end; its scalars join the epoch's logs.
          validate_first: whether an epoch without a meta-step comes before the first, so that the
            rater that training goes on from is judged and kept as those after it.

        Returns:
          Keras' History of the epochs.

        Raises:
          DataError, ConfigurationError: sets too small for a batch, models that do not fit them.
          NonFiniteError: with on_nonfinite="stop".
          WorkerLostError: another worker does not answer any more.
          KeyboardInterrupt, SystemExit: after a signal, once callbacks have had `on_train_end`.
        """
        checks.at_least("steps_per_epoch", steps_per_epoch, 1)
        outer = {"outer": outer} if isinstance(outer, ExampleSet) else dict(outer)
        self.problem.combination.check(outer)
        checks.models_fit(self, train, outer)
        self.train_set, self.outer_names = train, tuple(outer)
        batches = MemberBatches(
            self.placement,
            self.population.size,
            self.seed,
            self.updates_per_step,
            train,
            outer,
            self.inner_batch_size,
            self.outer_batch_size,
        )
        callback_list = keras.callbacks.CallbackList(
            list(callbacks), add_history=True, model=self.rater
        )
        for callback in callbacks:
            if hasattr(callback, "set_trainer"):
                callback.set_trainer(self)
        callback_list.set_params(
            {
                "steps": steps_per_epoch,
                "epochs": -(-meta_steps // steps_per_epoch),
                "verbose": 0,
                "meta_steps": meta_steps,
            }
        )
        self.rater.stop_training = False
        self.placement.push(self._eta, self._replica_eta)
        self.population.settle()
        callback_list.on_train_begin()
        step = int(self.meta_step.numpy())
        ahead = ReadingAhead(batches.read, range(step, meta_steps), self.read_ahead)
        with Interruption() as interruption, self._answering_workers(), ahead:
            seen: dict[str, list[float]] = {}
            if validate_first:
                self._end_epoch(callback_list, -1, {}, validate)
            while step < meta_steps and not self.rater.stop_training:
                reinitialised = self.population.begin_step(step)
                if not self._ageing(train, callbacks, lambda: self._stop_requested(interruption)):
                    break  # by a signal
                if not seen:
                    callback_list.on_epoch_begin(step // steps_per_epoch)
                callback_list.on_train_batch_begin(step)
                try:
                    started, waited = time.perf_counter(), ahead.waited
                    logs = self._one_step(batches, next(ahead), reinitialised)
                    waited, spent = ahead.waited - waited, time.perf_counter() - started
                except Exception as error:
                    raise checks.missing_derivative(error) or as_raised(error)
                step += 1
                # Of the epoch alone: all that is said of a step is the same after a resume.
                for name, value in (logs | {"data_wait_share": waited / spent}).items():
                    seen.setdefault(name, []).append(value)
                callback_list.on_train_batch_end(step - 1, logs)
                if self._stop_requested(interruption):
                    break
                if step % steps_per_epoch == 0 or step == meta_steps:
                    self._end_epoch(callback_list, (step - 1) // steps_per_epoch, seen, validate)
                    seen = {}
                    if self._stop_requested(interruption):
                        break
            callback_list.on_train_end()
            interruption.leave()
        return self.rater.history

    def _end_epoch(self, callbacks, epoch: int, seen: dict[str, list[float]], validate) -> None:
        logs = {name: _known_mean(values) for name, values in seen.items()}
        if validate is not None:
            logs.update(self.placement.from_chief(validate))
        callbacks.on_epoch_end(epoch, logs)

    def _one_step(
        self, batches: MemberBatches, read: ReadBatches, reinitialised
    ) -> dict[str, float]:
        compiling = handed_back() if self.last_record is None else contextlib.nullcontext()
        with compiling:
            report, of_step = self.train_step(*batches.placed(read))
        report = {name: value.numpy() for name, value in report.items()}
        self.placement.pull(self._eta, self._replica_eta)
        scores, ages = report.pop("scores"), report.pop("age")
        unrolled = read.rows[:, : self.unroll_length]
        self.last_record = record = StepRecord(
            read.step + 1, report, scores, unrolled, ages.tolist(), reinitialised
        )
        for index in np.flatnonzero(~report["finite"]):
            self._nonfinite(int(index), record)
        finite = report["finite"]
        logs = {
            name: float(np.mean(values[finite])) if finite.any() else float("nan")
            for name, values in report.items()
            if name != "finite"
        }
        logs |= {name: float(value.numpy()) for name, value in of_step.items()}
        return logs | {"nonfinite_count": float(self.nonfinite_count.numpy())}

    def _stop_requested(self, interruption: Interruption) -> bool:
        """Whether any worker was told to stop by a signal, or by a callback; all go on or none."""
        if self.placement.worker_count > 1:
            stop = self.placement.agree(int(self.rater.stop_training))
            self.rater.stop_training = bool(stop)
            interruption.requested = self.placement.agree(interruption.requested or 0) or None
        return interruption.requested is not None

    @contextlib.contextmanager
    def _answering_workers(self):
        try:
            yield
        except _NO_ANSWER as error:
            if self.placement.worker_count == 1:
                raise
            raise WorkerLostError(
                f"A worker of {self.placement.worker_count} does not answer any more, after"
                f" meta-step {int(self.meta_step.numpy())} ({type(error).__name__})."
            ) from error

    def _nonfinite(self, index: int, record: StepRecord) -> None:
        if self.on_nonfinite == "reinit":
            self.population.reinitialise(index)
            return
        step, age = record.meta_step, record.ages[index]
        raise NonFiniteError(checks.nonfinite_message(self, step, index, age, record.members))

    # --- state -----------------------------------------------------------------------------

    def variables(self) -> dict:
        """Everything that resuming needs, by name; streams and seeds follow from the step.

        Of a run of several workers, the members that this one holds.
        """
        return self._named(self.population.variables())

    def gathered_variables(self) -> dict:
        """As `variables`, on the chief with every worker's members; all workers must call."""
        return self._named(self.population.gathered_variables())

    def _named(self, members) -> dict:
        return {
            "rater": self._eta,
            "rater_non_trainable": [v.value for v in self.rater.non_trainable_variables],
            "members": members,
            **{name: kept for name, kept in self._kept.items() if kept},
            "meta_step": self.meta_step,
            "nonfinite_count": self.nonfinite_count,
        }
