"""`CuratedModel`: one model in training, and a rater that learns beside it what it should train on.

Meta-training (`dr_keras.meta`) learns a rater through a population of inner models, for corpora
that many models will be trained on. Here there is one model and one training. Each step

1. scores a batch of B_up examples (batch top-K of `rating.fractions`) with the rater as it is,
2. updates the model by the best B of them, with equal weights or with weights by their scores, and
3. every `meta_every` steps differentiates the held-out loss through the model's own last
   `unroll_length` updates by the rater's parameters, and moves the rater.

The updates are gone through again from where the model stood before them, by the same optimizer, on
the same batches, with the soft weights of the paper's equation 2 over the examples that were
offered: a choice of the best has no derivative. Where the model itself trains on soft weights of
all that is offered (`discard_fraction=0, weights="soft"`), what is differentiated is its very
training. The model's state is not changed by it.
"""

from collections.abc import Mapping, Sequence
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet, objects
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta import checks, pytrees
from dr_keras.meta.combinations import Combination, weighted_mean
from dr_keras.meta.estimators import Estimator, NestedTape
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.meta_step import MemberStep
from dr_keras.meta.micro_batches import check_parts
from dr_keras.meta.optimizers import OuterAdam
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.seeds import derive_seed
from dr_keras.meta.weighting import Weighting, example_softmax
from dr_keras.models.losses import counts_of
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.objectives import mean_loss
from dr_keras.models.rater_scores import mean_of_tokens
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.rules import split_best
from dr_keras.training.curated import elements
from dr_keras.training.curated.by_source import BySource
from dr_keras.training.curated.keras_losses import per_example
from dr_keras.training.curated.keras_optimizers import FunctionalOptimizer, functional
from dr_keras.training.curated.memory import Memory
import gin

WEIGHTS = ("equal", "soft")

# What a meta-step says, beside whether it counts.
_SAID = ("outer_loss", "meta_gradient_norm", "effective_sample_size")


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """What `compile` makes."""

    problem: KerasProblem
    optimizer: FunctionalOptimizer
    outer_optimizer: OuterAdam
    step: MemberStep


@dataclasses.dataclass(frozen=True)
class _HeldOut:
    """The held-out sets in one order decided by the seed, as variables outside of any graph."""

    features: dict[str, dict[str, tf.Variable]]
    sizes: dict[str, int]

    @classmethod
    def of(cls, sets: Mapping[str, ExampleSet], seed: int) -> "_HeldOut":
        features = {}
        for name, examples in sets.items():
            order = np.random.default_rng(derive_seed(seed, "held out", name)).permutation(
                len(examples)
            )
            features[name] = {
                key: tf.Variable(np.asarray(values[order]), trainable=False)
                for key, values in examples.features.items()
            }
        return cls(features, {name: len(examples) for name, examples in sets.items()})

    def batches(self, meta_step: tf.Tensor, size: int) -> dict[str, dict[str, tf.Tensor]]:
        """The next `size` examples of each set; after its last example comes its first."""
        first = tf.cast(meta_step, tf.int64) * size
        found = {}
        for name, columns in self.features.items():
            rows = (first + tf.range(size, dtype=tf.int64)) % self.sizes[name]
            found[name] = {key: tf.gather(values, rows) for key, values in columns.items()}
        return found


