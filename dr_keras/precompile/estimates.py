"""What is known of each program without a compiler: bytes from the graph of a forward pass, FLOPs.

A compiler fuses element-wise operations into the matrix products around them, so that what a
backward pass finds in memory is what enters and leaves matrix products. That is counted: A, for one
forward pass of the inner model and its loss on one part of a batch (`micro_batches`), and R for the
rater on as much. With G the bytes of the inner model's parameters and M those of its state
(parameters and slots), the estimate of the temporaries is

    train_step                      A + G
    meta_step, NestedTape           (2 T - 1) A + A' + T (R + M)
    meta_step, Recompute, MixedMode max(2 A, A') + R + saved + L (M + G)
    meta_step, FirstOrder           max(A, A') + R + saved + L (M + G)
    score                           the largest tensor in R
    advance                         A + R + G

A' is A for the outer batch. A second-order pass holds activations and their cotangents, or
tangents: 2 A. `saved` are the states (and gradients) that a loop keeps for its way back. L is 1 for
T <= 2, where the compiler makes straight code of the loops, and else 2: what enters a pass of a
loop and what leaves it. In a loop over blocks or chunks (`recompute_blocks`,
`chunked_logits`) the body counts once, and what the loop stacks up counts for every step.
docs/precompile.md compares estimates with what the TPU's compiler says.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import math

import tensorflow as tf

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import HeldBytes, told, untold
from dr_keras.meta.micro_batches import check_parts
from dr_keras.meta.problem import InnerState
from dr_keras.meta.pytrees import tensor_bytes, tree_bytes
from dr_keras.models.model_inputs import model_inputs
from dr_keras.precompile.programs import PROGRAMS, Program, rater_specs, state_specs
from dr_keras.precompile.setup import Setup, batch_specs, explained, specs
from dr_keras.training.flops import PRODUCTS, MetaTrainingSize, forward_flops, meta_training_flops

# Operations that give what they were given another form, and usually no memory of its own.
_FORMS = ("Reshape", "Identity", "Squeeze", "ExpandDims", "StopGradient")
_LOOPS = ("While", "StatelessWhile")
_UNFIT = "The models, the loss and the features do not fit together"
_CALLS = ("PartitionedCall", "StatefulPartitionedCall")


@dataclasses.dataclass(frozen=True)
class Held:
    """Bytes that a forward pass leaves for a backward pass.

    Attributes:
      bytes: all of them.
      largest: the largest tensor among them.
    """

    bytes: int
    largest: int


def held_by(function: Callable, batch: Mapping, *others) -> Held:
    """What `function(batch, *others)` leaves for a backward pass, of what depends on the batch.

    Args:
      function: of trees of tensors; traced, not run.
      batch: tree of `tf.TensorSpec`.
      others: likewise; what depends on nothing else, such as weights, is not counted.
    """
    traced = tf.function(function, autograph=False).get_concrete_function(batch, *others)
    count = len(tf.nest.flatten(batch))
    sizes: dict = {}
    _walk(traced.graph, {t.name for t in traced.graph.inputs[:count]}, sizes, "")
    return Held(sum(sizes.values()), max(sizes.values(), default=0))


def _walk(graph, known: set, sizes: dict, prefix: str) -> set:
    """Adds to `sizes` what the graph holds; names of the tensors that depend on those known."""
    for op in graph.get_operations():
        if not any(tensor.name in known for tensor in op.inputs):
            # A list that a loop fills is made before anything is known to enter it.
            if op.type == "TensorListReserve":
                _add_list(op, sizes, prefix)
            continue
        outputs = [tensor.name for tensor in op.outputs]
        if op.type in _LOOPS or op.type in _CALLS:
            name = op.get_attr("body" if op.type in _LOOPS else "f").name
            inner = graph._get_function(name).graph
            entering = {
                inside.name
                for inside, outside in zip(inner.inputs, op.inputs)
                if outside.name in known
            }
            for _ in range(2 if op.type in _LOOPS else 1):
                found = _walk(inner, set(entering), sizes, f"{prefix}{op.name}/")
                leaving = [tensor.name in found for tensor in inner.outputs]
                if op.type in _LOOPS:
                    entering |= {t.name for t, out in zip(inner.inputs, leaving) if out}
            outputs = [name for name, out in zip(outputs, leaving) if out]
        elif op.type in PRODUCTS:
            for tensor in (*op.inputs, *op.outputs):
                if tensor.name in known or tensor.op is op:
                    _add(tensor, sizes, prefix)
        known.update(outputs)
    return known


def _add(tensor, sizes: dict, prefix: str) -> None:
    while tensor.op.type in _FORMS:
        tensor = tensor.op.inputs[0]
    if tensor.dtype.is_floating and tensor.shape.is_fully_defined():
        sizes[prefix + tensor.name] = tensor_bytes(tensor)


def _add_list(op, sizes: dict, prefix: str) -> None:
    shape, length = (tf.get_static_value(tensor) for tensor in op.inputs)
    dtype = tf.as_dtype(op.get_attr("element_dtype"))
    if shape is None or length is None or min(shape, default=0) < 0 or not dtype.is_floating:
        return
    sizes[prefix + op.name] = int(length) * math.prod(int(n) for n in shape) * dtype.size


def temporaries(setup: Setup, programs: Sequence[str] = PROGRAMS) -> dict[str, int | None]:
    """Program -> estimated bytes of temporaries; checks shapes and dtypes on the way.

    That of a meta-step is None where the estimator does not say how many.

    Raises:
      ConfigurationError: a model or loss does not take the features, gives something else than one
        number an example, or the batch is not divided by `micro_batches`.
    """
    trainer, state = setup.trainer, state_specs(setup)
    eta, constants = rater_specs(setup)
    estimator, length = trainer.estimator, trainer.unroll_length
    parts = trainer.micro_batches
    batches = {"inner": trainer.inner_batch_size, "outer": trainer.outer_batch_size}
    check_parts(parts, batches, state.statistics, estimator)

    def losses(batch, theta, statistics, constants):
        found = trainer.problem(constants).inner_loss(theta, statistics, batch)[0]
        _one_each(found, batch, "The loss")
        return found

    def scores(batch, eta, state, constants):
        found = trainer.problem(constants).scores(eta, InnerState(*state), batch)
        _one_each(found, batch, "The rater")
        return found

    @functools.cache
    def inner(size: int) -> int:
        batch = batch_specs(setup.features, size)
        return held_by(losses, batch, state.theta, state.statistics, constants).bytes

    with explained(_UNFIT):
        a, outer = (inner(size // parts) for size in batches.values())
        rows = batch_specs(setup.features, trainer.rows_at_once)
        rater = held_by(scores, rows, eta, tuple(state), constants)
    g = tree_bytes(state.theta)
    held = HeldBytes(a, outer, rater.bytes, g, tree_bytes((state.theta, state.slots)))
    found = {
        "meta_step": told(estimator, "temporary_bytes", held, state, length),
        "score": rater.largest,
    }
    if trainer.updates_per_step > length:
        found["advance"] = a + rater.bytes + g
    if "train_step" in programs:
        found["train_step"] = _train_step(setup)
    return found


def _train_step(setup: Setup) -> int:
    trainer = setup.train_step
    model, sums = trainer.model, trainer._wrapped.loss_sums

    def loss(batch, trainable, non_trainable):
        outputs, _ = model.stateless_call(
            trainable, non_trainable, model_inputs(model, batch), training=True
        )
        return sums(outputs, batch)[0]

    weights = specs(model.trainable_variables)
    with explained(_UNFIT):
        held = held_by(
            loss,
            batch_specs(setup.features, trainer.batch_size),
            weights,
            specs(model.non_trainable_variables),
        )
    return held.bytes + tree_bytes(weights)


def _one_each(found, batch: Mapping, what: str) -> None:
    size = tf.nest.flatten(batch)[0].shape[0]
    if found.shape.rank not in (1, 2) or found.shape[0] != size:
        raise ConfigurationError(
            f"{what} gives shape {tuple(found.shape)} for {size} examples: it must give one number"
            f" an example, ({size},), or one a token."
        )


def facts_of(setup: Setup, programs: Sequence[Program]) -> list[dict]:
    """A JSON-able dict for each program; checks shapes and dtypes of all of them on the way.

    What the estimator does not say is None, and "unknown" has a sentence about it.

    Keys: program, config (a fingerprint of the bindings), arguments (role -> bytes), parameters,
    estimator, unroll_length, population, batch_size, features, saved_state_bytes,
    estimated_temp_bytes, flops_by_formula.

    Raises:
      ConfigurationError: models, loss, features and settings do not fit together.
    """
    trainer = setup.trainer
    estimated = temporaries(setup, [program.name for program in programs])
    flops = _flops(setup, programs)
    config = hashlib.sha256(configuration.parsed_config().encode()).hexdigest()[:16]
    features = {n: [d.name, *shape] for n, (shape, d) in setup.features.items()}
    common = {
        "config": config,
        "parameters": {
            "inner_model": trainer.inner_model.count_params(),
            "rater": setup.rater.count_params(),
        },
        "estimator": getattr(trainer.estimator, "name", type(trainer.estimator).__name__),
        "micro_batches": trainer.micro_batches,
        "unroll_length": trainer.unroll_length,
        "population": trainer.population.size,
        "features": features,
    }
    saved = told(trainer.estimator, "saved_bytes", state_specs(setup), trainer.unroll_length)
    silent = untold(trainer.estimator, "forward_passes", "saved_bytes", "temporary_bytes")
    sizes = {"score": trainer.rows_at_once}
    if any(program.name == "train_step" for program in programs):
        sizes["train_step"] = setup.train_step.batch_size
    return [
        {
            "program": program.name,
            **common,
            "batch_size": sizes.get(program.name, trainer.inner_batch_size),
            "arguments": program.argument_bytes(),
            "saved_state_bytes": saved if program.name == "meta_step" else 0,
            "estimated_temp_bytes": estimated[program.name],
            "flops_by_formula": flops[program.name],
        }
        | ({"unknown": silent} if silent and program.name == "meta_step" else {})
        for program in programs
    ]


def _flops(setup: Setup, programs: Sequence[Program]) -> Mapping[str, int | None]:
    """Program -> operations of its matrix products; None where they cannot be counted.

    By the formulas of `dr_keras.training.flops`; what recomputed blocks and chunks run again is
    left out.
    """
    trainer = setup.trainer
    try:
        inner = forward_flops(setup.zeros.model(setup.inner_model), setup.features)
        rater = forward_flops(setup.rater, setup.features)
    except ConfigurationError:
        return {program.name: None for program in programs}
    batch = trainer.inner_batch_size
    passes = told(trainer.estimator, "forward_passes", trainer.unroll_length)
    found = {
        "score": rater * trainer.rows_at_once,
        "advance": (3 * inner + rater) * batch,
        "meta_step": None,
    }
    if passes is not None:
        size = MetaTrainingSize.of(trainer, 1, advances=False)
        found["meta_step"] = meta_training_flops(inner, rater, passes, size)["total"]
    if any(program.name == "train_step" for program in programs):
        same = setup.train_step.model_fn.args[0] is setup.inner_model
        own = inner if same else forward_flops(setup.train_step.model, setup.features)
        found["train_step"] = 3 * own * setup.train_step.batch_size
    return found
