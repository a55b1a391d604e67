"""A rater as a graph of constants, for use inside input pipelines.

A `tf.data` iterator whose functions capture variables cannot be checkpointed ("is stateful").
Pipelines therefore hold a rater with its weights frozen to constants: scores of the moment it was
frozen, whatever becomes of the variables later.

What a rater takes is held against what a pipeline hands it, from shapes and dtypes alone. Keras
casts features to the dtype of an input without a word: 0.7 becomes token 0. An exported rater of
text does the same, and a window wider than its positions fails only when it is computed.
"""

from collections.abc import Callable, Iterator
import dataclasses
from typing import NamedTuple
import uuid
import weakref

import keras
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.eager import context
from tensorflow.python.eager.wrap_function import function_from_graph_def
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

from dr_keras.errors import ConfigurationError
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.rater_scores import check_can_score, example_scores

# Calls and control flow count as stateful by name once they read a variable, whatever is left of
# that after freezing.
_STATELESS = {
    "StatefulPartitionedCall": "PartitionedCall",
    "While": "StatelessWhile",
    "If": "StatelessIf",
    "Case": "StatelessCase",
}
_MOST_REFERENCES = 16


@dataclasses.dataclass(frozen=True)
class FrozenRater:
    """features -> dict of float32 [N], free of variables; made by `freeze`.

    Attributes:
      function: flat tensors to the outputs, sorted by name.
      shapes: static shape of each output.
      stateless: whether no state is left at all, so that iterators can be checkpointed. False for
        tokenizers that hold their vocabulary in a resource.
      resources: further arguments of the function.
      owner: whatever keeps the resources alive.
    """

    function: Callable
    shapes: dict[str, tf.TensorShape]
    stateless: bool
    resources: list[tf.Tensor]
    owner: Callable

    def __call__(self, features) -> dict[str, tf.Tensor]:
        flat = tf.nest.flatten(features, expand_composites=True)
        result = self.function(*flat, *self.resources)
        result = result if isinstance(result, (list, tuple)) else [result]
        return {
            name: tf.ensure_shape(values, self.shapes[name])
            for name, values in zip(sorted(self.shapes), result, strict=True)
        }


def freeze(
    rater: Callable, element_spec, wanted: tuple[str, ...] = ("score", "percentile")
) -> FrozenRater:
    """Traces `rater` for one structure of inputs and replaces its variables by constants.

    Args:
      rater: features -> scores [N] or [N, 1], or a dict with "score" in it (a loaded rater gives
        percentiles too). A Keras model is called with training=False.
      element_spec: nested structure of `tf.TensorSpec`, `tf.RaggedTensorSpec`, ... of a batch.
      wanted: which outputs are kept, if the rater gives them.

    Returns:
      features -> dict with "score" and what else is wanted and given, float32 [N].

    Raises:
      ConfigurationError: an output is not one number an example.
    """

    def outputs(features):
        given = _call(rater, features)
        if not isinstance(given, dict):
            given = {"score": given}
        if "score" not in given:
            raise ConfigurationError(
                f"The rater's output has no 'score', only {sorted(given)}: give a function"
                " that returns scores [N] or a dict with 'score'."
            )
        return {name: _one_each(name, given[name]) for name in wanted if name in given}

    # A pipeline may be built inside another one's function (interleave): variables are read and
    # functions made outside of its graph.
    with tf.init_scope():
        traced = tf.function(outputs, autograph=False).get_concrete_function(element_spec)
        # while loops stay functional: lowered ones cannot run inside tf.data
        known = registered()
        constant, graph = convert_variables_to_constants_v2_as_graph(
            traced, lower_control_flow=False
        )
        converted = _own(graph) & (registered() - known)
        # what is captured and no variable, such as a SentencePiece model, stays an argument
        captured = {inside.name: outside for outside, inside in traced.graph.captures}
        resources = [captured[t.name] for t in constant.inputs if t.name in captured]
        stateless = not resources and _make_stateless(graph)
        if stateless:
            known = registered()
            constant = function_from_graph_def(
                graph, [t.name for t in constant.inputs], [t.name for t in constant.outputs]
            )
            _forget(converted)  # nothing calls them
            converted = _own(graph) & (registered() - known)
    if tf.executing_eagerly():  # else a graph that outlives the pipeline may call them
        weakref.finalize(constant, _forget, converted).atexit = False
    return FrozenRater(constant, dict(traced.output_shapes), stateless, resources, rater)


def registered() -> set[str]:
    """Names of the functions that this process can call."""
    return set(context.context().list_function_names())


