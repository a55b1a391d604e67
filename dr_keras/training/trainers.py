"""Trainers: one model from scratch, many times over, with one compiled step.

A comparison trains the same model on several selections of data (arms) from several seeds. All
these cells differ in data and initial weights only, so `RepeatedTrainer` builds and compiles one
Keras model, and every `train` call re-initialises its weights and optimizer in place.

Two details keep a small model's step from drowning in overhead: `fit` runs several steps per call
(`steps_per_execution`), and batches are gathered inside tf.data from row numbers that the
`BatchStream` gives beforehand, so no Python runs between the steps. Where the set is too large for
that, or on disk, a thread of tf.data reads the rows of the next batches meanwhile.

The loss of a step, like every reported loss, is the mean over the *targets* of the batch: the real
tokens of text, in nats, so that a padded example counts for as much text as it holds; the examples
themselves for other kinds of data.
"""

from collections.abc import Callable, Mapping, Sequence
import hashlib
import json
import math
import re
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream, rows_of
from dr_keras.errors import ConfigurationError, DataError, NonFiniteError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.devices.strategies import placement_of
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.losses import checked_counts, next_token_sums
from dr_keras.models.model_inputs import model_inputs
from dr_keras.training.batches import gathered, in_order
from dr_keras.training.records import Losses, TrainingRecord
from dr_keras.training.weighted_model import Hastened, LossSums, ReplicatedModel, WeightedModel
import gin

# (step, steps, logs): called about `steps_per_execution` steps apart; logs holds "loss" (mean over
# the steps since the last evaluation) and, right after an evaluation, "test_loss".
Progress = Callable[[int, int, dict[str, float]], None]

# (model outputs, batch) -> figure of each example [B].
Metric = Callable[[Any, dict], tf.Tensor]

_LARGEST_EXECUTION = 25


class _Evaluation(keras.callbacks.Callback):
    """Adds "test_loss" to the logs of each epoch, keeps the curves, and reports progress."""

    def __init__(self, evaluate: Callable[[], float], every: int, steps: int, progress):
        super().__init__()
        self.evaluate, self.every, self.steps, self.progress = evaluate, every, steps, progress
        self.curve: list[list[float]] = []
        self.train_curve: list[list[float]] = []
        self.epoch = 0

    def _report(self, step: int, logs: dict) -> None:
        if self.progress is not None:
            self.progress(step, self.steps, {k: float(v) for k, v in (logs or {}).items()})

    def record(self, step: int) -> float:
        loss = self.evaluate()
        if not math.isfinite(loss):
            raise NonFiniteError(
                f"the test loss is {loss} at step {step} of {self.steps}: lower learning_rate or "
                "lengthen warmup_steps"
            )
        self.curve.append([step, loss])
        return loss

    def on_train_begin(self, logs=None):
        self._report(0, {"test_loss": self.record(0)})

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.progress is not None and batch + 1 < self.every:
            self._report(self.epoch * self.every + batch + 1, logs)

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self.every
        self.train_curve.append([step, float(logs["loss"])])
        logs["test_loss"] = self.record(step)
        self._report(step, logs)


