"""The Keras model that `fit` trains on a loss summed and counted per example.

On one device one compiled step does all. On several, `ReplicatedModel` splits each batch: a replica
has a copy of the model and of its optimizer, and computes the gradient of its part; an all-reduce
adds gradients, losses and numbers of targets, and every copy takes the same step.
"""

from collections.abc import Callable
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.devices.replicas import Replicas
from dr_keras.models.model_inputs import model_inputs

# (model outputs, batch) -> (summed loss [B], what it is summed over [B]).
LossSums = Callable[[Any, dict], tuple[tf.Tensor, tf.Tensor]]


class Hastened(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule gone through `pace` times as fast; a variable, so that no step is traced anew."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule):
        self.schedule = schedule
        self.pace = tf.Variable(1.0, trainable=False, name="pace")

    def __call__(self, step):
        return self.schedule(tf.cast(step, tf.float32) * self.pace)


class WeightedModel(keras.Model):
    """Wraps a model so that Keras' `fit` minimises a loss summed and counted per example."""

    def __init__(self, model: keras.Model, loss_sums: LossSums):
        super().__init__(name="weighted_" + model.name)
        self.model = model
        self.loss_sums = loss_sums
        self.mean_loss = keras.metrics.Mean(name="loss")
        self.traces = 0

    def call(self, inputs, training=None):
        return self.model(model_inputs(self.model, inputs), training=training)

    def train_step(self, batch):
        self.traces += 1  # Python runs when the step is traced, not when it is executed.
        with tf.GradientTape() as tape:
            sums, counts = self.loss_sums(self(batch, training=True), batch)
            total = tf.reduce_sum(counts)
            loss = tf.reduce_sum(sums) / tf.maximum(total, 1.0)
        weights = self.trainable_variables
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.mean_loss.update_state(loss, sample_weight=total)
        return {"loss": self.mean_loss.result()}

    def restart(self, fresh: keras.Model) -> None:
        """Takes the values of a fresh model; the optimizer is as before its first step."""
        _restart(self.model, self.optimizer, fresh)


def _restart(model, optimizer, fresh) -> None:
    for variable, value in zip(model.variables, fresh.variables, strict=True):
        variable.assign(value)
    for variable in optimizer.variables:
        variable.assign(keras.ops.zeros_like(variable))


@dataclasses.dataclass
class _Copy:
    """What one replica has; Keras looks for layers in lists, and must not find these."""

    device: str
    model: keras.Model
    optimizer: keras.optimizers.Optimizer
    apply: Callable | None = None

    def applied(self, gradients: list) -> None:
        self.optimizer.apply(gradients, self.model.trainable_variables)


class ReplicatedModel(WeightedModel):
    """A WeightedModel on the replicas of a strategy of one process; each has a part of every batch.

    The loss is the mean over the targets of the whole batch, as on one device, so that weights
    differ from those of one device by rounding alone. Dropout draws other masks for each part.

    Args:
      model_fn: builds a model like `model`, for the replicas after the first.
      optimizer_fn: builds an optimizer; one for each replica.
      placement: of a strategy.
      batch_size: examples of a batch, all replicas together.

    Raises:
      ConfigurationError: several workers, a batch that the replicas cannot share equally, or a
        model that keeps statistics over its batches.
    """

    def __init__(
        self,
        model: keras.Model,
        loss_sums: LossSums,
        model_fn: Callable[[], keras.Model],
        optimizer_fn: Callable[[], keras.optimizers.Optimizer],
        placement: Replicas,
        batch_size: int,
    ):
        super().__init__(model, loss_sums)
        _check(placement, model, batch_size)
        self._placement = placement
        self._copies = []
        for place, device in enumerate(placement.strategy.extended.worker_devices):
            with tf.device(device):
                copy = model_fn() if place else model
                self._copies.append(_Copy(device, copy, optimizer_fn()))

    def compile(self, jit_compile: bool, steps_per_execution: int) -> None:
        """As Keras' own, with the first replica's optimizer."""
        super().compile(
            optimizer=self._copies[0].optimizer,
            jit_compile=jit_compile,
            steps_per_execution=steps_per_execution,
        )
        self._local = tf.function(self._local_function, jit_compile=jit_compile, autograph=False)
        for copy in self._copies:
            with tf.device(copy.device):
                copy.optimizer.build(copy.model.trainable_variables)
            copy.apply = tf.function(copy.applied, jit_compile=jit_compile, autograph=False)

    def restart(self, fresh: keras.Model) -> None:
        for place, copy in enumerate(self._copies):
            _restart(copy.model, copy.optimizer, fresh)
            for variable in copy.model.non_trainable_variables if place else ():
                if "seed_generator_state" in variable.path:  # or all parts would have equal masks
                    own = np.array([place * 0x9E3779B1 % 2**32, 0], np.uint32)
                    variable.assign(variable.numpy() + own)

    def _local_function(self, trainable, non_trainable, batch):
        """(gradients of the summed loss, sum, number of targets, new non-trainable values)."""
        self.traces += 1
        with tf.GradientTape() as tape:
            tape.watch(trainable)
            outputs, non_trainable = self.model.stateless_call(
                trainable, non_trainable, model_inputs(self.model, batch), training=True
            )
            sums, counts = self.loss_sums(outputs, batch)
            total = tf.reduce_sum(sums)
        gradients = tape.gradient(total, trainable, unconnected_gradients="zero")
        return pytrees.dense(gradients), total, tf.reduce_sum(counts), non_trainable

    def _replica_step(self, batch):
        """(gradients of the mean loss, it, its targets: all of the whole batch; new seeds)."""
        context = tf.distribute.get_replica_context()
        place = int(tf.get_static_value(context.replica_id_in_sync_group))
        parts = {name: tf.split(value, len(self._copies))[place] for name, value in batch.items()}
        model = self._copies[place].model
        gradients, loss, count, non_trainable = self._local(
            [v.value for v in model.trainable_variables],
            [v.value for v in model.non_trainable_variables],
            parts,
        )
        *gradients, loss, count = self._placement.sum([*gradients, loss, count])
        share = 1 / tf.maximum(count, 1.0)
        gradients = [gradient * tf.cast(share, gradient.dtype) for gradient in gradients]
        return gradients, loss * share, count, non_trainable

    def _step(self, batch):
        local = self._placement.strategy.experimental_local_results
        gradients, loss, count, non_trainable = self._placement.strategy.run(
            self._replica_step, args=(batch,)
        )
        gradients = [local(gradient) for gradient in gradients]
        states = [local(value) for value in non_trainable]
        for place, copy in enumerate(self._copies):
            with tf.device(copy.device):
                copy.apply([values[place] for values in gradients])
                seeds = copy.model.non_trainable_variables
                for variable, values in zip(seeds, states, strict=True):
                    variable.assign(values[place])
        self.mean_loss.update_state(local(loss)[0], sample_weight=local(count)[0])

    def make_train_function(self, force: bool = False):
        """What `fit` calls: several steps on a dataset's iterator; logs of the last."""
        if self.train_function is None or force:

            @tf.function
            def train(iterator):
                for _ in tf.range(self.steps_per_execution):
                    self._step(iterator.get_next())
                return {"loss": self.mean_loss.result()}

            self.train_function = train
        return self.train_function


def _check(placement: Replicas, model: keras.Model, batch_size: int) -> None:
    if placement.worker_count > 1:
        raise ConfigurationError(
            "Models of an evaluation are not trained by several workers together: leave STRATEGY at"
            " @one_device() or set @mirrored_strategy(), and start the same command on every"
            " machine with one --base_dir that all of them see: they share the cells."
        )
    replicas = placement.replica_count
    if batch_size % replicas:
        raise ConfigurationError(
            f"batch_size is {batch_size}, which {replicas} replicas cannot share equally: make it a"
            f" multiple of {replicas}, or use fewer devices."
        )
    statistics = [v.path for v in model.non_trainable_variables if tf.as_dtype(v.dtype).is_floating]
    if statistics:
        raise ConfigurationError(
            f"The model '{model.name}' keeps statistics over its batches"
            f" ({', '.join(statistics[:3])}; BatchNormalization does), which would differ where"
            " replicas share a batch: train it on one device, or use a normalisation within"
            " examples."
        )
