"""What can be known before meta-training starts: ranges, and whether models and data fit.

An inner model is a pure function of the values that Keras knows (weights, seeds, moving
statistics): members hold these and re-run them. What keeps state anywhere else would be shared by
the members and lost by checkpoints; what has no derivative would silently cut the gradient off.
"""

from collections.abc import Callable
import numbers
import re

import keras
import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.problem import model_inputs


def at_least(name: str, value: int, minimum: int) -> None:
    """Raises ConfigurationError unless `value` is a whole number of at least `minimum`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < minimum:
        raise ConfigurationError(
            f"{name} is {value}: it must be a whole number of at least {minimum}."
        )


def models_fit(trainer, train, outer) -> None:
    """Runs both models on a few real rows, eagerly, and checks what comes out.

    The rows are chosen to hold the largest and smallest whole numbers of every feature, so that a
    token id beyond the vocabulary shows here: compiled code would clamp it without a word.

    Raises:
      ConfigurationError: a model or the loss fails on the data, a score or loss is not one number
        an example, a layer keeps state of its own or has no derivative.
    """
    for model, role in ((trainer.rater, "rater"), (trainer.inner_model, "inner model")):
        _state_is_known(model, role)
    for examples in (train, outer):
        if not len(examples):
            continue  # the streams say that a set is too small
        batch = probe_batch(examples.features)
        rows = len(next(iter(batch.values())))
        scores = _run(trainer.rater, batch, "rater", examples)
        if int(tf.size(scores)) != rows:
            raise ConfigurationError(
                f"The rater '{trainer.rater.name}' gave an output of shape {tuple(scores.shape)}"
                f" for {rows} examples: it must give one score an example, [B] or [B, 1]."
            )
        outputs = _run(trainer.inner_model, batch, "inner model", examples)
        losses = _losses(trainer.per_example_loss, outputs, batch, examples)
        if tuple(losses.shape) != (rows,):
            name = getattr(trainer.per_example_loss, "__name__", trainer.per_example_loss)
            raise ConfigurationError(
                f"The loss {name} gave shape {tuple(losses.shape)} for {rows} examples: it must"
                f" give one loss an example, ({rows},), so that examples can be weighed. A Keras"
                " loss does so with reduction='none', and sequences need a mean over positions."
            )
        if examples is train:  # derivatives do not depend on the values
            with tf.device("CPU:0"):
                _gradient_reaches_weights(trainer.rater, "rater", batch, lambda scores: scores)
                _gradient_reaches_weights(
                    trainer.inner_model,
                    "inner model",
                    batch,
                    lambda outputs, batch=batch: trainer.per_example_loss(outputs, batch),
                )


def probe_batch(features: dict[str, np.ndarray], rows: int = 2) -> dict[str, tf.Tensor]:
    """At least `rows` rows, those with the extremes of every whole-number feature among them."""
    chosen = list(range(min(rows, len(next(iter(features.values()))))))
    for values in features.values():
        if np.issubdtype(values.dtype, np.integer) and values.size:
            flat = values.reshape(len(values), -1)
            chosen += [int(flat.max(axis=1).argmax()), int(flat.min(axis=1).argmin())]
    return {name: tf.constant(values[chosen]) for name, values in features.items()}


def _reason(error: Exception) -> str:
    """The line that says what is wrong; Keras puts the layer before it and arguments after."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Exception encountered when calling"):
        lines[0] = f"{lines[1]} ({lines[0].rstrip('.')})"
    plain = re.sub("\x1b\\[[0-9;]*m|\\{\\{[^}]*\\}\\} ?", "", lines[0] if lines else repr(error))
    return plain[:300].rstrip(".")


def _described(batch: dict) -> str:
    return ", ".join(
        f"{name}: {value.dtype.name} {tuple(value.shape[1:])}, values"
        f" {np.min(value)} to {np.max(value)}"
        for name, value in batch.items()
    )


# What tracing or running a model or a loss on data that does not fit raises.
_MISFIT = (ValueError, TypeError, KeyError, tf.errors.OpError)


def _losses(per_example_loss, outputs, batch: dict, examples) -> tf.Tensor:
    try:
        with tf.device("CPU:0"):
            return tf.convert_to_tensor(per_example_loss(outputs, batch))
    except _MISFIT as error:
        name = getattr(per_example_loss, "__name__", per_example_loss)
        reason = f"there is no {error}" if isinstance(error, KeyError) else _reason(error)
        shapes = tf.nest.map_structure(lambda part: tuple(part.shape), outputs)
        raise ConfigurationError(
            f"The loss {name} fails on the examples of '{examples.name}' ({_described(batch)}; the"
            f" inner model's outputs have shape {shapes}): {reason}. Correct the labels or targets,"
            " or make the model's outputs and the loss fit them."
        ) from error


def _run(model: keras.Model, batch: dict, role: str, examples):
    _whole_inputs(model, role, batch)
    try:
        with tf.device("CPU:0"):  # a look-up out of range raises on CPU, elsewhere it may not
            return model(model_inputs(model, batch), training=False)
    except _MISFIT as error:
        raise ConfigurationError(
            f"The {role} '{model.name}' does not take the examples of '{examples.name}'"
            f" ({_described(batch)}): {_reason(error)}. Make its inputs, vocabulary and"
            " sequence length those of the data."
        ) from error


def _state_is_known(model: keras.Model, role: str) -> None:
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


def _whole_inputs(model: keras.Model, role: str, batch: dict) -> None:
    """Raises ConfigurationError where floats would be cut to whole numbers by a model's input."""
    for tensor in getattr(model, "inputs", None) or []:
        value = batch.get(tensor.name)
        if value is not None and value.dtype.is_floating and "int" in str(tensor.dtype):
            raise ConfigurationError(
                f"The {role} '{model.name}' reads '{tensor.name}' as {tensor.dtype}, and the"
                f" examples have {value.dtype.name}: its values would be cut to whole numbers."
                " Give the input the type of the data (image_dtype of the image models)."
            )


def _gradient_reaches_weights(
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
