"""A rater of examples with named features, such as rows of a table: what is exported, and how
it is loaded. Its signatures:

    serving_default    <feature> [B, ...], one an input      -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    keep_probability   <feature> ..., discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability

Scores, percentiles and probabilities are float32 [B], B >= 0. A rater of tokens gives the mean of
their scores. Where it reads "reference_loss", the artefact carries the reference model, whose
features are inputs as well, and has the signature `reference_loss`; or it takes the loss as one
more feature. Features have the names, types and shapes that the rater was meta-trained with; of a
tf.train.Example, whole numbers are an int64_list and others a float_list.
"""

from collections.abc import Callable
import functools

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.rater_scores import ReferenceLoss, check_can_score, example_scores, state_read
from dr_keras.serving.loading import LoadedRater, as_arrays, refuse_composite, values_of
from dr_keras.serving.signatures import RaterKind, References, Signature, outputs
from dr_keras.system import schema

TYPE = schema.one_of(
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
    "bfloat16", "float32", "float64",
)  # fmt: skip
# What a rater reads of an inner model, where the artefact has the model that it takes.
STATE = schema.optional(schema.list_of(schema.one_of("reference_loss")))
FEATURE = schema.record({"dtype": TYPE, "shape": schema.list_of(schema.or_null(schema.whole()))})


