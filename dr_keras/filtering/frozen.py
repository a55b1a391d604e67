"""A rater as a graph of constants, for use inside input pipelines.

A `tf.data` iterator whose functions capture variables cannot be checkpointed ("is stateful").
Pipelines therefore hold a rater with its weights frozen to constants: scores of the moment it was
frozen, whatever becomes of the variables later.
"""

from collections.abc import Callable
import uuid

import keras
import tensorflow as tf
from tensorflow.core.framework import graph_pb2
from tensorflow.python.eager.wrap_function import function_from_graph_def
from tensorflow.python.framework import op_def_registry
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
)

from dr_keras.errors import ConfigurationError


# Calls and control flow count as stateful by name once they read a variable, whatever is left of
# that after freezing.
_STATELESS = {
    "StatefulPartitionedCall": "PartitionedCall",
    "While": "StatelessWhile",
    "If": "StatelessIf",
    "Case": "StatelessCase",
}


def freeze(rater: Callable, element_spec) -> Callable:
    """Traces `rater` for one structure of inputs and replaces its variables by constants.

    Args:
      rater: features -> scores [N], or a dict with "score" in it (a loaded rater gives percentiles
        too). A Keras model is called with training=False.
      element_spec: nested structure of `tf.TensorSpec`, `tf.RaggedTensorSpec`, ... of a batch.

    Returns:
      features -> float32 [N], free of variables.

    Raises:
      ConfigurationError: the rater does not give one score an example.
    """

    def scores(features):
        is_model = isinstance(rater, keras.Model)
        result = rater(features, training=False) if is_model else rater(features)
        if isinstance(result, dict):
            if "score" not in result:
                raise ConfigurationError(
                    f"The rater's output has no 'score', only {sorted(result)}: give a function"
                    " that returns scores [N] or a dict with 'score'."
                )
            result = result["score"]
        result = tf.cast(tf.convert_to_tensor(result), tf.float32)
        if result.shape.rank != 1:
            raise ConfigurationError(
                f"The rater gives scores of shape {result.shape}, but one score an example, [N], is"
                " needed: squeeze or average the other axes away."
            )
        return result

    traced = tf.function(scores, autograph=False).get_concrete_function(element_spec)
    # while loops stay functional: lowered ones cannot run inside tf.data
    constant, graph = convert_variables_to_constants_v2_as_graph(traced, lower_control_flow=False)
    if _make_stateless(graph):
        constant = function_from_graph_def(
            graph, [t.name for t in constant.inputs], [t.name for t in constant.outputs]
        )
    rows = traced.output_shapes

    def frozen(features) -> tf.Tensor:
        result = constant(*tf.nest.flatten(features, expand_composites=True))
        return tf.ensure_shape(result[0] if isinstance(result, (list, tuple)) else result, rows)

    return frozen


def _make_stateless(graph: graph_pb2.GraphDef) -> bool:
    """Marks calls and loops as stateless, in place; False (no change) where state remains."""
    bodies = [graph.node, *(function.node_def for function in graph.library.function)]
    own = {function.signature.name for function in graph.library.function}
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