def _own(graph: graph_pb2.GraphDef) -> set[str]:
    return {function.signature.name for function in graph.library.function}


def _forget(names: set[str]) -> None:
    """Takes functions, with all constants in them, out of the process.

    TensorFlow does so by itself with functions that Python holds, and not with those that these
    call: branches and bodies of loops, which here hold a rater's weights.
    """
    for _ in range(_MOST_REFERENCES):  # each graph that imported one counts
        for name in (left := names & registered()):
            context.context().remove_function(name)
        if not left:
            return


def _call(rater: Callable, features):
    features = matched(rater, features)
    check_features(rater, features)
    if not isinstance(rater, keras.Model):
        return rater(features)
    given = rater(features, training=False)
    return _of_examples(given, features) if isinstance(features, dict) else given


def _of_examples(given, features: dict):
    """Scores of tokens as scores of their windows; what is none of these stays what it is."""
    both = [given, features.get("tokens")]
    by_token = all(isinstance(values, tf.Tensor) and values.shape.rank == 2 for values in both)
    return example_scores(given, features) if by_token else given


def _one_each(name: str, values) -> tf.Tensor:
    values = tf.convert_to_tensor(values)
    if not (values.dtype.is_floating or values.dtype.is_integer or values.dtype.is_bool):
        raise ConfigurationError(
            f"The rater gives {values.dtype.name} for '{name}', but one real number an example is"
            " needed: floats, whole numbers or truth values."
        )
    values = tf.cast(values, tf.float32)
    if values.shape.rank == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.shape.rank != 1:
        what = "scores" if name == "score" else f"'{name}'"
        raise ConfigurationError(
            f"The rater gives {what} of shape {values.shape}, but one {name} an example, [N], is"
            " needed: squeeze or average the other axes away; if elements are batches already, say"
            " so (`batched=True`)."
        )
    return tf.identity(values)  # two outputs may be one tensor, and functions have no such pairs


def _make_stateless(graph: graph_pb2.GraphDef) -> bool:
    """Marks calls and loops as stateless, in place; False (no change) where state remains."""
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    own = _own(graph)
    for nodes in bodies:
        for node in nodes:
            if node.op not in _STATELESS and node.op not in own:
                definition = op_def_registry.get(node.op)
                # a placeholder of a resource, a table or a random number: tf.data must know
                if definition is None or definition.is_stateful:
                    return False
    # functions are registered by name in the whole process, so changed ones need names of their own
    renamed = {name: f"{name}_stateless_{uuid.uuid4().hex[:8]}" for name in own}
    for nodes in bodies:
        for node in nodes:
            node.op = _STATELESS.get(node.op, renamed.get(node.op, node.op))
            for value in node.attr.values():
                for called in (value.func, *value.list.func):
                    if called.name in renamed:
                        called.name = renamed[called.name]
    for function in graph.library.function:
        function.signature.name = renamed[function.signature.name]
        function.signature.is_stateful = False
    del graph.library.gradient[:]
    return True


# --------------------------------------------------------------- what it takes, and is given


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
      ConfigurationError: there are more or fewer parts than inputs, or a part is missing that only
        the training of a model can add.
    """
    # a subclassed model knows itself what it reads
    if not isinstance(rater, keras.Model) or not getattr(rater, "inputs", None):
        return features
    if isinstance(features, dict):
        check_can_score(rater, features, with_reference=False)
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
    for pair in _pairs(rater, features):
        _check_dtype(pair)
        _check_shape(pair)


def width_conditions(rater: Callable, features) -> list[tuple[tf.Tensor, list[str]]]:
    """For widths that only a graph knows: conditions, and what to say where they are false.

    Args:
      rater, features: as for `check_features`, but for `features` as the pipeline has them.
    """
    return [
        (tf.shape(pair.given)[1] <= pair.longest, [_width_words(pair, "wider ones")])
        for pair in _pairs(rater, matched(rater, features))
        if pair.longest is not None and pair.given.shape.rank == 2 and pair.given.shape[1] is None
    ]


def _pairs(rater: Callable, features) -> list[_Pair]:
    """Of features that are plain tensors."""
    of = _of_model if isinstance(rater, keras.Model) else _of_loaded
    return [pair for pair in of(rater, features) if isinstance(pair.given, tf.Tensor)]


def _of_model(model: keras.Model, features) -> Iterator[_Pair]:
    inputs = getattr(model, "inputs", None) or []
    given = tf.nest.flatten(features) if inputs else []
    found = [getattr(layer, "sequence_length", None) for layer in model._flatten_layers()]
    positions = [number for number in found if isinstance(number, int)]
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
