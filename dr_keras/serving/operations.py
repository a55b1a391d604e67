"""Whether the graph of a SavedModel has nothing in it but what raters compute with.

A SavedModel is a program. Some operations of TensorFlow read and write any file that the user can,
call Python, or open connections, and they run when the rater scores. A rater needs none of them:
here is what it may have, and whatever else is found in a graph is named.

Known are the operations of whole families of TensorFlow, as its modules divide them, where these
compute their outputs from their inputs alone; and by name those that hold state in memory. What
saves and restores variables is known where the SavedModel's own saver calls it, and nowhere else:
no signature can reach it.
"""

from collections.abc import Iterable, Iterator
import importlib
import os

from google.protobuf.message import DecodeError
from tensorflow.core.framework import attr_value_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from dr_keras.errors import ArtefactError
from dr_keras.serving import folder

# Modules of generated code, one for each family.
_FAMILIES = [
    importlib.import_module(f"tensorflow.python.ops.gen_{family}_ops")
    for family in (
        "array", "bitwise", "composite_tensor", "control_flow", "count", "ctc", "functional",
        "image", "linalg", "list", "manip", "map", "math", "nn", "parsing", "ragged_array",
        "ragged_conversion", "ragged_math", "rnn", "set", "sparse", "special_math", "spectral",
        "stateless_random", "string", "uniform_quant",
    )
]  # fmt: skip
_FAMILIES.append(importlib.import_module("tensorflow.python.ops.gen_stateless_random_ops_v2"))
# Without state and yet not harmless: a constant that is mapped from a file, the end of the process.
_NOT_PURE = frozenset({"ImmutableConst", "Abort"})
# With state that is in memory alone.
_STATEFUL = frozenset({
    "If", "While", "Case", "StatefulPartitionedCall", "DeviceIndex", "Assert", "CheckNumerics",
    "CheckNumericsV2", "DynamicPartition", "DynamicStitch", "ParallelDynamicStitch", "Empty",
    "DeepCopy", "VarHandleOp", "VarIsInitializedOp", "VariableShape", "ReadVariableOp",
    "DisableCopyOnRead", "AssignVariableOp", "AssignAddVariableOp", "AssignSubVariableOp",
    "ResourceGather", "ResourceGatherNd", "ResourceScatterAdd", "ResourceScatterUpdate",
    "HashTableV2", "AnonymousHashTable", "MutableHashTableV2", "AnonymousMutableHashTable",
    "InitializeTableV2", "LookupTableExportV2", "LookupTableFindV2", "LookupTableImportV2",
    "LookupTableSizeV2", "RandomUniform", "RandomUniformInt", "RandomStandardNormal",
    "TruncatedNormal", "RandomShuffle", "RngReadAndSkip", "RngSkip", "StatefulStandardNormalV2",
    "StatefulUniform", "StatefulUniformFullInt", "StatefulUniformInt", "CudnnRNN", "CudnnRNNV2",
    "CudnnRNNV3", "ShardedFilename",
})  # fmt: skip
_SAVER = frozenset({"SaveV2", "RestoreV2", "MergeV2Checkpoints"})
_LARGEST_MESSAGE = 2**31 - 1
# Of modules that a rater may require.
OF_MODULES = {
    "tensorflow_text": frozenset({
        "CaseFoldUTF8", "FastWordpieceTokenizeWithOffsets", "NormalizeUTF8",
        "RegexSplitWithOffsets", "SentencepieceOp", "SentencepieceTokenizeOp",
        "TFText>FastWordpieceTokenizeWithOffsets",
    })
}  # fmt: skip


def check(directory: str, graphs: Iterable[str], modules: Iterable[str]) -> None:
    """Raises ArtefactError where `foreign` finds operations, or a graph cannot be read."""
    for path, shown in foreign(directory, graphs, modules):
        raise ArtefactError(
            f"{path} has operations that no rater needs: {shown}. They may read and write files"
            " or run programs here. If you trust whoever made it, load it with"
            " load_rater(path, trusted=True), on the command line with --trust_rater."
        )


