"""A rater as a graph of constants, for use inside input pipelines.

A `tf.data` iterator whose functions capture variables cannot be checkpointed ("is stateful").
Pipelines therefore hold a rater with its weights frozen to constants: scores of the moment it was
frozen, whatever becomes of the variables later.
"""

from collections.abc import Callable

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from dr_keras.errors import ConfigurationError


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
    constant = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    rows = traced.output_shapes

    def frozen(features) -> tf.Tensor:
        result = constant(*tf.nest.flatten(features, expand_composites=True))
        return tf.ensure_shape(result[0] if isinstance(result, (list, tuple)) else result, rows)

    return frozen
