"""ONNX: the runtimes of other frameworks, and onnxruntime in many languages.

The converter is tf2onnx.
"""

from collections.abc import Callable
import contextlib
import logging

import numpy as np

from dr_keras.serving.portable import (
    SCORE,
    TOKENS,
    OperationsLacking,
    PortableFormat,
    ServeScores,
    nothing_int8,
)

# The newest that tf2onnx writes; onnxruntime reads it since 1.14.
OPSET = 18


class Onnx(PortableFormat):
    """`PortableFormat` says what the parts are; int8 are products with matrices of weights."""

    name, suffix = "onnx", ".onnx"
    libraries = {"tf2onnx": "tf2onnx", "onnx": "onnx", "onnxruntime": "onnxruntime"}

    def write(self, scores: ServeScores, path: str, int8: bool) -> None:
        import onnx
        import tf2onnx

        with _quiet():  # it says twice what it does not know, and goes on
            model, _ = tf2onnx.convert.from_function(
                scores.serve_scores, [scores.spec], opset=OPSET
            )
        of_onnx = {node.op_type for node in model.graph.node if not node.domain}
        if lacking := {name for name in of_onnx if not onnx.defs.has(name)}:
            raise OperationsLacking(*sorted(lacking))
        if scores.spec.shape[0] is None:
            for value in (*model.graph.input, *model.graph.output):
                value.type.tensor_type.shape.dim[0].dim_param = "batch"
        onnx.save(model, path)
        if int8:
            _quantise(path)

    def load(self, path: str, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda tokens: session.run([SCORE], {TOKENS: np.asarray(tokens, np.int32)})[0]


def _quantise(path: str) -> None:
    """Puts int8 in the place of what onnxruntime knows to multiply so."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _quiet():  # it asks for a step before it that changes nothing here
        quantize_dynamic(path, path, weight_type=QuantType.QInt8)
    held = [tensor.data_type for tensor in onnx.load(path).graph.initializer]
    if onnx.TensorProto.INT8 not in held:
        raise nothing_int8(
            "onnxruntime", "products with matrices and convolutions (LiteRT with tables, too)"
        )


@contextlib.contextmanager
def _quiet():
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)
