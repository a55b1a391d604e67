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

from collections.abc import Sequence
import dataclasses
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta import checks
from dr_keras.meta.combinations import Combination, weighted_mean
from dr_keras.meta.estimators import Estimator, NestedTape
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.meta_step import MemberStep
from dr_keras.meta.micro_batches import check_parts
from dr_keras.meta.optimizers import OuterAdam
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.weighting import Weighting, example_softmax
from dr_keras.models.losses import counts_of
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.objectives import mean_loss
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.training.curated import elements, sets, settings
from dr_keras.training.curated.by_source import BySource
from dr_keras.training.curated.keras_losses import per_example
from dr_keras.training.curated.keras_optimizers import FunctionalOptimizer, functional
from dr_keras.training.curated.memory import Memory
from dr_keras.training.curated.steps import SAID, Choice, Chosen, MetaLevel
import gin

WEIGHTS = ("equal", "soft")
KEEP = ("best", "sampled")


@dataclasses.dataclass(frozen=True)
class _Compiled:
    """What `compile` makes."""

    problem: KerasProblem
    optimizer: FunctionalOptimizer
    meta: MetaLevel | None


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
      keep: "best", batch top-K; or "sampled": B of B_up are drawn without replacement by the
        softmax of the scores, so that a rater that hardly knows anything changes hardly anything.
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
      DataError: a held-out set without examples.
    """

    def __init__(
        self,
        model: keras.Model,
        rater: keras.Model,
        held_out=None,
        batch_size: int = 32,
        discard_fraction: Decimal = 0.5,
        keep: str = "best",
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
        settings.check_one_replica()
        settings.check_one_of("weights", weights, WEIGHTS)
        settings.check_one_of("keep", keep, KEEP)
        if source is not None and not sources:
            raise ConfigurationError(
                f"CuratedModel.source is '{source}', and sources is empty: name what may be there."
            )
        oversized = oversized_batch(batch_size, discard_fraction)
        soft, sampled = weights == "soft", keep == "sampled"
        self.choice = Choice(int(batch_size), oversized, soft, sampled, int(seed))
        self.model, self.rater = model, rater
        self.meta_every, self.unroll_length = meta_every, unroll_length
        self.meta_batch_size = oversized if meta_batch_size is None else meta_batch_size
        self.outer_batch_size, self.seed = outer_batch_size, int(seed)
        self.estimator, self.through_features = estimator or NestedTape(), through_features
        combination = combination or weighted_mean()
        named = {} if held_out is None else sets.by_name(held_out)
        # Keras looks for layers in dicts that are attributes, and would make its own of them.
        self._held_out = _Hidden({n: sets.whole(one, model, n) for n, one in named.items()})
        if meta_every is not None:
            settings.check_meta(
                meta_every=meta_every,
                unroll_length=unroll_length,
                meta_batch_size=self.meta_batch_size,
                outer_batch_size=outer_batch_size,
                oversized=oversized,
                held_out=self._held_out.of,
            )
            combination.check(self._held_out.of)
        self._settings = _Hidden(
            {
                "weighting": weighting or example_softmax(),
                "objective": objective or mean_loss(),
                "combination": combination,
                "reference": reference,
                "through_features": through_features,
            }
        )
        self._compiled: _Compiled | None = None
        self.memory = Memory(name="memory")
        self._mean_loss = keras.metrics.Mean(name="loss")
        self._said = [keras.metrics.Mean(name=name) for name in SAID if meta_every]
        self._by_source: list[BySource] = []
        self._source, self._sources = source, tuple(sources)
        self._name_sources(sources)
        self.built = True

    def _name_sources(self, names: Sequence[str]) -> None:
        self._sources = tuple(names)
        if names:
            kinds = ["weight", "kept"] if self.oversized > self.choice.size else ["weight"]
            self._by_source = [BySource(names, kind) for kind in kinds]

    # --- as the meta level sees it -----------------------------------------------------------

    @property
    def oversized(self) -> int:
        """B_up, examples that an update chooses from."""
        return self.choice.oversized

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
        if not self.memory.holds("inner"):
            return 0
        return int(self.memory.read("inner")["age"].numpy())

    @property
    def meta_steps(self) -> int:
        """Meta-steps that the rater has made, those included that were not finite."""
        if not self.memory.holds("outer"):
            return 0
        return int(self.memory.read("outer")["meta_step"].numpy())

    @property
    def _made(self) -> _Compiled:
        if self._compiled is None:
            raise ConfigurationError("CuratedModel: call compile(optimizer, loss) first.")
        return self._compiled

    # --- Keras -------------------------------------------------------------------------------

    def call(self, inputs, training=None):
        """The model's outputs."""
        features = elements.as_features(inputs, self.model)
        return self.model(model_inputs(self.model, features), training=training)

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
        settings.check_one_replica()
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
        self._compiled = _Compiled(problem, found, self._meta_level(problem, outer_optimizer))
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

    def _meta_level(self, problem: KerasProblem, outer: OuterAdam | None) -> MetaLevel | None:
        if self.meta_every is None:
            return None
        parts = getattr(self.estimator, "micro_batches", 1)
        statistics = problem.parts.statistics(self.model.non_trainable_variables)
        sizes = {"inner": self.meta_batch_size, "outer": self.outer_batch_size}
        check_parts(parts, sizes, statistics, self.estimator)
        return MetaLevel(
            self.meta_every,
            self.unroll_length,
            self.meta_batch_size,
            sets.HeldOut.of(self._held_out.of, self.seed),
            self.outer_batch_size,
            self.seed,
            MemberStep(problem, self.estimator, outer or OuterAdam(), parts),
        )

    def _remember(self) -> None:
        """Holds what a training has beside weights, as before its first step."""
        self._tracker.untrack(self.memory)  # of an earlier training
        self.memory = Memory(name="memory")
        theta = [v.value for v in self.model.trainable_variables]
        # Keras saves a model's weights without the seeds of its dropout: here they are saved.
        statistics = [v.value for v in self._changing()]
        slots = self._made.optimizer.optimizer.init(theta)
        age = tf.constant(0, tf.int32)
        self.memory.hold("inner", {"statistics": statistics, "slots": slots, "age": age})
        if self._made.meta is not None:
            self.memory.hold("outer", self._made.meta.first(self._eta(), self._state()))

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
            validation_data = self.validation(validation_data)
        kept = {"validation_data": validation_data, "shuffle": False, **others}
        if isinstance(x, tf.data.Dataset):
            dataset = self.prepare(x)
            return super().fit(dataset, steps_per_epoch=steps_per_epoch, **kept)
        if steps_per_epoch is None:
            steps_per_epoch = max(len(x) // self.oversized, 1)
        names = self.prepare(x)
        with sets.stream(x, self.oversized, self.seed, lambda: self.updates, names) as dataset:
            return super().fit(dataset, steps_per_epoch=steps_per_epoch, **kept)

    def prepare(self, train):
        """What `fit` does first; by itself, before weights of an earlier training are loaded.

        Args:
          train: as for `fit`.

        Returns:
          The dataset that `fit` trains on; of an ExampleSet, the names of its sources.
        """
        held_out = self._held_out.of if self.meta_every is not None else {}
        if isinstance(train, ExampleSet):
            found: Any = self._known_sources(sets.sources_of(train))
            specs = {n: tf.TensorSpec(v.shape, v.dtype) for n, v in train.features.items()}
        else:
            found = elements.regrouped(
                train, self.model, self.oversized, self._source, self._sources
            )
            specs = {n: s for n, s in found.element_spec.items() if n != elements.SOURCE}
            train = sets.sample(found)
        elements.check_specs(specs)
        checks.models_fit(self, train, held_out)
        meta = self._made.meta
        if meta is not None and not self.memory.holds("kept"):
            self.memory.hold("kept", meta.first_kept(self._state(), specs))
        return found

    def _known_sources(self, names: Sequence[str]) -> tuple[str, ...]:
        """The sources that figures are about, of a set that is of these."""
        if not names:
            return ()
        if not self._sources:
            self._name_sources(names)
        if strange := sorted(set(names) - set(self._sources)):
            raise ConfigurationError(
                f"CuratedModel.fit: the source '{strange[0]}' is none of those that are known"
                f" ({', '.join(self._sources)}): name all of them by `sources`, or make another"
                " CuratedModel."
            )
        return self._sources

    def validation(self, given) -> tf.data.Dataset:
        """What `evaluate` takes, of a dataset of batches or an ExampleSet."""
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

    def _changing(self) -> list:
        """The variables of the model that its training changes beside its trained weights."""
        return self._made.problem.parts.statistics(self.model.non_trainable_variables)

    def _state(self) -> InnerState:
        """The model in training, as tensors."""
        theta = [v.value.read_value() for v in self.model.trainable_variables]
        return InnerState(theta, **self.memory.read("inner"), hyper=self._made.optimizer.hyper())

    def _take(self, state: InnerState) -> None:
        """Gives the model the values of a state."""
        variables = [*self.model.trainable_variables, *self._changing()]
        for variable, value in zip(variables, [*state.theta, *state.statistics], strict=True):
            variable.assign(value)
        names = ("statistics", "slots", "age")
        self.memory.write("inner", {name: getattr(state, name) for name in names})
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
        chosen = self.choice(problem, eta, state, batch)
        after, losses = inner_update(problem, state, chosen.weights, chosen.batch)
        self._take(after)
        if self._made.meta is not None:
            self._learn(self._made.meta, constants, eta, state, batch, after.age)
        self._mean_loss.update_state(losses, sample_weight=tf.cast(chosen.counts, losses.dtype))
        if numbers is not None:
            self._tell_sources(numbers, chosen)
        return self.get_metrics_result()

    def _learn(
        self, meta: MetaLevel, constants: dict, eta: list, state: InnerState, batch: dict, age
    ) -> None:
        memory = self.memory
        kept = meta.keep(memory.read("kept"), state, batch)
        if meta.length > 1:
            memory.write("kept", kept)
        eta, outer, said, counts = meta(constants, eta, memory.read("outer"), kept, age)
        for variable, value in zip(self.rater.trainable_variables, eta, strict=True):
            variable.assign(value)
        memory.write("outer", outer)
        for metric, value in zip(self._said, said, strict=True):
            metric.update_state(value, sample_weight=tf.cast(counts, tf.float32))

    def _tell_sources(self, numbers: tf.Tensor, chosen: Chosen) -> None:
        weights = tf.cast(chosen.weights, tf.float32)
        weights = tf.reduce_sum(tf.reshape(weights, [self.choice.size, -1]), axis=1)
        weight, *kept = self._by_source
        weight.update_state(weights, tf.gather(numbers, chosen.rows), tf.constant(1.0))
        ones = tf.ones([self.oversized])
        for metric in kept:
            rows = chosen.rows[:, tf.newaxis]
            is_kept = tf.scatter_nd(rows, tf.ones_like(weights), ones.shape)
            metric.update_state(is_kept, numbers, ones)

    def test_step(self, data):
        """The mean loss of a batch."""
        batch = elements.as_features(data, self.model)
        losses = self.per_example_loss(self(batch, training=False), batch)
        counts = counts_of(self.per_example_loss, batch, losses.dtype)
        self._mean_loss.update_state(losses, sample_weight=counts)
        return {"loss": self._mean_loss.result()}


@dataclasses.dataclass(frozen=True)
class _Hidden:
    """A dict that Keras leaves as it is."""

    of: dict
