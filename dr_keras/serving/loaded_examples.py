"""Loaded raters of named features and of images: arrays, tensors and datasets to scores."""

import functools

import numpy as np
import tensorflow as tf

from dr_keras.errors import DataError
from dr_keras.serving import schema
from dr_keras.serving.loaded import LoadedRater, as_arrays, refuse_composite, values_of

_TYPE = schema.one_of(
    "bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16",
    "bfloat16", "float32", "float64",
)  # fmt: skip
_FEATURE = schema.record({"dtype": _TYPE, "shape": schema.list_of(schema.or_null(schema.whole()))})


class LoadedExampleRater(LoadedRater):
    """A `LoadedRater` that takes a dict of features, of one example (and gives scalars) or of many
    in arrays or tensors [B, ...]; a dataset of these; or the array alone where it reads one
    feature. Features that it does not read are ignored.

    Attributes:
      inputs: name -> {"dtype", "shape"} of the features it reads, shapes without the batch.
    """

    facts = {"inputs": schema.mapping(_FEATURE, keys=schema.NAME, least=1)}

    def __init__(self, path: str, saved_model, metadata: dict):
        super().__init__(path, saved_model, metadata)
        self.inputs = metadata["inputs"]

    @tf.autograph.experimental.do_not_convert  # errors come out as they were raised
    def __call__(self, inputs):
        if isinstance(inputs, tf.data.Dataset):
            return self._score_dataset(inputs)
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

    def _score_dataset(self, dataset: tf.data.Dataset, batch_size: int = 64) -> tf.data.Dataset:
        spec = dataset.element_spec
        parts = self._features(spec)
        if not all(isinstance(part, tf.TensorSpec) for part in parts.values()):
            raise DataError(f"This rater scores datasets of {list(self.inputs)}, not of {spec}.")
        single = self._is_single(parts)
        scored = (dataset.batch(batch_size) if single else dataset).map(self)
        return scored.unbatch() if single else scored


class LoadedImageRater(LoadedExampleRater):
    """A `LoadedExampleRater` of images: uint8 in 0 to 255, or floats in 0 to 1."""

    needed = (*LoadedRater.needed, "serve_float_images")
    facts = {"inputs": schema.record({"image": _FEATURE}, others=_FEATURE), "image_dtype": _TYPE}

    def _check_values(self, name: str, dtype: tf.DType, values: np.ndarray | None) -> None:
        if name != "image":
            super()._check_values(name, dtype, values)
        elif not dtype.is_floating and dtype != tf.uint8:
            raise DataError(
                f"The images are {dtype.name}; give uint8 in 0 to 255 or floats in 0 to 1."
            )
        elif dtype.is_floating and values is not None and values.size:
            if not (values.min() >= 0 and values.max() <= 1):
                raise DataError(
                    f"The images are floats from {values.min():g} to {values.max():g}; floats must"
                    " be in 0 to 1. Divide by 255, or give uint8."
                )

    def _cast(self, name: str, value: tf.Tensor) -> tf.Tensor:
        if name == "image":
            return value if value.dtype == tf.uint8 else tf.cast(value, tf.float32)
        return super()._cast(name, value)

    def _score_features(self, features: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        whole = features["image"].dtype == tf.uint8
        return self.signatures["serving_default" if whole else "serve_float_images"](**features)