class RepeatedTrainer:
    """One compiled training step for any number of runs of the same model.

    Args:
        model_fn: builds a fresh Keras model from a batch's features to its outputs.
        steps: optimizer updates of a run.
        batch_size: examples an update.
        learning_rate: peak; linear warm-up, then a cosine to `final_learning_rate_share` of it.
        warmup_steps: updates of warm-up; None takes a twentieth of `steps`.
        final_learning_rate_share: learning rate at the end, as a share of the peak.
        weight_decay: AdamW's decoupled decay.
        clip_norm: global norm above which gradients are scaled down; None never does.
        evaluate_every: updates between evaluations; must divide `steps`. None takes a twentieth
            of them (or the nearest smaller divisor).
        evaluation_batch_size: examples a batch of the test part; None takes `batch_size`.
        steps_per_execution: updates per call of the compiled loop; must divide `evaluate_every`.
            None takes the largest divisor up to 25.
        jit_compile: compile with XLA.
        loss_sums: (outputs, batch) -> summed loss and number of targets, float [B] each; None takes
            `default_loss_sums`, which a subclass has.
        metrics: name -> (outputs, batch) -> a figure of each example [B], such as whether it is
            classified right; their means over the test set join the record.
        read_ahead: batches made before they are needed; 0: none.
        strategy: of `dr_keras.meta.devices.strategies` or tf.distribute; the replicas of one
            process share each training batch. None: one device. It changes nothing but rounding
            and the masks of dropout, and is no part of the fingerprint.

    Raises:
        ConfigurationError: a setting is out of its range or contradicts another.
    """

    default_loss_sums: LossSums | None = None

    def __init__(
        self,
        model_fn: Callable[[], keras.Model] = gin.REQUIRED,
        steps: int = 400,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        warmup_steps: int | None = None,
        final_learning_rate_share: float = 0.1,
        weight_decay: float = 0.1,
        clip_norm: float | None = 1.0,
        evaluate_every: int | None = None,
        evaluation_batch_size: int | None = None,
        steps_per_execution: int | None = None,
        jit_compile: bool = True,
        loss_sums: LossSums | None = None,
        metrics: Mapping[str, Metric] | None = None,
        strategy: OneDevice | tf.distribute.Strategy | None = None,
        read_ahead: int = 2,
    ):
        loss_sums = loss_sums or self.default_loss_sums
        if steps < 1 or batch_size < 1:
            raise ConfigurationError(
                f"steps ({steps}) and batch_size ({batch_size}) must be at least 1"
            )
        if read_ahead < 0:
            raise ConfigurationError(f"read_ahead is {read_ahead}: it must be at least 0")
        if not learning_rate > 0:
            raise ConfigurationError(f"learning_rate is {learning_rate}: it must be above 0")
        warmup_steps = steps // 20 if warmup_steps is None else warmup_steps
        if not 0 <= warmup_steps < steps:
            raise ConfigurationError(
                f"warmup_steps is {warmup_steps}: it must be at least 0 and below steps ({steps})"
            )
        if evaluate_every is None:
            evaluate_every = _largest_divisor(steps, max(steps // 20, 1))
        if evaluate_every < 1 or steps % evaluate_every:
            raise ConfigurationError(
                f"evaluate_every ({evaluate_every}) must divide steps ({steps}), so that the last "
                "step is evaluated"
            )
        if steps_per_execution is None:
            steps_per_execution = _largest_divisor(evaluate_every, _LARGEST_EXECUTION)
        if steps_per_execution < 1 or evaluate_every % steps_per_execution:
            raise ConfigurationError(
                f"steps_per_execution ({steps_per_execution}) must divide evaluate_every "
                f"({evaluate_every})"
            )
        self.model_fn, self.loss_sums = model_fn, loss_sums
        self.steps, self.batch_size, self.evaluate_every = steps, batch_size, evaluate_every
        self.evaluation_batch_size = evaluation_batch_size or batch_size
        self.read_ahead = read_ahead
        self.settings = {
            "steps": steps,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "warmup_steps": warmup_steps,
            "final_learning_rate_share": final_learning_rate_share,
            "weight_decay": weight_decay,
            "clip_norm": clip_norm,
            "evaluate_every": evaluate_every,
        }
        schedule = keras.optimizers.schedules.CosineDecay(
            initial_learning_rate=0.0 if warmup_steps else learning_rate,
            decay_steps=steps - warmup_steps,
            alpha=final_learning_rate_share,
            warmup_target=learning_rate if warmup_steps else None,
            warmup_steps=warmup_steps,
        )
        self._schedules: list[Hastened] = []  # one for each device's optimizer
        with seeded(0):
            self.model = model_fn()

        def optimizer_fn():
            self._schedules.append(Hastened(schedule))
            return keras.optimizers.AdamW(
                self._schedules[-1], weight_decay=weight_decay, global_clipnorm=clip_norm
            )

        placement = placement_of(strategy)
        if type(placement) is OneDevice:
            self._wrapped = WeightedModel(self.model, loss_sums)
            optimizer = optimizer_fn()
            self._wrapped.compile(
                optimizer=optimizer,
                jit_compile=jit_compile,
                steps_per_execution=steps_per_execution,
            )
            self._build_optimizer(optimizer)
        else:
            self._wrapped = ReplicatedModel(
                self.model, loss_sums, model_fn, optimizer_fn, placement, batch_size
            )
            self._wrapped.compile(jit_compile, steps_per_execution)
        self._evaluation_traces = 0

        def loss_of_batch(batch):
            self._evaluation_traces += 1
            outputs = self.model(model_inputs(self.model, batch), training=False)
            return loss_sums(outputs, batch)

        self._loss_of_batch = tf.function(loss_of_batch, jit_compile=jit_compile, autograph=False)
        self.metrics = dict(metrics or {})

        def metrics_of_batch(batch):
            outputs = self.model(model_inputs(self.model, batch), training=False)
            return {
                name: tf.cast(metric(outputs, batch), tf.float32)
                for name, metric in self.metrics.items()
            }

        self._metrics_of_batch = tf.function(
            metrics_of_batch, jit_compile=jit_compile, autograph=False
        )

    def _build_optimizer(self, optimizer) -> None:
        """Makes the optimizer's slots; for those who only look at the compiled step."""
        optimizer.build(self.model.trainable_variables)

    @property
    def on_one_device(self) -> bool:
        """Whether there is one copy of the model."""
        return not isinstance(self._wrapped, ReplicatedModel)

    @property
    def parameters(self) -> int:
        """Trainable parameters of the model."""
        return int(sum(math.prod(v.shape) for v in self.model.trainable_variables))

    @property
    def traces(self) -> dict[str, int]:
        """How often the step (of each replica) and the evaluation were traced: 1, in all runs."""
        return {"train": self._wrapped.traces, "evaluation": self._evaluation_traces}

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the model's configuration and the settings that change results."""
        try:
            # Keras numbers unnamed layers per process: two builds of one model differ in nothing
            # else.
            described = re.sub(r'_\d+"', '"', self.model.to_json())
        except (NotImplementedError, TypeError, ValueError):  # A model without get_config.
            described = ""
        shapes = [tuple(v.shape) for v in self.model.weights]
        facts = [described, shapes, self.settings]
        if self.metrics:
            facts.append(sorted(self.metrics))
        text = json.dumps(facts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def steps_of(self, steps_share: float) -> int:
        """Steps of a run that has this share of the trainer's; ConfigurationError unless it can."""
        steps = round(self.steps * steps_share)
        if not 0 < steps_share <= 1 or steps < 1 or steps % self.evaluate_every:
            raise ConfigurationError(
                f"{steps_share:g} of {self.steps} steps must be a whole number of evaluations, one"
                f" every {self.evaluate_every} steps, and no more than all of them"
            )
        return steps

    def reset(self, seed: int, initial: Sequence[np.ndarray] | None = None) -> None:
        """Weights from `seed`, or those given; optimizer, dropout as before the first step."""
        with seeded(derive_seed(seed, "language model")):  # a name like any other: part of the seed
            fresh = self.model_fn()
        if initial is not None:
            try:
                fresh.set_weights(list(initial))
            except ValueError as error:
                raise ConfigurationError(
                    f"The weights to go on from do not fit the model '{fresh.name}': {error}. Give"
                    " those of a model that is built alike."
                ) from error
        self._wrapped.restart(fresh)

    def losses(self, examples: ExampleSet) -> tuple[np.ndarray, np.ndarray]:
        """Summed loss and number of targets of every example, float64 [N] each."""
        batches = in_order(examples, self.evaluation_batch_size, self.read_ahead)
        return self._losses(batches, len(examples))

    def _losses(self, batches, count: int) -> tuple[np.ndarray, np.ndarray]:
        # All calls are made before the first result is read: nothing waits in between.
        pairs = [self._loss_of_batch(batch) for batch in batches]
        sums, counts = (
            np.concatenate([np.asarray(pair[k], dtype=np.float64) for pair in pairs])[:count]
            for k in (0, 1)
        )
        return sums, counts

    def train(
        self,
        data: ExampleSet | BatchStream,
        test: ExampleSet,
        seed: int = 0,
        progress: Progress | None = None,
        callbacks: Sequence[keras.callbacks.Callback] = (),
        steps_share: float = 1.0,
        initial: Sequence[np.ndarray] | None = None,
    ) -> TrainingRecord:
        """Trains from scratch; the weights stay in `self.model` until the next call.

        Args:
            data: training examples, drawn in epochs by `BatchStream(data, batch_size, seed)`; or
                a stream (anything with `examples` and `indices(step)` -> int [batch_size]).
            test: evaluated before the first step and every `evaluate_every` steps.
            seed: of the initial weights and the order of the batches.
            progress: called with (step, steps, logs).
            callbacks: Keras callbacks; an epoch is `evaluate_every` steps and its logs hold
                "loss" and "test_loss".
            steps_share: of the trainer's steps that this run has; it goes through all of the
                learning rate's schedule, warm-up included, in so many steps.
            initial: weights to go on from in place of fresh ones, as `model.get_weights()` of a
                model built alike gives them; the optimizer and its schedule begin anew.

        Raises:
            ConfigurationError: the share gives no whole number of evaluations, or the weights do
                not fit.
            DataError: too few examples for a batch, or a test set without a target.
            NonFiniteError: the test loss is NaN or infinite.
        """
        started = time.monotonic()
        if not len(test):
            raise DataError(f"the set {test.name!r} to evaluate on is empty")
        steps = self.steps_of(steps_share)
        stream = data if hasattr(data, "indices") else BatchStream(data, self.batch_size, seed)
        examples = stream.examples
        rows = rows_of(stream, steps)
        if rows.shape[1] != self.batch_size:
            raise ConfigurationError(
                f"the stream has batches of {rows.shape[1]}, the trainer of {self.batch_size}"
            )
        test_batches = in_order(test, self.evaluation_batch_size, self.read_ahead)
        sums = counts = np.zeros(0)  # of the last evaluation

        def evaluate() -> float:
            nonlocal sums, counts
            sums, counts = self._losses(test_batches, len(test))
            if not counts.sum():
                raise DataError(f"the set {test.name!r} holds nothing to predict")
            return float(sums.sum() / counts.sum())

        self.reset(seed, initial)
        for schedule in self._schedules:
            schedule.pace.assign(self.steps / steps)
        evaluation = _Evaluation(evaluate, self.evaluate_every, steps, progress)
        with gathered(examples, rows, self.read_ahead) as batches:
            self._wrapped.fit(
                batches,
                epochs=steps // self.evaluate_every,
                steps_per_epoch=self.evaluate_every,
                callbacks=[evaluation, *callbacks],
                shuffle=False,  # The stream has shuffled.
                verbose=0,
            )
        if callbacks:  # which may have changed the weights since
            sums, counts = self._losses(test_batches, len(test))
        return TrainingRecord.of(
            seed,
            examples,
            rows,
            evaluation.curve,
            evaluation.train_curve,
            test.sources,
            Losses(sums, counts),
            time.monotonic() - started,
            self._mean_metrics(test_batches, len(test)),
        )

    def _mean_metrics(self, batches, count: int) -> dict[str, float]:
        if not self.metrics:
            return {}
        found = [self._metrics_of_batch(batch) for batch in batches]
        return {
            name: float(np.concatenate([part[name] for part in found])[:count].mean())
            for name in self.metrics
        }


@gin.configurable
class LanguageModelTrainer(RepeatedTrainer):
    """A RepeatedTrainer of models from {"tokens": int32 [B, S]} to logits [B, S, V].

    Args: as for `RepeatedTrainer`; the loss is `next_token_sums`, in nats per real token.
    """

    default_loss_sums = staticmethod(next_token_sums)


@gin.configurable
def example_sums(
    outputs, batch: dict, per_example_loss: Callable = gin.REQUIRED
) -> tuple[tf.Tensor, tf.Tensor]:
    """Losses (outputs, batch) -> [B] as sums over one target an example: float32 [B], ones [B].

    Losses by token, [B, S], become sums over an example's tokens, and their number.
    """
    losses = tf.cast(per_example_loss(outputs, batch), tf.float32)
    if losses.shape.rank == 2:
        counts = checked_counts(per_example_loss, losses, batch)
        return tf.reduce_sum(losses * counts, axis=1), tf.reduce_sum(counts, axis=1)
    return losses, tf.ones_like(losses)


@gin.configurable
class ExampleTrainer(RepeatedTrainer):
    """A RepeatedTrainer of a per-example loss, the same that meta-training weighs: classifiers,
    regressions, any user's model.

    Args: as for `RepeatedTrainer`, whose loss is `example_sums`. `metrics` are such as {"accuracy":
        @correct}; their means over the test set at the end are reported.
    """

    default_loss_sums = staticmethod(example_sums)


@gin.configurable
def correct(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """1.0 where the largest of the logits [B, C] is at batch["label"], else 0.0; float32 [B]."""
    label = tf.cast(batch["label"], tf.int64)
    return tf.cast(tf.equal(tf.argmax(outputs, axis=-1), label), tf.float32)


def _largest_divisor(number: int, limit: int) -> int:
    return next(k for k in range(min(number, limit), 0, -1) if number % k == 0)
