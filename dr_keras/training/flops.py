"""Floating-point operations by formula: the matrix products of a network, and what follows.

Counted are the matrix products (MatMul, BatchMatMul, Einsum, Conv2D) of a network's forward pass,
two operations a multiplication and addition, over all positions of a window, padding included, as
the hardware computes them. Not counted: embedding lookups, normalisations, activations, softmax,
losses and optimizers, which are a few percent of a network of any size.

With F the forward pass of one example:

- a training step of B examples: 3 F B (a product's gradient is two products of its size);
- scoring: F an example;
- a meta-step of a member: see `meta_training_flops`.
"""

from collections.abc import Callable, Mapping
import dataclasses
import math
from typing import Self

import keras
import tensorflow as tf
from tensorflow.core.framework import function_pb2
from tensorflow.python.framework.function_def_to_graph import function_def_to_graph

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import ForwardPasses
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.model_inputs import model_inputs
from dr_keras.serving.frozen import freeze

_LOOPS = ("While", "StatelessWhile")
# Loops without a network in them, such as those of tokenizers, have none of these in their bodies.
PRODUCTS = ("MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "Einsum", "Conv2D")


def forward_flops(model: keras.Model, features: Mapping[str, tuple[tuple, object]]) -> int:
    """F: operations of the matrix products of a model for one example.

    Args:
      model: any Keras model; of a language model with `chunked_logits`, whose logits are made by
        the loss, the product that makes them is added.
      features: name -> (shape of one example, dtype), see `feature_shapes`.

    Raises:
      ConfigurationError: products inside a loop or of unknown size cannot be counted.
    """

    def call(batch):
        return tf.nest.flatten(model(model_inputs(model, batch), training=False))

    graph = tf.function(call, autograph=False).get_concrete_function(_specs(features)).graph
    total = graph_flops(graph)
    outputs = getattr(model, "output", None)  # a subclassed model has none
    if isinstance(outputs, Mapping) and {"hidden", "unembedding"} <= set(outputs):
        vocabulary, width = outputs["unembedding"].shape
        positions = outputs["hidden"].shape[1]
        total += 2 * int(positions) * int(width) * int(vocabulary)
    return total


def scoring_flops(score: Callable, features: Mapping[str, tuple[tuple, object]]) -> int:
    """F of a rater that is no Keras model, such as a loaded artefact; arguments as above."""
    frozen = freeze(score, _specs(features), ("score",))
    return graph_flops(frozen.function.graph)


def feature_shapes(features: Mapping) -> dict[str, tuple[tuple, object]]:
    """(shape of one example, dtype) of every array [N, ...] of an `ExampleSet`'s features."""
    return {name: (tuple(value.shape[1:]), value.dtype) for name, value in features.items()}


def _specs(features) -> dict[str, tf.TensorSpec]:
    return {
        name: tf.TensorSpec([1, *shape], tf.as_dtype(dtype), name=name)
        for name, (shape, dtype) in features.items()
    }


def graph_flops(graph: tf.Graph) -> int:
    """Operations of all matrix products in a graph, functions that it calls included.

    The products in the body of a loop that counts from one known number to another, as recomputed
    blocks do, count once for each pass.

    Raises:
      ConfigurationError: a loop of which the graph does not say how often it runs holds a product,
        or a size is not static.
    """
    functions = graph.as_graph_def().library.function
    library = {function.signature.name: function for function in functions}
    return sum(_operation_flops(graph, op, library) for op in graph.get_operations())


def _operation_flops(graph: tf.Graph, op: tf.Operation, library: Mapping) -> int:
    if op.type in PRODUCTS:
        return _product_flops(op)
    if op.type in _LOOPS:
        body = _called(graph, library, op, "body")
        inside = graph_flops(body)
        if not inside:
            return 0
        passes = _passes(op, _called(graph, library, op, "cond"), body)
        if passes is None:
            raise ConfigurationError(
                f"FLOPs: the matrix products in the loop {op.name!r} cannot be counted, because how"
                " often it runs is not known: use a model without loops."
            )
        return passes * inside
    if op.type in ("PartitionedCall", "StatefulPartitionedCall"):
        return graph_flops(_called(graph, library, op, "f"))
    return 0


def _called(graph: tf.Graph, library: Mapping, op: tf.Operation, kind: str) -> tf.Graph:
    """What an operation calls under the name `kind`, made for the shapes that it is called with."""
    definition = function_pb2.FunctionDef()
    definition.CopyFrom(library[op.get_attr(kind).name])
    definition.arg_attr.clear()  # shapes that it was traced for, and an artefact's leave sizes open
    for node in definition.node_def:
        node.attr.pop("_output_shapes", None)
    shapes = [tensor.shape for tensor in op.inputs]
    with graph.as_default():  # where the functions are that this one calls
        return function_def_to_graph(
            definition, input_shapes=shapes, include_library_functions=True
        )


def _passes(op: tf.Operation, condition: tf.Graph, body: tf.Graph) -> int | None:
    """How often `while i < n: i += 1` runs; None for a loop that is not of this form."""

    def source(tensor):
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return tensor

    def entering(graph, tensor):
        """The number of the loop variable that a tensor of `graph` is, or None."""
        places = [i for i, inside in enumerate(graph.inputs) if inside is source(tensor)]
        return places[0] if places else None

    def value(tensor):
        """What a tensor of `condition` is before the first pass."""
        place = entering(condition, tensor)
        if place is None:
            return tf.get_static_value(source(tensor))
        return tf.get_static_value(source(op.inputs[place]))

    less = source(condition.outputs[0]).op
    if less.type != "Less":
        return None
    index, limit = less.inputs
    place, fixed = entering(condition, index), entering(condition, limit)
    start, stop = value(index), value(limit)
    if place is None or start is None or stop is None:
        return None
    if fixed is not None and entering(body, body.outputs[fixed]) != fixed:
        return None
    step = source(body.outputs[place]).op
    if step.type not in ("Add", "AddV2"):
        return None
    counted = {entering(body, tensor) for tensor in step.inputs}
    ones = [tf.get_static_value(source(tensor)) for tensor in step.inputs]
    if place not in counted or 1 not in ones:
        return None
    return max(int(stop) - int(start), 0)


def _product_flops(op: tf.Operation) -> int:
    shapes = [tensor.shape for tensor in (*op.inputs, *op.outputs)]
    if not all(shape.is_fully_defined() for shape in shapes):
        raise ConfigurationError(
            f"FLOPs: the size of the matrix product {op.name!r} is not static: {shapes}."
        )
    left, right, out = (tuple(shape.as_list()) for shape in shapes[:3])
    if op.type == "Einsum":
        terms = op.get_attr("equation").decode().split("->")[0].split(",")
        sizes = {
            letter: size
            for term, shape in zip(terms, (left, right))
            for letter, size in zip(term, shape)
        }
        return 2 * math.prod(sizes.values())
    if op.type == "Conv2D":
        height, width, inputs, _ = right
        return 2 * math.prod(out) * height * width * inputs
    name = "transpose_a" if op.type == "MatMul" else "adj_x"
    inner = left[-2] if op.get_attr(name) else left[-1]
    return 2 * math.prod(out) * inner


def training_flops(forward: int, examples: int) -> int:
    """Operations of training on so many examples (repetitions counted): 3 F each."""
    return 3 * forward * examples


@dataclasses.dataclass(frozen=True)
class MetaTrainingSize:
    """How much of what meta-training does.

    Attributes:
      member_steps: meta-steps times members.
      unroll_length: T.
      inner_batch_size, outer_batch_size: examples.
      advance_updates: further updates of each meta-step, without meta-gradient.
    """

    member_steps: int
    unroll_length: int
    inner_batch_size: int
    outer_batch_size: int
    advance_updates: int = 0

    @classmethod
    def of(cls, trainer: MetaTrainer, member_steps: int, advances: bool = True) -> Self:
        """Of so many meta-steps of single members, with `advance_updates` or without."""
        return cls(
            member_steps,
            trainer.unroll_length,
            trainer.inner_batch_size,
            trainer.outer_batch_size,
            trainer.updates_per_step - trainer.unroll_length if advances else 0,
        )


def meta_training_flops(
    inner: int, rater: int, passes: ForwardPasses, size: MetaTrainingSize
) -> dict[str, int]:
    """Operations of meta-training, by formula.

    A member's meta-step has what its estimator says, further updates without meta-gradient (3 F
    each and example), and the rater's forward and backward passes over all that it weighs.

    Args:
      inner, rater: forward passes of one example.
      passes: of one meta-step, as the estimator's `forward_passes` says.

    Returns:
      {"inner_models", "rater", "total"}
    """
    on_inner = (passes.inner + 3 * size.advance_updates) * size.inner_batch_size
    models = size.member_steps * inner * (on_inner + passes.outer * size.outer_batch_size)
    weighed = 3 * size.unroll_length + size.advance_updates
    weighed *= size.member_steps * size.inner_batch_size * rater
    return {"inner_models": int(models), "rater": int(weighed), "total": int(models) + int(weighed)}
