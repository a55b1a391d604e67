"""Warm-up requests: what TensorFlow Serving sends through a model before it takes traffic.

Without them the first requests pay for what TensorFlow does once. The file is a TFRecord of
`PredictionLog` messages. These belong to the protocol of TensorFlow Serving, and come with
`pip install dr_keras[serving]`; without it the file is left out, and everything else is the same.
"""

import importlib.util
import os

import numpy as np
import tensorflow as tf

# The name that servers look for.
PATH = os.path.join("assets.extra", "tf_serving_warmup_requests")


def available() -> bool:
    """Whether the messages can be made here."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def write_requests(directory: str, requests: list[tuple[str, dict[str, np.ndarray]]]) -> bool:
    """Writes the file into a SavedModel's directory; False, and no file, without the messages.

    Args:
      directory: of the SavedModel.
      requests: names of signatures and their inputs.
    """
    if not available() or not requests:
        return False
    # an extra, and its import takes a second
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = os.path.join(directory, PATH)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests:
            request = predict_pb2.PredictRequest()
            # The server does not look at the name here: it has one model at hand.
            request.model_spec.name = "rater"
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
    return True
