"""The pieces of a configuration that programs are made of, without data and without weights.

A program is lowered from shapes. Where the code of a trainer reads its state from arguments, the
model behind it is only a structure (`build_abstract`), and its arguments are `tf.TensorSpec`s.
Where it reads and assigns variables, as Keras does, the variables are real but share one tensor of
zeros for each shape, so that a model with its optimizer costs no more than one weight of each.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import copy
import dataclasses
import functools
import re
from typing import Any

import keras
from keras.src.backend.common import global_state
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import ConfigurationError
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.pytrees import tensor_bytes
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import next_token_loss
from dr_keras.models.rater_scores import state_read
from dr_keras.runs.experiment import build_rater, experiment
from dr_keras.training.trainers import (
    ExampleTrainer,
    LanguageModelTrainer,
    RepeatedTrainer,
    example_sums,
)
import gin

# name -> (shape of one example, dtype)
Features = Mapping[str, tuple[tuple[int, ...], tf.DType]]

_LONGEST = 500


@contextlib.contextmanager
def explained(what: str) -> Iterator[None]:
    """Turns what tracing raises about names, shapes and dtypes into ConfigurationErrors.

    They begin with `what`.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except KeyError as error:  # gin puts a proxy in its place, which has no arguments
        name = re.match(r"['\"]?([^'\"\n]*)", str(error))[1]
        raise ConfigurationError(
            f"{what}: the loss or a model reads the feature '{name}', which no model takes as an"
            f" input: name it, for instance --feature {name}:int32, or use --read_data."
        ) from error
    except (ValueError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:_LONGEST]
        raise ConfigurationError(f"{what}: {reason}") from error


