"""Names of traced functions that do not hang on what a process did before.

TensorFlow numbers the functions it traces by a counter that all tensors share, and their names are
part of the programs that XLA compiles. So a program that is kept (`program_cache`) is found again
only where the process made as many tensors before it: not after a resume, nor by another test.
Here a function that XLA compiles is numbered by a hash of its definition, so that the same program
is compiled once, by whichever process and however often it is traced; two such functions of one
process are one to TensorFlow, which compares definitions in full. All others are counted by name,
branches and loop bodies within the function that they are in.

These are functions inside TensorFlow. Where a version has none of that name, its own counter stays,
and programs are found less often.
"""

from collections import Counter
from collections.abc import Callable, Iterable
import hashlib
import threading

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_label = "run"
# Number of a definition -> hash of all that it is.
_definitions: dict[int, str] = {}
_this_thread = threading.local()


def begin(label: str) -> None:
    """Counts anew, under another label: letters and digits that no other part of the process has.

    A process that does one thing after the other, as tests do, names what each of them traces by
    itself.
    """
    global _label
    with _lock:
        _label = label
        _counts.clear()


def _counted(name: str) -> str:
    """`name`, the label and how many were called so before; TensorFlow looks for a number last."""
    with _lock:
        count = _counts[name]
        _counts[name] += 1
        return f"{name}_{_label}_{count}"


def _number_of(graph, attributes) -> int:
    """The number of a function, equal for equal definitions and for no others.

    What differs from process to process and is in no program does not count, but tells definitions
    apart: names of gradients, which TensorFlow numbers, and the order of operations without result.
    """
    definition = graph.as_graph_def()
    ends = [tensor.name for tensor in (*graph.inputs, *graph.outputs)]
    ends += [f"{key}={value}" for key, value in sorted(attributes.items())]
    without_result = [operation.name for operation in graph.control_outputs]
    exact = _digest(definition, [*ends, *without_result])
    for nodes in (definition.node, *(f.node_def for f in definition.library.function)):
        for node in nodes:
            node.attr.pop("_gradient_op_type", None)
    number = int(_digest(definition, [*ends, *sorted(without_result)])[:15], 16)
    with _lock:
        while _definitions.setdefault(number, exact) != exact:
            number += 1
    return number


def _digest(definition, names: Iterable[str]) -> str:
    content = definition.SerializeToString(deterministic=True)
    return hashlib.sha256("\n".join(names).encode() + content).hexdigest()


def install() -> None:
    """Has TensorFlow name what is traced from now on so; a second call does nothing."""
    from tensorflow.python.eager.polymorphic_function import attributes, concrete_function
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import control_flow_util_v2

    made = concrete_function.ConcreteFunction.from_func_graph
    if made.__module__ == __name__:
        return

    def from_func_graph(cls, graph, function_type, attrs, shared_func_graph=True):
        compiled = attributes.XLA_COMPILE in (attrs or {})
        _this_thread.number = _number_of(graph, attrs) if compiled else None
        try:
            return made(graph, function_type, attrs, shared_func_graph=shared_func_graph)
        finally:
            _this_thread.number = None

    def inference_name(name: str) -> str:
        number = getattr(_this_thread, "number", None)
        return _counted(f"__inference_{name}") if number is None else f"__inference_{name}_{number}"

    def outermost() -> str:
        """Name of the traced function that all of the present ones are within."""
        graph, name = ops.get_default_graph(), ""
        while hasattr(graph, "outer_graph"):
            graph, name = graph.outer_graph, graph.name
        return f"_{name}" if name else ""

    def within(scope: str, name: str) -> str:
        return _counted(f"{scope}{name}{outermost()}".replace("/", "_"))

    concrete_function.ConcreteFunction.from_func_graph = classmethod(from_func_graph)
    ours: tuple[tuple[object, str, Callable[..., str]], ...] = (
        (concrete_function, "_inference_name", inference_name),
        (concrete_function, "_forward_name", lambda name: _counted(f"__forward_{name}")),
        (concrete_function, "_backward_name", lambda name: _counted(f"__backward_{name}")),
        (control_flow_util_v2, "unique_fn_name", within),
        (control_flow_util_v2, "unique_grad_fn_name", lambda forward: _counted(f"{forward}_grad")),
    )
    for module, name, named in ours:
        if hasattr(module, name):
            setattr(module, name, named)
