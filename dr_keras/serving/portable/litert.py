"""LiteRT (TensorFlow Lite): phones, browsers, small devices, and any CPU by a runtime of 22 MB.

The converter is TensorFlow's own and the runtime Google's `ai-edge-litert`. Built-in operations
alone are allowed: the runtime has no others.
"""

from collections.abc import Callable
import re
import tempfile

import numpy as np
import tensorflow as tf

from dr_keras.serving.portable import (
    SCORE,
    SIGNATURE,
    OperationsLacking,
    PortableFormat,
    ServeScores,
    nothing_int8,
)
from dr_keras.system.whole_files import write_bytes


class LiteRT(PortableFormat):
    """`PortableFormat` says what the parts are; int8 are weights of more than 1024 numbers."""

    name, suffix = "litert", ".tflite"
    libraries = {"ai_edge_litert": "ai-edge-litert"}

    def write(self, scores: ServeScores, path: str, int8: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            # From a SavedModel, so that the file names its signature, inputs and outputs.
            tf.saved_model.save(scores, folder, signatures={SIGNATURE: scores.serve_scores})
            converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[SIGNATURE])
            try:
                content = converter.convert()
            except Exception as error:  # the class is of a private module
                if lacking := set(re.findall(r"'tf\.(\w+)' op", str(error))):
                    raise OperationsLacking(*sorted(lacking)) from error
                raise
            if int8:
                before = len(content)
                converter.optimizations = [tf.lite.Optimize.DEFAULT]
                content = converter.convert()
                if len(content) >= before:
                    raise nothing_int8("LiteRT's converter", "weights of more than 1024 numbers")
        write_bytes(path, content)

    def load(self, path: str, threads: int = 1) -> Callable[[np.ndarray], np.ndarray]:
        from ai_edge_litert.interpreter import Interpreter

        run = Interpreter(model_path=path, num_threads=threads).get_signature_runner(SIGNATURE)
        return lambda tokens: run(tokens=np.ascontiguousarray(tokens, np.int32))[SCORE]