# Where Keras lists the variables to which the end of the next stateless scope gives values.
_TO_INITIALISE = "uninitialized_variables"


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Within it, Keras variables are made without values, and nobody gives them any later."""
    before = list(global_state.get_global_attribute(_TO_INITIALISE) or [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        # Left in the list, they would be allocated by the next `stateless_call` of any model.
        global_state.set_global_attribute(_TO_INITIALISE, before)


def build_abstract(constructor: Callable[[], keras.Model]) -> keras.Model:
    """The model that `constructor` builds, its variables known by shape only.

    Nothing of the size of the weights is allocated. The model can be asked for its inputs, outputs
    and `count_params()`, and `stateless_call` takes values for its variables; it has none itself.
    """
    with without_values():
        return constructor()


class SharedZeros:
    """One tensor of zeros for each shape and dtype, and variables that hold it."""

    def __init__(self):
        self._zeros: dict[tuple, tf.Tensor] = {}

    def initialise(self, variables: list) -> None:
        """Gives Keras variables without a value zeros, which are copied only when assigned."""
        for variable in variables:
            if variable._value is None:
                variable._initialize(self._zero(tuple(variable.shape), variable.dtype))

    def model(self, constructor: Callable[[], keras.Model]) -> keras.Model:
        """The model that `constructor` builds, its variables sharing their values."""
        model = build_abstract(constructor)
        self.initialise(model.variables)
        return model

    @property
    def bytes(self) -> int:
        """What all of them together hold."""
        return sum(tensor_bytes(zero) for zero in self._zeros.values())

    def _zero(self, shape: tuple, dtype: str) -> tf.Tensor:
        if (shape, dtype) not in self._zeros:
            self._zeros[shape, dtype] = tf.zeros(shape, dtype)
        return self._zeros[shape, dtype]


class NoMembers(OneDevice):
    """A placement that holds no members, whatever the size of the population."""

    def hold(self, size, build):
        del size
        return super().hold(0, build)


@dataclasses.dataclass(frozen=True)
class Setup:
    """A configuration, built as far as programs need it.

    Attributes:
      trainer: a MetaTrainer without members; its inner model is a structure.
      inner_model: constructor of inner models.
      rater: Keras model whose variables share zeros.
      features: what a batch holds.
      held_out: the same of each held-out set, by name.
      zeros: which the variables share.
      build_train_step: makes `train_step`.
      build_rater: makes the rater with the weights that a run begins with.
    """

    trainer: MetaTrainer
    inner_model: Callable[[], keras.Model]
    rater: keras.Model
    features: Features
    held_out: Mapping[str, Features]
    zeros: SharedZeros
    build_train_step: Callable[[], RepeatedTrainer]
    build_rater: Callable[[], keras.Model]

    @functools.cached_property
    def train_step(self) -> RepeatedTrainer:
        """The trainer of evaluation models, whose variables share zeros; `model_fn.args[0]` is the
        constructor of its model."""
        return self.build_train_step()


def from_gin(
    more_features: Features | None = None, parts: Parts | None = None, size: str | None = None
) -> Setup:
    """The setup that the parsed configuration describes.

    Args:
      more_features: features of a batch that no model takes, such as labels, or whose shape the
        models leave open.
      parts: the data, to be asked for features instead of the models; without it, there is one
        held-out set of the same features.
      size: of `evidence.sizes`, whose trainer is the trainer of evaluation models; None for
        `LanguageModelTrainer` (or `ExampleTrainer`) as it is bound without a scope.

    Raises:
      ConfigurationError: the configuration lacks a rater, an inner model or that size, a feature's
        shape is not known, or the rater reads the state of the inner model.
    """
    rater_constructor = _bound("rater", "RATER")
    inner_constructor = _bound("inner_model", "INNER_MODEL")
    loss = _bound("per_example_loss", "PER_EXAMPLE_LOSS", next_token_loss)
    zeros = SharedZeros()
    with explained("The models cannot be built"):
        rater = zeros.model(rater_constructor)
        _check_reads(rater, features_in(parts.train) if parts else more_features or {})
        trainer = MetaTrainer(
            rater, functools.partial(build_abstract, inner_constructor), loss, strategy=NoMembers()
        )
    if parts is None:
        features = features_of([trainer.inner_model, rater], more_features)
        held_out = {"outer": features}
    else:
        features = features_in(parts.train)
        held_out = {name: features_in(one) for name, one in parts.outer_sets.items()}
    return Setup(
        trainer,
        inner_constructor,
        rater,
        features,
        held_out,
        zeros,
        functools.partial(_repeated_trainer, inner_constructor, loss, zeros, _scope_of(size)),
        functools.partial(build_rater, rater_constructor, _bound("seed", "SEED", 0)),
    )


def _check_reads(rater: keras.Model, columns: Features) -> None:
    if read := state_read(rater, columns):
        raise ConfigurationError(
            f"The rater reads {', '.join(read)} of the inner model, and programs of such raters are"
            " not compiled beforehand: take it out of the rater's features, or name a column of the"
            " data that is called so with --feature."
        )


def configured_parts() -> Parts:
    """The data that the parsed configuration describes, read."""
    parts = _bound("data", "DATA")
    return parts() if callable(parts) else parts


def features_in(examples: ExampleSet) -> Features:
    """What examples hold."""
    return {
        name: (tuple(values.shape[1:]), tf.as_dtype(values.dtype))
        for name, values in examples.features.items()
    }


def features_of(models: Sequence[keras.Model], more: Features | None = None) -> Features:
    """What the models take: name -> (shape of one example, dtype).

    An axis that one model leaves open has the size that another one says.

    Raises:
      ConfigurationError: two models contradict each other, or an axis remains open.
    """
    found: dict[str, tuple] = {}
    for model in models:
        for tensor in tf.nest.flatten(getattr(model, "input", None) or []):
            shape, dtype = tuple(tensor.shape[1:]), tf.as_dtype(tensor.dtype)
            known, known_dtype = found.get(tensor.name, (shape, dtype))
            agree = len(known) == len(shape) and known_dtype == dtype
            if not agree or any(None not in (a, b) and a != b for a, b in zip(known, shape)):
                raise ConfigurationError(
                    f"The models take feature '{tensor.name}' as {known_dtype.name} {known} and as"
                    f" {dtype.name} {shape}: give them one sequence length or image size."
                )
            merged = tuple(b if a is None else a for a, b in zip(known, shape))
            found[tensor.name] = (merged, dtype)
    found.update(more or {})
    for name, (shape, dtype) in found.items():
        if None in shape:
            raise ConfigurationError(
                f"The models leave the shape of feature '{name}' open, {shape}: say what it is, for"
                f" instance --feature {name}:{dtype.name}:"
                f"{'x'.join('128' if n is None else str(n) for n in shape)}, or --read_data."
            )
    if not found:
        raise ConfigurationError(
            "The models do not say what they take (they are no functional Keras models): name the"
            " features with --feature NAME:DTYPE:SHAPE, or --read_data."
        )
    return found


def parse_feature(text: str) -> tuple[str, tuple[tuple[int, ...], tf.DType]]:
    """'label:int32' or 'image:float32:28x28x1' as (name, (shape of one example, dtype)).

    Raises:
      ConfigurationError: it is neither.
    """
    try:
        name, dtype, *shape = text.split(":")
        sizes = tuple(int(size) for size in shape[0].split("x")) if shape and shape[0] else ()
        if not name or len(shape) > 1 or any(size < 1 for size in sizes):
            raise ValueError(text)
        return name, (sizes, tf.as_dtype(np.dtype(dtype)))
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"--feature {text}: it must be NAME:DTYPE or NAME:DTYPE:SHAPE, such as label:int32 or"
            " image:float32:28x28x1."
        ) from error


def spec(value) -> tf.TensorSpec:
    """Shape and dtype of a tensor or variable."""
    return tf.TensorSpec(tuple(value.shape), tf.as_dtype(value.dtype))


def specs(values) -> list[tf.TensorSpec]:
    return [spec(value) for value in values]


def batch_specs(features: Features, *leading: int) -> dict[str, tf.TensorSpec]:
    """A batch as specs [*leading, ...]."""
    return {
        name: tf.TensorSpec((*leading, *shape), dtype) for name, (shape, dtype) in features.items()
    }


def _bound(argument: str, macro: str, default: Any = None):
    """What gin binds to an argument of `experiment`, without building anything else of it."""
    bindings = gin.get_bindings(experiment, resolve_references=False)
    if argument in bindings:
        return copy.deepcopy(bindings[argument])  # which is how gin resolves references
    if default is not None:
        return default
    raise ConfigurationError(
        f"The configuration binds no experiment.{argument}: include 'runs/meta_train.gin' and set"
        f" {macro}, or use one of the files under experiments/."
    )


def _scope_of(size: str | None) -> str:
    """The scope of gin of the trainer that `evidence.sizes` calls so."""
    if size is None:
        return ""
    try:
        sizes = gin.query_parameter("%SIZES")
    except ValueError as error:
        raise ConfigurationError(
            f"--size {size}: the configuration has no SIZES; include 'runs/evaluate.gin', as the"
            " files of studies do."
        ) from error
    if size not in sizes:
        raise ConfigurationError(f"--size {size}: SIZES has {', '.join(map(repr, sizes))}.")
    return sizes[size].config_key[0]


def _repeated_trainer(inner_model, loss, zeros: SharedZeros, scope: str) -> RepeatedTrainer:
    """The trainer of evaluation models; without a binding of its own it trains inner models."""
    with gin.config_scope(scope or None):
        return _weightless_trainer(inner_model, loss, zeros)


def _weightless_trainer(inner_model, loss, zeros: SharedZeros) -> RepeatedTrainer:
    base = LanguageModelTrainer if loss is next_token_loss else ExampleTrainer
    bound = gin.get_bindings(base, resolve_references=False)
    constructor = copy.deepcopy(bound["model_fn"]) if "model_fn" in bound else inner_model
    # What runs on several devices compiles the same step for its share of the batch.
    settings = {"strategy": OneDevice()}
    if base is ExampleTrainer and "loss_sums" not in bound:
        settings["loss_sums"] = functools.partial(example_sums, per_example_loss=loss)

    class Weightless(base):
        """Variables of model and optimizer share their values."""

        def _build_optimizer(self, optimizer):
            with without_values():
                super()._build_optimizer(optimizer)
            zeros.initialise(optimizer.variables)

    return Weightless(model_fn=functools.partial(zeros.model, constructor), **settings)