@gin.configurable(denylist=["model", "rater", "held_out", "sources"])
class CuratedModel(keras.Model):
    """A model that trains on what a rater keeps, and the rater, which learns from that training.

        curated = CuratedModel(model, rater, held_out, batch_size=32, discard_fraction=0.5)
        curated.compile(keras.optimizers.AdamW(1e-3), loss=next_token_loss)
        curated.fit(train, epochs=10, steps_per_epoch=200)

    `model` and `rater` are trained in place; the rater is exported like any other, unless it reads
    the state of the model. `evaluate` and `predict` are those of the model.

    Args:
      model: built Keras model.
      rater: built Keras model from a batch's features to scores, see `MetaTrainer`.
      held_out: examples that the model shall do well on: a `tf.data.Dataset` that ends, an
        ExampleSet or a dict of arrays, which is kept in memory; or such by name, for
        `combination`. Not needed where the rater stays as it is.
      batch_size: B, examples that an update trains on.
      discard_fraction: f in [0, 1) of batch top-K; B_up = B / (1 - f), exactly, is the batch that
        is scored. 0: all of it trains.
      weights: "equal" for what is kept, or "soft", `weighting` of its scores.
      meta_every: k, steps between two meta-steps; None: the rater stays as it is.
      unroll_length: T, updates that a meta-gradient goes through, at most k.
      meta_batch_size: examples of each scored batch that the meta-step goes through, its first
        ones; None: all B_up.
      outer_batch_size: held-out examples of a meta-step, of each set.
      weighting: from scores to weights, see `dr_keras.meta.weighting`.
      estimator: see `dr_keras.meta.estimators`.
      objective, combination, reference, through_features: as for `MetaTrainer`.
      source: the feature that says where an example came from, a text or a place in `sources`; it
        is no input of the models. Of an ExampleSet its sources are known.
      sources: names of what may be found there.
      seed: of held-out batches, of an estimator's random numbers, and of the order of an
        ExampleSet.

    Raises:
      ConfigurationError: a setting out of its range or that contradicts another; a strategy of
        several replicas.
      DataError: a held-out set of fewer examples than a batch.
    """

    def __init__(
        self,
        model: keras.Model,
        rater: keras.Model,
        held_out=None,
        batch_size: int = 32,
        discard_fraction: Decimal = 0.5,
        weights: str = "equal",
        meta_every: int | None = 8,
        unroll_length: int = 2,
        meta_batch_size: int | None = None,
        outer_batch_size: int = 32,
        weighting: Weighting | None = None,
        estimator: Estimator | None = None,
        objective=None,
        combination: Combination | None = None,
        reference: keras.Model | None = None,
        through_features: bool = True,
        source: str | None = None,
        sources: Sequence[str] = (),
        seed: int = 0,
    ):
        super().__init__(name=f"curated_{model.name}")
        _check_one_replica()
        self.oversized = oversized_batch(batch_size, discard_fraction)
        if weights not in WEIGHTS:
            raise ConfigurationError(
                f"CuratedModel.weights is {weights!r}: it must be one of {', '.join(WEIGHTS)}."
            )
        self.kept_size, self.kept_weights, self.seed = int(batch_size), weights, int(seed)
        self.source = source
        self.meta_every, self.unroll_length = meta_every, unroll_length
        self.meta_batch_size = self.oversized if meta_batch_size is None else meta_batch_size
        self.outer_batch_size = outer_batch_size
        self.model, self.rater = model, rater
        if source is not None and not sources:
            raise ConfigurationError(
                f"CuratedModel.source is '{source}', and sources is empty: name what may be there."
            )
        self._check_meta(held_out)
        sets = {} if held_out is None else _named(held_out)
        self._sets = _Kept({n: elements.whole(one, model, n) for n, one in sets.items()})
        for name, examples in self._sets.of.items():
            if len(examples) < outer_batch_size:
                raise DataError(
                    f"The held-out set '{name}' has {len(examples)} examples, fewer than"
                    f" outer_batch_size, {outer_batch_size}: add some, or lower it."
                )
        combination = combination or weighted_mean()
        if meta_every is not None:
            combination.check(self._sets.of)
        self._held_out = _HeldOut.of(self._sets.of, seed) if meta_every is not None else None
        self._settings = _Kept(
            {
                "weighting": weighting or example_softmax(),
                "objective": objective or mean_loss(),
                "combination": combination,
                "reference": reference,
                "through_features": through_features,
            }
        )
        self.estimator = estimator or NestedTape()
        self._compiled: _Compiled | None = None
        self.memory: Memory | None = None
        self._names = tuple(sources)
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._meta_metrics = [keras.metrics.Mean(name=name) for name in _SAID if meta_every]
        self._by_source: list[BySource] = []
        self._name_sources(self._names)
        self.built = True

    def _check_meta(self, held_out) -> None:
        if self.meta_every is None:
            return
        checks.at_least("CuratedModel.meta_every", self.meta_every, 1)
        checks.at_least("CuratedModel.unroll_length", self.unroll_length, 1)
        checks.at_least("CuratedModel.outer_batch_size", self.outer_batch_size, 1)
        checks.at_least("CuratedModel.meta_batch_size", self.meta_batch_size, 1)
        if self.unroll_length > self.meta_every:
            raise ConfigurationError(
                f"CuratedModel.unroll_length is {self.unroll_length}, more than the"
                f" {self.meta_every} updates between two meta-steps: raise meta_every."
            )
        if self.meta_batch_size > self.oversized:
            raise ConfigurationError(
                f"CuratedModel.meta_batch_size is {self.meta_batch_size}, more than the"
                f" {self.oversized} examples that are scored: lower it, or leave it at None."
            )
        if held_out is None:
            raise ConfigurationError(
                "CuratedModel.held_out is missing: the rater learns from the loss on it. Name a"
                " dataset, or set meta_every to None for a rater that stays as it is."
            )

    def _name_sources(self, names: Sequence[str]) -> None:
        self._names = tuple(names)
        if names:
            self._by_source = [BySource(names, "kept"), BySource(names, "weight")]

    # --- as the meta level sees it -----------------------------------------------------------

    @property
    def inner_model(self) -> keras.Model:
        """The model that is trained."""
        return self.model

    @property
    def problem(self) -> KerasProblem:
        """Of model, rater and loss; made by `compile`."""
        return self._made.problem

    @property
    def per_example_loss(self):
        """`(outputs, batch) -> losses`, of `compile`."""
        return self.problem.per_example_loss

    @property
    def updates(self) -> int:
        """Updates that the model has made."""
        return int(self.memory.read("inner")["age"].numpy()) if self.memory else 0

    @property
    def meta_steps(self) -> int:
        """Meta-steps that the rater has made, those included that were not finite."""
        return int(self.memory.read("outer")["meta_step"].numpy()) if self.memory else 0

    @property
    def _made(self) -> _Compiled:
        if self._compiled is None:
            raise ConfigurationError("CuratedModel: call compile(optimizer, loss) first.")
        return self._compiled

    # --- Keras -------------------------------------------------------------------------------

    def call(self, inputs, training=None):
        """The model's outputs."""
        return self.model(model_inputs(self.model, inputs), training=training)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        outer_optimizer: OuterAdam | None = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool = True,
        **others,
    ) -> None:
        """As Keras' own; training begins anew, from the weights as they are.

        Args:
          optimizer: of the model: keras.optimizers.SGD, Adam or AdamW, or an inner optimizer of
            `dr_keras.meta.optimizers`. A learning rate that a callback sets is followed.
          loss: `(outputs, batch) -> losses`, as for `MetaTrainer`; or, for elements (x, y), a loss
            of Keras.
          outer_optimizer: of the rater.
          run_eagerly, steps_per_execution, jit_compile: as Keras has them.

        Raises:
          ConfigurationError: an optimizer without a counterpart that derivatives go through; an
            argument of Keras that means nothing here; a strategy of several replicas.
        """
        _check_one_replica()
        if meant := [name for name, value in others.items() if value is not None]:
            raise ConfigurationError(
                f"CuratedModel.compile does not take {', '.join(meant)}: losses are weighed by the"
                " rater alone, and metrics are those of what it keeps; evaluate `curated.model`"
                " with others."
            )
        found = functional(optimizer)
        problem = KerasProblem(
            self.rater, self.model, per_example(loss), found.optimizer, **self._settings.of
        )
        outer = outer_optimizer or OuterAdam()
        parts = getattr(self.estimator, "micro_batches", 1)
        statistics = problem.parts.statistics(self.model.non_trainable_variables)
        sizes = {"inner": self.meta_batch_size, "outer": self.outer_batch_size}
        if self.meta_every is not None:
            check_parts(parts, sizes, statistics, self.estimator)
        step = MemberStep(problem, self.estimator, outer, parts)
        self._compiled = _Compiled(problem, found, outer, step)
        theirs = optimizer if isinstance(optimizer, keras.optimizers.Optimizer) else None
        if theirs is not None and not theirs.built:
            theirs.build([])  # its slots are held here; its step and rate go on being its own
        super().compile(
            optimizer=theirs,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile and not run_eagerly,
        )
        self._remember()

    def _remember(self) -> None:
        """Holds what a training has beside weights, as before its first step."""
        memory = Memory(name="memory")
        zero = tf.constant(0, tf.int32)
        theta = [v.value for v in self.model.trainable_variables]
        memory.hold("inner", {"slots": self._made.optimizer.optimizer.init(theta), "age": zero})
        self.memory = memory
        if self.meta_every is None:
            return
        eta = self._eta()
        remember = getattr(self.estimator, "init", None)
        memory.hold(
            "outer",
            {
                "slots": self._made.outer_optimizer.init(eta),
                "contributions": zero,
                "meta_step": zero,
                "memory": remember(self._state(), eta) if remember else {},
            },
        )
        if self.unroll_length > 1:
            memory.hold("entering", self._state())

    def get_config(self):
        raise ConfigurationError(
            "A CuratedModel is not saved as a whole: save `curated.model` and `curated.rater`, or"
            " export the rater; for going on with a training, save_weights, ModelCheckpoint with"
            " save_weights_only=True, or BackupAndRestore hold all that it needs."
        )

    # --- data --------------------------------------------------------------------------------

    def fit(self, x=None, y=None, validation_data=None, steps_per_epoch=None, **others):
        """As Keras' own.

        Args:
          x: a `tf.data.Dataset` of examples or batches (any size: B_up of them are put together),
            dicts of features or (x, y); or an ExampleSet, drawn by (seed, step): a training of it
            that is resumed by BackupAndRestore equals one that never stopped.
          validation_data: a dataset of batches, or an ExampleSet; its loss is "val_loss".
          steps_per_epoch: of an ExampleSet, whose stream has no end, its size / B_up where None.
          others: of Keras' fit.

        Raises:
          ConfigurationError: models, loss and data do not fit together, or an argument means
            nothing here.
        """
        if y is not None or not isinstance(x, (tf.data.Dataset, ExampleSet)):
            raise ConfigurationError(
                f"CuratedModel.fit takes a tf.data.Dataset or an ExampleSet, not {type(x).__name__}"
                ": make one by tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x)).repeat()."
            )
        if validation_data is not None:
            validation_data = self._validation(validation_data)
        kept = {"validation_data": validation_data, **others}
        if isinstance(x, tf.data.Dataset):
            dataset = self.prepare(x)
            return super().fit(dataset, steps_per_epoch=steps_per_epoch, **kept)
        if steps_per_epoch is None:
            steps_per_epoch = max(len(x) // self.oversized, 1)
        names = self.prepare(x)
        with elements.stream(x, self.oversized, self.seed, lambda: self.updates, names) as dataset:
            return super().fit(dataset, steps_per_epoch=steps_per_epoch, **kept)

    def prepare(self, train):
        """What `fit` does first; by itself, before weights of an earlier training are loaded.

        Args:
          train: as for `fit`.

        Returns:
          The dataset that `fit` trains on; of an ExampleSet, the names of its sources.
        """
        made, outer = self._made, self._sets.of if self.meta_every else {}
        if isinstance(train, ExampleSet):
            names = elements.sources_of(train)
            if tuple(names) != self._names:
                self._name_sources(names)
            checks.models_fit(self, train, outer)
            shapes = {n: (v.shape[1:], v.dtype) for n, v in train.features.items()}
            found: Any = names
        else:
            found = elements.regrouped(
                train, self.model, self.oversized, self.source, self._names
            )
            shapes = {n: (s.shape[1:], s.dtype) for n, s in found.element_spec.items()}
            shapes.pop(elements.SOURCE, None)
            checks.models_fit(self, _sample(found), outer)
        if self.meta_every and self.unroll_length > 1 and not self.memory.holds("batches"):
            size = (self.unroll_length, self.meta_batch_size)
            batches = {n: tf.zeros((*size, *shape), dtype) for n, (shape, dtype) in shapes.items()}
            self.memory.hold("batches", batches)
        del made
        return found

    def _validation(self, given):
        if isinstance(given, ExampleSet):
            arrays = {name: np.asarray(values[:]) for name, values in given.features.items()}
            return tf.data.Dataset.from_tensor_slices(arrays).batch(self.oversized)
        if isinstance(given, tf.data.Dataset):
            return given
        raise ConfigurationError(
            f"validation_data is {type(given).__name__}: give a tf.data.Dataset of batches or an"
            " ExampleSet."
        )

    # --- steps -------------------------------------------------------------------------------

    def _eta(self) -> list:
        return [v.value.read_value() for v in self.rater.trainable_variables]

    def _state(self) -> InnerState:
        """The model in training, as tensors."""
        others = [v.value.read_value() for v in self.model.non_trainable_variables]
        inner = self.memory.read("inner")
        return InnerState(
            [v.value.read_value() for v in self.model.trainable_variables],
            self._made.problem.parts.statistics(others),
            inner["slots"],
            inner["age"],
            self._made.optimizer.hyper(),
        )

    def _take(self, state: InnerState) -> None:
        """Gives the model the values of a state."""
        for variable, value in zip(self.model.trainable_variables, state.theta, strict=True):
            variable.assign(value)
        parts = self._made.problem.parts
        changing = parts.statistics(self.model.non_trainable_variables)
        for variable, value in zip(changing, state.statistics, strict=True):
            variable.assign(value)
        self.memory.write("inner", {"slots": state.slots, "age": state.age})
        if self.optimizer is not None:
            iterations = self.optimizer.iterations
            iterations.assign(tf.cast(state.age, iterations.dtype))

    def train_step(self, data):
        """One update, and a meta-step where one is due; see the module."""
        batch = dict(data)
        numbers = batch.pop(elements.SOURCE, None)
        constants = self.problem.constants()
        problem = self.problem(constants)
        eta, state = self._eta(), self._state()
        counts = problem.counts(batch)
        rows, kept = tf.range(self.oversized), batch
        scores = tf.zeros_like(counts)
        if self.oversized > self.kept_size or self.kept_weights == "soft":
            scores = problem.scores(eta, state, batch)
        if self.oversized > self.kept_size:
            by_example = scores if scores.shape.rank == 1 else mean_of_tokens(scores, counts > 0)
            rows, _ = split_best(by_example, self.kept_size, self.oversized)
            kept = {name: tf.gather(values, rows) for name, values in batch.items()}
        chosen = tf.gather(scores, rows)
        if self.kept_weights == "equal":
            chosen = tf.zeros_like(chosen)
        weights = problem.weighting(chosen, tf.gather(counts, rows))
        after, losses = inner_update(problem, state, weights, kept)
        self._take(after)
        if self.meta_every is not None:
            self._meta_level(constants, eta, state, batch)
        found = tf.cast(tf.gather(counts, rows), losses.dtype)
        self._mean_loss.update_state(losses, sample_weight=found)
        if numbers is not None:
            self._tell_sources(numbers, rows, weights)
        return self.get_metrics_result()

    def _tell_sources(self, numbers, rows, weights) -> None:
        by_example = weights if weights.shape.rank == 1 else tf.reduce_sum(weights, axis=1)
        by_example = tf.cast(by_example, tf.float32)
        one_each = tf.ones([self.oversized])
        is_kept = tf.scatter_nd(rows[:, tf.newaxis], tf.ones_like(by_example), [self.oversized])
        kept, weight = self._by_source
        kept.update_state(is_kept, numbers, one_each)
        weight.update_state(by_example, tf.gather(numbers, rows), tf.constant(1.0))

    def _meta_level(self, constants: dict, eta: list, state: InnerState, batch: dict) -> None:
        """Keeps what a meta-step needs, and takes it when it is due."""
        length, every = self.unroll_length, self.meta_every
        offered = {n: value[: self.meta_batch_size] for n, value in batch.items()}
        entering, batches = state, {n: value[tf.newaxis] for n, value in offered.items()}
        if length > 1:
            begins = tf.equal(state.age % every, every - length)
            entering = pytrees.where(begins, state, self.memory.read("entering"))
            earlier = self.memory.read("batches")
            batches = {
                name: tf.concat([earlier[name][1:], value], axis=0)
                for name, value in batches.items()
            }
            self.memory.write("entering", entering)
            self.memory.write("batches", batches)
        before = {"eta": eta, **self.memory.read("outer")}
        due = tf.equal((state.age + 1) % every, 0)
        after, said, finite = tf.cond(
            due,
            lambda: self._meta_step(constants, before, entering, batches),
            lambda: (before, [tf.constant(0.0)] * len(_SAID), tf.constant(False)),
        )
        for variable, value in zip(self.rater.trainable_variables, after.pop("eta"), strict=True):
            variable.assign(value)
        self.memory.write("outer", after)
        for metric, value in zip(self._meta_metrics, said, strict=True):
            metric.update_state(value, sample_weight=tf.cast(finite, tf.float32))

    def _meta_step(self, constants: dict, before: dict, entering: InnerState, batches: dict):
        """(the outer level after one meta-step, what it says, whether it was finite)."""
        number, outer = before["meta_step"], self._made.outer_optimizer
        direction, state, slots, report = self._made.step.step(
            before["eta"],
            constants,
            entering._replace(memory=before["memory"]),
            before["slots"],
            before["contributions"],
            batches,
            self._held_out.batches(number, self.outer_batch_size),
            tf.stack([tf.constant(derive_seed(self.seed, "key"), tf.int32), number]),
        )
        finite = report["finite"]
        moved = outer.apply(before["eta"], direction, number)
        after = {
            "eta": pytrees.where(finite, moved, before["eta"]),
            "slots": slots,
            "contributions": before["contributions"] + tf.cast(finite, tf.int32),
            "meta_step": number + 1,
            "memory": state.memory,
        }
        said = [tf.cast(report[name], tf.float32) for name in _SAID]
        return after, [tf.where(finite, value, 0.0) for value in said], finite

    def test_step(self, data):
        """The mean loss of a batch."""
        batch = elements.as_features(data, self.model)
        losses = self.per_example_loss(self(batch, training=False), batch)
        counts = counts_of(self.per_example_loss, batch, losses.dtype)
        self._mean_loss.update_state(losses, sample_weight=counts)
        return {"loss": self._mean_loss.result()}


@dataclasses.dataclass(frozen=True)
class _Kept:
    """Hides a dict from Keras, which looks for layers in those that are attributes."""

    of: dict


def _named(held_out) -> dict:
    """Held-out sets by name; a dict of arrays is one set."""
    if isinstance(held_out, Mapping):
        if all(isinstance(v, (ExampleSet, tf.data.Dataset, Mapping)) for v in held_out.values()):
            return dict(held_out)
    return {"outer": held_out}


def _sample(batches: tf.data.Dataset) -> ExampleSet:
    """The first batch, for a look at what models make of it."""
    features = next(iter(batches.take(1).as_numpy_iterator()), None)
    if features is None:
        raise DataError("CuratedModel.fit: the dataset holds not one batch of B_up examples.")
    features.pop(elements.SOURCE, None)
    count = len(next(iter(features.values())))
    labels = objects(["train"] * count)
    return ExampleSet(features, objects(map(str, range(count))), labels, labels, name="train")


def _check_one_replica() -> None:
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    if replicas > 1:
        raise ConfigurationError(
            f"A CuratedModel trains on one device, and the strategy has {replicas} replicas: make,"
            " compile and fit it outside of strategy.scope()."
        )
