"""What can be known before meta-training starts: ranges, and whether models and data fit.

An inner model is a pure function of the values that Keras knows (weights, seeds, moving
statistics): members hold these and re-run them. What keeps state anywhere else would be shared by
the members and lost by checkpoints; what has no derivative would silently cut the gradient off.
"""

from collections.abc import Callable, Mapping
import numbers
import re

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.columns import Column
from dr_keras.data.examples import evenly_spread
from dr_keras.errors import ConfigurationError
from dr_keras.models.losses import checked_counts, loss_name, says_counts
from dr_keras.models.model_inputs import model_inputs
from dr_keras.models.objectives import Terms
from dr_keras.models.rater_scores import reads_by_token, state_read

# Rows of a column that is not in memory, evenly spread.
_LOOKED_AT = 256


def at_least(name: str, value: int, minimum: int) -> None:
    """Raises ConfigurationError unless `value` is a whole number of at least `minimum`."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < minimum:
        raise ConfigurationError(
            f"{name} is {value}: it must be a whole number of at least {minimum}."
        )


def models_fit(trainer, train, outer: Mapping) -> None:
    """Runs both models on a few real rows, eagerly, and checks what comes out.

    The rows are chosen to hold the largest and smallest whole numbers of every feature, so that a
    token id beyond the vocabulary shows here: compiled code would clamp it without a word.

    Args:
      trainer: a MetaTrainer.
      train: ExampleSet of the inner updates.
      outer: name of a held-out set -> ExampleSet.

    Raises:
      ConfigurationError: a model, the loss or an objective fails on the data; scores and losses are
        neither one number an example nor both one a token, or the weighting is for the other; a
        loss is not finite; a layer keeps state of its own or has no derivative; the rater reads a
        reference's loss and there is no reference.
    """
    problem = trainer.problem
    for model, role in ((trainer.rater, "rater"), (trainer.inner_model, "inner model")):
        _state_is_known(model, role)
    _reference_is_there(problem, train)
    if len(train):  # the streams say that a set is too small
        _inner_level_fits(trainer, train)
    for name, examples in outer.items():
        if len(examples):
            _objective_fits(trainer, name, examples)


def _reference_is_there(problem, train) -> None:
    read = state_read(problem.rater, train.features)
    if "reference_loss" in read and problem.reference is None:
        raise ConfigurationError(
            f"The rater '{problem.rater.name}' reads reference_loss, and there is neither a"
            " reference model nor a column of that name in the data: set"
            " experiment.reference_model, or take reference_loss from the rater's features."
        )


def _inner_level_fits(trainer, train) -> None:
    problem, loss, rater = trainer.problem, trainer.per_example_loss, trainer.rater
    batch = probe_batch(train.features)
    rows = len(next(iter(batch.values())))
    read = state_read(rater, train.features)
    scores = None if read else _run(rater, batch, "rater", train)
    outputs = _run(trainer.inner_model, batch, "inner model", train)
    losses = _losses(loss, outputs, batch, train)
    if read:
        _losses_read_fit(rater, read, losses)
        stand_ins = {name: tf.zeros_like(losses) for name in read} | (
            {"age": tf.zeros(rows)} if "age" in read else {}
        )
        batch |= stand_ins
        scores = _run(rater, batch, "rater", train)
    name = loss_name(loss)
    by_token = losses.shape.rank == 2 and says_counts(loss) is not None
    if losses.shape[:1] != (rows,) or losses.shape.rank != (2 if by_token else 1):
        raise ConfigurationError(
            f"The loss {name} gave shape {tuple(losses.shape)} for {rows} examples: it must"
            f" give one loss an example, ({rows},), so that examples can be weighed, or one a token"
            " and their counts (dr_keras.models.losses.counted_by). A Keras loss does so with"
            " reduction='none', and sequences need a mean over positions."
        )
    checked_counts(loss, losses, batch)
    _finite(losses, f"The loss {name}", batch, train)
    if tuple(scores.shape) not in (tuple(losses.shape), () if by_token else (rows, 1)):
        if by_token:
            wanted = (
                f"one score a token, {tuple(losses.shape)}, as the loss {name} does: use a rater of"
                " tokens (text_rater.per_token = True), or a loss by example (@next_token_loss)"
            )
        else:
            wanted = "one score an example, [B] or [B, 1]"
            if scores.shape.rank == 2:
                wanted += f"; the loss {name} is by example: to weigh tokens use @token_loss"
        raise ConfigurationError(
            f"The rater '{rater.name}' gave an output of shape {tuple(scores.shape)}"
            f" for {rows} examples: it must give {wanted}."
        )
    _weighting_fits(problem.weighting, losses.shape.rank, loss)
    with tf.device("CPU:0"):  # derivatives do not depend on the values
        _gradient_reaches_weights(rater, "rater", batch, lambda found: found)
        _gradient_reaches_weights(
            trainer.inner_model, "inner model", batch, lambda found: loss(found, batch)
        )


def _losses_read_fit(rater, read, losses) -> None:
    by_token = losses.shape.rank == 2
    if set(read) == {"age"} or reads_by_token(rater) == by_token:
        return
    kinds = ("by example", "by token")
    raise ConfigurationError(
        f"The rater '{rater.name}' reads losses {kinds[not by_token]}, and the loss is"
        f" {kinds[by_token]}: "
        + (
            "use a rater of tokens (text_rater.per_token = True), or a loss by example"
            " (@next_token_loss)."
            if by_token
            else "use a loss by token (@token_loss), or a rater of examples."
        )
    )


def _weighting_fits(weighting, rank: int, loss: Callable) -> None:
    if getattr(weighting, "count_tokens", False) and not says_counts(loss):
        raise ConfigurationError(
            f"example_softmax.count_tokens is True, and the loss {loss_name(loss)} does not say how"
            " many tokens a value stands for: decorate it with"
            " dr_keras.models.losses.counted_by, or set count_tokens to False."
        )
    wanted = getattr(weighting, "rank", rank)
    if wanted == rank:
        return
    name = type(weighting).__name__
    kinds = {1: "by example", 2: "by token"}
    remedy = {
        1: "set MetaTrainer.weighting = @example_softmax(), or use @token_loss with a rater of"
        " tokens (text_rater.per_token = True)",
        2: "set MetaTrainer.weighting = @token_softmax()",
    }[rank]
    raise ConfigurationError(
        f"The weighting {name} is {kinds[wanted]} and the loss {loss_name(loss)} is {kinds[rank]}:"
        f" {remedy}."
    )


def _objective_fits(trainer, name: str, examples) -> None:
    problem = trainer.problem
    objective = problem.objective_of(name)
    called = loss_name(objective)
    batch = probe_batch(examples.features)

    def model(batch):
        return _run(problem.inner_model, batch, "inner model", examples)

    try:
        with tf.device("CPU:0"), tf.GradientTape() as tape:
            found = objective(model, batch)
            total = tf.reduce_sum(tf.nest.flatten(found)[0])
    except ConfigurationError:  # which says what is wrong
        raise
    except _MISFIT as error:
        raise ConfigurationError(
            f"The objective {called} fails on the examples of '{examples.name}' (held-out set"
            f" {name}; {_described(batch)}): {_reason(error)}. Name another objective for this set"
            " (MetaTrainer.objective), or correct its examples."
        ) from error
    if not isinstance(found, Terms) and tf.convert_to_tensor(found).shape.rank != 0:
        raise ConfigurationError(
            f"The objective {called} gave shape {tuple(found.shape)}: it must give Terms(sums,"
            " counts) or one number (dr_keras.models.objectives)."
        )
    _finite(tf.nest.flatten(found)[0], f"The objective {called}", batch, examples)
    if getattr(trainer.estimator, "needs_derivatives", False):
        _reaches_model(tape, total, trainer, f"{called} (held-out set {name})")


def _reaches_model(tape, total: tf.Tensor, trainer, called: str) -> None:
    weights = [variable.value for variable in trainer.inner_model.trainable_variables]
    try:
        with tf.device("CPU:0"):
            found = tape.gradient(total, weights)
    except LookupError as error:
        raise missing_derivative(error) or error
    if all(part is None for part in found):
        raise ConfigurationError(
            f"The objective {called} has no derivative by any weight of the inner model"
            f" '{trainer.inner_model.name}' (a comparison, argmax or rounding cuts it off), and"
            f" {type(trainer.estimator).__name__} would get a meta-gradient of 0 from it. Set"
            " MetaTrainer.estimator = @EvolutionStrategies(), which needs none, or name a smooth"
            " objective (choice_loss, smooth_accuracy, mean_loss)."
        )


def nonfinite_message(trainer, step: int, index: int, age: int, report: dict) -> str:
    """What to say of a member whose loss or meta-gradient is not finite.

    Args:
      trainer: a MetaTrainer.
      step: meta-steps done.
      index: of the member.
      age: of it.
      report: name -> array [P], as `StepRecord.members`.
    """
    own = {name: values[index] for name, values in report.items()}
    what = f"Meta-step {step}, member {index}, age {age}: "
    lost = own.get("perturbed_losses_not_finite", 0)
    if np.isfinite(own["inner_loss_after"]) and (lost or not np.isfinite(own["outer_loss"])):
        # The model is in order, and what it is judged by is not.
        names = trainer.outer_names
        bad = [n for n in names if not np.isfinite(own.get(f"outer_loss/{n}", own["outer_loss"]))]
        called = "; ".join(
            f"{loss_name(trainer.problem.objective_of(n))} on the held-out set '{n}'"
            for n in bad or names
        )
        times = f" in {lost:.0f} perturbed runs" if lost else ""
        return (
            f"{what}the objective is not finite ({own['outer_loss']}{times}) while the inner loss"
            f" is {own['inner_loss_after']:.4g}: {called}. Make it give a number for every model"
            " and batch (a division by a count of 0, a logarithm or root of 0), lower"
            " EvolutionStrategies.spread where only perturbed runs fail, or set"
            " on_nonfinite='reinit' to restart such members."
        )
    return (
        f"{what}the loss or"
        f" meta-gradient is not finite (outer loss {own['outer_loss']}, meta-gradient"
        f" norm {own['meta_gradient_norm']}, inner loss"
        f" {own['inner_loss_before']}). Lower the inner learning rate, set"
        " clip_norm, or set on_nonfinite='reinit' to restart such members."
    )


def _finite(values: tf.Tensor, what: str, batch: dict, examples) -> None:
    bad = np.asarray(values)[~np.isfinite(values)]
    if bad.size:
        raise ConfigurationError(
            f"{what} is not finite on examples of '{examples.name}' before any training"
            f" ({bad[0]}; {_described(batch)}): look for a logarithm or"
            " root of 0, a division by 0, or values that are not finite in the data."
        )


def probe_batch(features: dict[str, np.ndarray], rows: int = 2) -> dict[str, tf.Tensor]:
    """At least `rows` rows, those with the extremes of every whole-number feature among them.

    Of a column some rows are looked at; where it is known what may be there, the last value of a
    further row is the largest that may.
    """
    count = len(next(iter(features.values())))
    looked_at = evenly_spread(count, _LOOKED_AT)
    chosen, largest = list(range(min(rows, count))), {}
    for name, values in features.items():
        if np.issubdtype(values.dtype, np.integer) and count:
            is_column = isinstance(values, Column)
            flat = np.asarray(values[looked_at] if is_column else values).reshape(
                -1, values[0].size
            )
            ends = [int(flat.max(axis=1).argmax()), int(flat.min(axis=1).argmin())]
            chosen += looked_at[ends].tolist() if is_column else ends
            if is_column and values.bounds:
                largest[name] = values.bounds[1]
    chosen += chosen[:1] * bool(largest)
    batch = {name: np.array(values[chosen]) for name, values in features.items()}
    for name, value in largest.items():
        batch[name].reshape(len(chosen), -1)[-1, -1] = value
    return {name: tf.constant(values) for name, values in batch.items()}


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
