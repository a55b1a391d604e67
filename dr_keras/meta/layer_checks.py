"""Layers that an unroll cannot go through: found before meta-training starts.

An inner model is a pure function of the values that Keras knows (weights, seeds, moving
statistics): members hold these and re-run them. What keeps state anywhere else would be shared by
the members and lost by checkpoints; what has no derivative would silently cut the gradient off.
"""

from collections.abc import Callable
import re

import keras
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.problem import model_inputs


def state_is_known(model: keras.Model, role: str) -> None:
    """Raises ConfigurationError for layers that carry state from batch to batch on their own.

    Dropout (its seeds), batch normalisation (its moving statistics) and every variable made with
    `add_weight` are fine: they are part of a member's state.
    """
    known = {id(variable.value) for variable in model.variables}
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False) is True:
            raise ConfigurationError(
                f"The layer '{layer.name}' of the {role} '{model.name}' is stateful: it would carry"
                " what it saw in one batch into the next, and the batches of the members are not"
                " each other's continuation. Set stateful=False."
            )
        for name, value in vars(layer).items():
            if isinstance(value, tf.Variable) and id(value) not in known:
                raise ConfigurationError(
                    f"The layer '{layer.name}' of the {role} '{model.name}' holds the tf.Variable"
                    f" '{name}', which Keras does not know: all members would share it and"
                    " checkpoints would miss it. Make it with self.add_weight(...)."
                )


def whole_inputs(model: keras.Model, role: str, batch: dict) -> None:
    """Raises ConfigurationError where floats would be cut to whole numbers by a model's input."""
    for tensor in getattr(model, "inputs", None) or []:
        value = batch.get(tensor.name)
        if value is not None and value.dtype.is_floating and "int" in str(tensor.dtype):
            raise ConfigurationError(
                f"The {role} '{model.name}' reads '{tensor.name}' as {tensor.dtype}, and the"
                f" examples have {value.dtype.name}: its values would be cut to whole numbers."
                " Give the input the type of the data (image_dtype of the image models)."
            )


def gradient_reaches_weights(
    model: keras.Model, role: str, batch: dict, figure: Callable[[object], tf.Tensor]
) -> None:
    """Raises ConfigurationError where weights matter to the result but get no gradient.

    Weights that the result does not depend on (an embedding that is never used) are fine: they are
    told apart by moving them. A layer whose derivative is zero, such as `sign`, is not found out.

    Args:
      model: run in training mode with the state that it has.
      role: "rater" or "inner model".
      batch: a few examples.
      figure: outputs -> tensor, the losses or scores.
    """
    state = [variable.value for variable in model.non_trainable_variables]
    theta = [tf.identity(variable.value) for variable in model.trainable_variables]

    def result(values):
        outputs, _ = model.stateless_call(values, state, model_inputs(model, batch), training=True)
        return figure(outputs)

    with tf.GradientTape() as tape:
        tape.watch(theta)
        found = result(theta)
        total = tf.reduce_sum(found)
    gradient = tape.gradient(total, theta)
    for number, (variable, part) in enumerate(zip(model.trainable_variables, gradient)):
        if part is not None:
            continue
        moved = list(theta)
        noise = tf.random.stateless_normal(theta[number].shape, seed=[0, number])
        moved[number] = theta[number] + tf.cast(noise, theta[number].dtype)
        if bool(tf.reduce_any(tf.not_equal(result(moved), found))):
            raise ConfigurationError(
                f"The weight '{variable.path}' of the {role} '{model.name}' changes the result but"
                " gets no gradient: a layer after it is not differentiable (rounding, argmax, a"
                " cast to whole numbers, a look-up by a computed index, NumPy code). Replace it by"
                " a smooth one, or set trainable=False on the layers before it."
            )


def missing_derivative(error: Exception) -> ConfigurationError | None:
    """The error for the user where an operation has no gradient registered; None for others."""
    found = re.search(r"gradient registry has no entry for: (\w+)", str(error)) or re.search(
        r"No gradient defined for operation '[^']*' \(op type: (\w+)\)", str(error)
    )
    if found is None:
        return None
    return ConfigurationError(
        "An operation of the inner model or its loss has no second derivative in TensorFlow:"
        f" {found[1]} has no gradient. The meta-gradient differentiates the inner gradient: use"
        " another layer, such as plain instead of fused attention, or layer normalisation instead"
        " of a local one."
    )
