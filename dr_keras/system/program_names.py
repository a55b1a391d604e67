"""Names of traced functions that do not hang on what a process did before.

TensorFlow numbers the functions it traces by a counter that all tensors share, and their names are
part of the programs that XLA compiles. So a program that is kept (`program_cache`) is found again
only where the process made as many tensors before it: not after a resume, nor by another test.
Here functions of one name are counted instead, and branches and loop bodies within them.

These are functions inside TensorFlow. Where a version has none of that name, its own counter stays,
and programs are found less often.
"""

from collections import Counter
from collections.abc import Callable
import threading

_lock = threading.Lock()
_counts: Counter[str] = Counter()
_label = "run"


def begin(label: str) -> None:
    """Counts anew, under another label: letters and digits that no other part of the process has.

    A process that does one thing after the other, as tests do, names what each of them traces by
    itself.
    """
    global _label
    with _lock:
        _label = label
        _counts.clear()


def _numbered(name: str) -> str:
    """`name`, the label and how many were called so before; TensorFlow looks for a number last."""
    with _lock:
        count = _counts[name]
        _counts[name] += 1
        return f"{name}_{_label}_{count}"


def install() -> None:
    """Has TensorFlow name what is traced from now on so; a second call does nothing."""
    from tensorflow.python.eager.polymorphic_function import concrete_function
    from tensorflow.python.framework import ops
    from tensorflow.python.ops import control_flow_util_v2

    def outermost() -> str:
        """Name of the traced function that all of the present ones are within."""
        graph, name = ops.get_default_graph(), ""
        while hasattr(graph, "outer_graph"):
            graph, name = graph.outer_graph, graph.name
        return f"{name}_" if name else ""

    def within(scope: str, name: str) -> str:
        return _numbered(f"{scope}{name}_{outermost()}".replace("/", "_").rstrip("_"))

    def prefixed(prefix: str) -> Callable[[str], str]:
        return lambda name: _numbered(f"__{prefix}_{name}")

    ours: tuple[tuple[object, str, Callable[..., str]], ...] = (
        (concrete_function, "_inference_name", prefixed("inference")),
        (concrete_function, "_forward_name", prefixed("forward")),
        (concrete_function, "_backward_name", prefixed("backward")),
        (control_flow_util_v2, "unique_fn_name", within),
        (control_flow_util_v2, "unique_grad_fn_name", lambda forward: _numbered(f"{forward}_grad")),
    )
    for module, name, named in ours:
        before = getattr(module, name, None)
        if before is not None and before.__module__ != __name__:
            setattr(module, name, named)