class ExampleKind(RaterKind):
    """A rater of named features; `RaterKind` says what the parts are.

    Args:
      rater: Keras model from features to scores [B] or [B, 1].
      examples: a set it was meta-trained with, for the types and shapes of its features.
      reference: of a rater that reads "reference_loss", which the examples do not have.

    Raises:
      ConfigurationError: the rater reads a feature that the examples do not have, or what only
        meta-training knows.
    """

    kind = "examples"

    def __init__(
        self, rater: keras.Model, examples: ExampleSet, reference: ReferenceLoss | None = None
    ):
        check_can_score(rater, examples.features, reference is not None)
        self._state = state_read(rater, examples.features)
        super().__init__(rater, reference if self._state else None)
        self.inputs = rater_inputs(rater, examples, self.reference)

    def facts(self) -> dict:
        read = {"features": list(self._state)} if self._state else {}
        return read | {
            "inputs": {
                name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()[1:]}
                for name, spec in self.inputs.items()
            }
        }

    def served(self, references: References) -> Signature:
        def serve(*values):
            return outputs(self._score(dict(zip(self.inputs, values))), references.units)

        rows = {
            name: np.zeros([2, *spec.shape[1:]], spec.dtype.as_numpy_dtype)
            for name, spec in self.inputs.items()
        }
        return Signature(serve, [*self.inputs.values()], rows)

    def parse(self, examples: tf.Tensor) -> list[tf.Tensor]:
        forms = {name: self._stored_as(name) for name in self.inputs}
        parsed = tf.io.parse_example(examples, forms)
        return [self._read(name, parsed[name]) for name in self.inputs]

    def reference_losses(self, *values: tf.Tensor) -> tf.Tensor:
        assert self.reference is not None
        return _unless_empty(self.reference, self._prepared(dict(zip(self.inputs, values))))

    def _score(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        def score(features):
            read = self.reference.joined(self.rater, features) if self.reference else features
            scores = self.rater(model_inputs(self.rater, read), training=False)
            return example_scores(scores, features)

        return _unless_empty(score, self._prepared(features))

    def _prepared(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Features as the rater reads them, of what the signatures are given."""
        return features

    def _stored_as(self, name: str) -> tf.io.FixedLenFeature:
        """How a tf.train.Example has a feature."""
        spec = self.inputs[name]
        dtype = tf.int64 if spec.dtype.is_integer else tf.float32
        return tf.io.FixedLenFeature(spec.shape[1:], dtype)

    def _read(self, name: str, stored: tf.Tensor) -> tf.Tensor:
        """A feature, [B, ...], from what tf.train.Examples have of it."""
        return tf.cast(stored, self.inputs[name].dtype)


def _unless_empty(function: Callable, features: dict[str, tf.Tensor]) -> tf.Tensor:
    """float32 [B] of features [B, ...]; fused convolutions and others fail where B is 0."""
    count = tf.shape(next(iter(features.values())))[0]
    return tf.cond(
        count > 0,
        lambda: tf.cast(function(features), tf.float32),
        lambda: tf.zeros([0], tf.float32),
    )


def rater_inputs(
    rater: keras.Model, examples: ExampleSet, reference: ReferenceLoss | None = None
) -> dict[str, tf.TensorSpec]:
    """The features that a rater reads, batches of any size; all of them where it does not say.

    Those that its reference model and loss read come after them.

    Raises:
      ConfigurationError: it reads one that the examples do not have.
    """
    names = [tensor.name for tensor in getattr(rater, "inputs", None) or []]
    if isinstance(rater, keras.Sequential) and names and names[0] not in examples.features:
        names = []
    names = names or list(examples.features)
    if reference:
        also = [name for name in reference.reads(examples.features) if name not in names]
        names = [name for name in names if name != "reference_loss"] + also
    missing = [name for name in names if name not in examples.features]
    if missing:
        raise ConfigurationError(
            f"The rater '{rater.name}' reads {missing[0]!r}, and the examples have"
            f" {sorted(examples.features)}: name its inputs after features."
        )
    return {
        name: tf.TensorSpec(
            [None, *examples.features[name].shape[1:]], examples.features[name].dtype, name
        )
        for name in names
    }


class LoadedExampleRater(LoadedRater):
    """A `LoadedRater` that takes a dict of features, of one example (and gives scalars) or of many
    in arrays or tensors [B, ...]; a dataset of these; or the array alone where it reads one
    feature. Features that it does not read are ignored.

    Attributes:
      inputs: name -> {"dtype", "shape"} of the features it reads, shapes without the batch.
    """

    facts = {"inputs": schema.mapping(FEATURE, keys=schema.NAME, least=1), "features": STATE}

    def __init__(self, path: str, saved_model, metadata: dict):
        super().__init__(path, saved_model, metadata)
        self.inputs = metadata["inputs"]

    def _score(self, inputs) -> dict:
        features = self._features(inputs)
        are_tensors = any(tf.is_tensor(value) for value in features.values())
        features = {name: self._tensor(name, value) for name, value in features.items()}
        single = self._is_single(features)
        if single:
            features = {name: value[tf.newaxis] for name, value in features.items()}
        scored = self._score_features(features)
        if single:
            scored = {name: value[0] for name, value in scored.items()}
        return scored if are_tensors else as_arrays(scored)

    @functools.cached_property
    def _frozen_specs(self) -> dict:
        specs = {
            name: tf.TensorSpec([None, *form["shape"]], form["dtype"])
            for name, form in self.inputs.items()
        }
        return {"features": specs}

    def _features(self, inputs) -> dict:
        if not isinstance(inputs, dict):
            if len(self.inputs) != 1:
                raise DataError(
                    f"This rater reads {list(self.inputs)}: give it a dict of these, not"
                    f" {type(inputs).__name__}."
                )
            return {next(iter(self.inputs)): inputs}
        missing = [name for name in self.inputs if name not in inputs]
        if missing:
            raise DataError(
                f"This rater reads {list(self.inputs)}; the dict given has {sorted(inputs)}."
            )
        return {name: inputs[name] for name in self.inputs}

    def _tensor(self, name: str, value) -> tf.Tensor:
        form = self.inputs[name]
        if not tf.is_tensor(value):
            value = np.asarray(value)
            if value.dtype == object or value.dtype.kind not in "biuf":
                raise DataError(f"The feature '{name}' must be numbers, not {value.dtype}.")
            value = tf.constant(value)
        refuse_composite(value, f"feature '{name}'")
        rank = len(form["shape"])
        shape = value.shape
        if shape.rank not in (rank, rank + 1) or not shape[shape.rank - rank :].is_compatible_with(
            form["shape"]
        ):
            raise DataError(
                f"The feature '{name}' has shape {shape}: this rater takes {form['shape']} for one"
                f" example, or [B, {', '.join(map(str, form['shape'])) or '...'}] for many."
            )
        self._check_values(name, value.dtype, values_of(value))
        return self._cast(name, value)

    def _check_values(self, name: str, dtype: tf.DType, values: np.ndarray | None) -> None:
        """Refuses what a cast would change; in a graph, where values are not known, by the type."""
        wanted = tf.as_dtype(self.inputs[name]["dtype"])
        if not wanted.is_integer:
            return
        if values is None:
            if not dtype.is_integer and dtype != tf.bool:
                raise DataError(
                    f"The feature '{name}' is {dtype.name}, and this rater reads {wanted.name}:"
                    " cast it, if it holds nothing but whole numbers."
                )
            return
        with np.errstate(invalid="ignore"):
            changed = values.astype(wanted.as_numpy_dtype) != values
        if np.any(changed):
            raise DataError(
                f"The feature '{name}' has values that {wanted.name} cannot hold, such as"
                f" {values[changed].flat[0]}: this rater reads whole numbers there."
            )

    def _cast(self, name: str, value: tf.Tensor) -> tf.Tensor:
        return tf.cast(value, self.inputs[name]["dtype"])

    def _is_single(self, features: dict[str, tf.Tensor]) -> bool:
        ranks = {
            value.shape.rank - len(self.inputs[name]["shape"]) for name, value in features.items()
        }
        if len(ranks) != 1:
            raise DataError(
                "Some features are of one example and some of many:"
                f" { ({name: value.shape for name, value in features.items()}) }."
            )
        return ranks == {0}

    def _score_features(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.signatures["serving_default"](**features)

    def _is_example(self, spec) -> bool:
        parts = self._features(spec)
        if not all(isinstance(part, tf.TensorSpec) for part in parts.values()):
            raise DataError(f"This rater scores datasets of {list(self.inputs)}, not of {spec}.")
        return self._is_single(parts)
