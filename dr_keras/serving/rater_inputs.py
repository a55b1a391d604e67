"""What a rater takes, held against what a pipeline hands it, from shapes and dtypes alone.

Keras casts features to the dtype of an input without a word: 0.7 becomes token 0. An exported rater
of text does the same, and a window wider than its positions fails only when it is computed.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.problem import model_inputs


class _Pair(NamedTuple):
    """A feature as it is given, and as it is wanted."""

    name: str
    given: tf.Tensor
    wanted: tf.TensorSpec
    longest: int | None  # most positions, where the width of what is wanted is free
    exported: bool


def matched(rater: Callable, features):
    """The part of `features` that a Keras model's inputs are named after; for others, all of it.

    Raises:
      ConfigurationError: there are more or fewer parts than inputs.
    """
    # a subclassed model knows itself what it reads
    if not isinstance(rater, keras.Model) or not getattr(rater, "inputs", None):
        return features
    if isinstance(features, dict):
        features = model_inputs(rater, features)
    elif isinstance(rater.input, dict) and len(rater.input) == 1 and tf.is_tensor(features):
        features = dict.fromkeys(rater.input, features)
    given, inputs = len(tf.nest.flatten(features)), len(rater.inputs)
    if given != inputs:  # Keras would take the first ones, whatever they are
        raise ConfigurationError(
            f"The rater has {inputs} inputs, {[tensor.name for tensor in rater.inputs]}, and is"
            f" given {given} parts: with `key`, choose those that it takes."
        )
    return features


def check_features(rater: Callable, features) -> None:
    """Refuses features that the rater would misread or cannot take.

    Of a function nothing is known; it is handed whatever there is.

    Args:
      rater: a Keras model, a loaded rater, or any function.
      features: what `matched` returned: tensors [N, ...]; what else is in it is left to the rater.

    Raises:
      ConfigurationError: floats or truth values for whole numbers, or windows wider than the
        rater's; both sides are named.
      ValueError: numbers for text, or a shape that an exported rater does not take; another reading
        of the elements may do.
    """
    pairs = _of_model if isinstance(rater, keras.Model) else _of_loaded
    for pair in pairs(rater, features):
        if isinstance(pair.given, tf.Tensor):
            _check_dtype(pair)
            _check_shape(pair)


def width_conditions(rater: Callable, features) -> list[tuple[tf.Tensor, list[str]]]:
    """For widths that only a graph knows: conditions, and what to say where they are false.

    Args:
      rater, features: as for `check_features`, but for `features` as the pipeline has them.
    """
    features = matched(rater, features)
    pairs = _of_model if isinstance(rater, keras.Model) else _of_loaded
    return [
        (tf.shape(pair.given)[1] <= pair.longest, [_width_words(pair, "wider ones")])
        for pair in pairs(rater, features)
        if isinstance(pair.given, tf.Tensor)
        and pair.longest is not None
        and pair.given.shape.rank == 2
        and pair.given.shape[1] is None
    ]


def _of_model(model: keras.Model, features) -> Iterator[_Pair]:
    inputs = getattr(model, "inputs", None) or []
    given = tf.nest.flatten(features) if inputs else []
    positions = [getattr(layer, "sequence_length", None) for layer in model._flatten_layers()]
    positions = [number for number in positions if isinstance(number, int)]
    for tensor, wanted in zip(given, inputs):
        dtype = tf.as_dtype(wanted.dtype)
        free = tuple(wanted.shape) == (None, None) and dtype.is_integer
        longest = min(positions, default=None) if free else None
        yield _Pair(wanted.name, tensor, tf.TensorSpec(wanted.shape, dtype), longest, False)


def _of_loaded(rater, features) -> Iterator[_Pair]:
    """Pairs of an exported rater, which says what batches it takes."""
    specs = getattr(rater, "_frozen_specs", None) or {}
    if isinstance(specs.get("features"), dict):
        specs = specs["features"]
    longest = getattr(rater, "sequence_length", None)

    def pair(name, tensor):
        wanted = specs[name]
        free = wanted.shape.rank == 2 and wanted.shape[1] is None
        return _Pair(name, tensor, wanted, longest if free else None, True)

    if isinstance(features, dict):
        yield from (pair(name, features[name]) for name in specs if name in features)
    elif isinstance(features, tf.Tensor):
        same = [name for name in specs if _is_text(specs[name]) == _is_text(features)]
        names = same or [*specs]
        if len(names) == 1:
            yield pair(names[0], features)


def _is_text(tensor) -> bool:
    return tensor.dtype == tf.string


def _check_dtype(pair: _Pair) -> None:
    given, wanted = pair.given.dtype, pair.wanted.dtype
    if _is_text(pair.given) != _is_text(pair.wanted):
        raise ValueError(f"'{pair.name}' is {wanted.name}, and what is given is {given.name}")
    # whole numbers that name something; an exported rater of pixels takes floats, too
    names = wanted.is_integer and not (pair.exported and wanted == tf.uint8)
    if names and not given.is_integer:
        raise ConfigurationError(
            f"The rater reads '{pair.name}' as {wanted.name}, and is given {given.name} of shape"
            f" {pair.given.shape}, which it would misread: with `key`, name the part that it"
            " learned on, or map the dataset to whole numbers first."
        )


def _check_shape(pair: _Pair) -> None:
    given, wanted = pair.given.shape, pair.wanted.shape
    if given.rank == 2 and pair.longest is not None and (given[1] or 0) > pair.longest:
        raise ConfigurationError(_width_words(pair, f"windows of {given[1]}"))
    if pair.exported and not given.is_compatible_with(wanted):
        raise ValueError(f"'{pair.name}' has shape {wanted}, and what is given has {given}")


def _width_words(pair: _Pair, windows: str) -> str:
    return (
        f"The rater reads {pair.name} in windows of at most {pair.longest}, and is given"
        f" {windows}: cut them to {pair.longest}, or export a rater of longer ones."
    )