def foreign(
    directory: str, graphs: Iterable[str], modules: Iterable[str]
) -> Iterator[tuple[str, str]]:
    """Looks through graphs without running anything.

    Args:
      directory: of the rater.
      graphs: folders below it with a `saved_model.pb` each.
      modules: whose operations the rater may have; those that OF_MODULES does not know add none.

    Yields:
      The path of a graph that has operations which no rater needs, and their names.

    Raises:
      ArtefactError: a graph cannot be read.
    """
    more = frozenset().union(*(OF_MODULES.get(module, frozenset()) for module in modules))
    for place in graphs:
        path = os.path.join(directory, place, folder.GRAPH)
        found = sorted(_unknown(_read(path), more))
        if found:
            shown = ", ".join(ascii(name)[1:-1][:60] for name in found[:10])
            yield path, shown + (f" and {len(found) - 10} more" if len(found) > 10 else "")


def _read(path: str):
    """The one graph of a SavedModel, as `tf.saved_model.load` would take it."""
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString(folder.read_small(path, _LARGEST_MESSAGE))
    except DecodeError as error:
        raise ArtefactError(
            f"{path} is no SavedModel ({error}): copy or export the rater again."
        ) from error
    # Any other number is loaded in the way of TensorFlow 1, which runs the graph's own restoring.
    if len(model.meta_graphs) != 1 or not model.meta_graphs[0].object_graph_def.nodes:
        raise ArtefactError(
            f"{path} is not as an exported rater's is (one graph with its objects): copy or export"
            " the rater again."
        )
    return model.meta_graphs[0]


def _unknown(graph, more: frozenset[str]) -> set[str]:
    library = graph.graph_def.library
    functions = {function.signature.name for function in library.function}
    # A function cannot stand in for an operation of its name.
    known = {name for name in functions if op_def_registry.get(name) is None} | more
    savers = _savers(graph)
    unknown = {node.op for node in graph.graph_def.node if not _is_known(node.op, known)}
    for function in library.function:
        mine = known | _SAVER if function.signature.name in savers else known
        unknown.update(node.op for node in function.node_def if not _is_known(node.op, mine))
    return unknown


def _is_known(name: str, known: Iterable[str]) -> bool:
    if name in known or name in _STATEFUL:
        return True
    definition = op_def_registry.get(name)
    is_pure = definition is not None and not definition.is_stateful and name not in _NOT_PURE
    return is_pure and any(hasattr(family, name) for family in _FAMILIES)


def _savers(graph) -> set[str]:
    """The functions that only the saver calls."""
    called = {graph.saver_def.save_tensor_name.split(":")[0], graph.saver_def.restore_op_name}
    found: set[str] = set()
    others = set(_names_in_objects(graph.object_graph_def))
    for gradient in graph.graph_def.library.gradient:
        others |= {gradient.function_name, gradient.gradient_func}
    others |= {g.gradient_func for g in graph.graph_def.library.registered_gradients}
    for node in graph.graph_def.node:
        (found if node.name in called else others).update(_calls(node))
    for function in graph.graph_def.library.function:
        if "api_implements" in function.attr:  # TensorFlow may put it in the place of another
            others.add(function.signature.name)
        for node in function.node_def:
            others.update(_calls(node))
    return found - others


def _calls(node) -> Iterator[str]:
    yield node.op
    for value in node.attr.values():
        yield from _functions_in(value)


def _functions_in(value: attr_value_pb2.AttrValue) -> Iterator[str]:
    for function in [value.func, *value.list.func]:
        yield function.name
        for inner in function.attr.values():
            yield from _functions_in(inner)


def _names_in_objects(objects) -> Iterator[str]:
    yield from objects.concrete_functions
    for node in objects.nodes:
        yield from node.function.concrete_functions
        yield node.bare_concrete_function.concrete_function_name
