"""The programs that a configuration compiles, as functions of explicit arguments, and their HLO.

| program | compiled by | arguments |
|---|---|---|
| meta_step | MetaTrainer, for each member | rater, a member's state and outer slots, batches |
| advance | MetaTrainer, with advance_updates | rater, a member's state, a batch |
| score | Scorer | rater, a batch |
| train_step | RepeatedTrainer, by Keras | a model with its optimizer, a batch |
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from dr_keras.errors import ConfigurationError
from dr_keras.meta.problem import InnerState
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.meta.scoring import Scorer
from dr_keras.precompile.setup import Setup, batch_specs, explained, spec, specs

PROGRAMS = ("meta_step", "advance", "score", "train_step")
_COUNT = tf.TensorSpec((), tf.int32)


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled function of a run.

    Attributes:
      name: of `PROGRAMS`.
      function: trees of tensors, in the order of `arguments`, to any outputs.
      arguments: role -> tree of `tf.TensorSpec`.
      held: role -> tree of variables that the function reads and assigns; the compiler sees them
        as further arguments.
    """

    name: str
    function: Callable
    arguments: Mapping[str, Any]
    held: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def argument_bytes(self) -> dict[str, int]:
        """Role -> bytes of what enters the program, without the padding of any layout."""
        return {role: tree_bytes(t) for role, t in (self.arguments | self.held).items()}


def state_specs(setup: Setup) -> InnerState:
    """One member's state as specs."""
    trainer = setup.trainer
    theta = specs(trainer.inner_model.trainable_variables)
    others = specs(trainer.inner_model.non_trainable_variables)
    slots = _slot_specs(trainer.inner_optimizer, theta)
    return InnerState(theta, trainer.problem.parts.statistics(others), slots, _COUNT)


def _slot_specs(optimizer, parameters: list) -> Any:
    """Slots that `optimizer.init` makes, without making them."""
    traced = tf.function(optimizer.init, autograph=False).get_concrete_function(parameters)
    return tf.nest.map_structure(spec, traced.structured_outputs)


def rater_specs(setup: Setup) -> tuple[list, dict]:
    """Values of the rater that are trained, and all that no update changes, as specs."""
    rater = setup.rater
    kept = tf.nest.map_structure(spec, setup.trainer.problem.kept_variables())
    constants = {"rater": specs(rater.non_trainable_variables), **kept}
    return specs(rater.trainable_variables), constants


def build(setup: Setup, names: Sequence[str] = PROGRAMS) -> list[Program]:
    """The programs of that configuration, in the order of `PROGRAMS`.

    Raises:
      ConfigurationError: no such program.
    """
    unknown = sorted(set(names) - set(PROGRAMS))
    if unknown:
        raise ConfigurationError(
            f"There is no program {unknown[0]!r}: choose of {', '.join(PROGRAMS)}."
        )
    makers = dict(zip(PROGRAMS, (_meta_step, _advance, _score, _train_step), strict=True))
    made = [makers[name](setup) for name in PROGRAMS if name in names]
    return [program for program in made if program is not None]


def _meta_step(setup: Setup) -> Program:
    trainer = setup.trainer
    eta, constants = rater_specs(setup)

    def function(rater, state, outer, batches, key):
        inner, held_out = batches
        return trainer._member_step(
            *rater, InnerState(*state), *outer, inner, {"outer": held_out}, key
        )

    return Program(
        "meta_step",
        function,
        {
            "rater": (eta, constants),
            "member": tuple(state_specs(setup)),
            "outer_adam": (
                _slot_specs(trainer.outer_optimizer, eta), _COUNT
            ),
            "batches": (
                batch_specs(setup.features, trainer.unroll_length, trainer.inner_batch_size),
                batch_specs(setup.features, trainer.outer_batch_size),
            ),
            "key": tf.TensorSpec([2], tf.int32),
        },
    )  # fmt: skip


def _advance(setup: Setup) -> Program | None:
    trainer = setup.trainer
    if trainer.updates_per_step == trainer.unroll_length:
        return None

    def function(rater, state, batch):
        return trainer._advance(*rater, InnerState(*state), batch)

    return Program(
        "advance",
        function,
        {
            "rater": rater_specs(setup),
            "member": tuple(state_specs(setup)),
            "batches": batch_specs(setup.features, trainer.inner_batch_size),
        },
    )


def _score(setup: Setup) -> Program:
    scorer = Scorer(setup.rater, setup.trainer.rows_at_once)
    batch = batch_specs(setup.features, setup.trainer.rows_at_once)
    return Program(
        "score", scorer._score, {"batches": batch}, {"rater": list(setup.rater.variables)}
    )


def _train_step(setup: Setup) -> Program:
    trainer = setup.train_step
    wrapped = trainer._wrapped
    batch = batch_specs(setup.features, trainer.batch_size)
    return Program(
        "train_step",
        wrapped.train_step,
        {"batches": batch},
        {
            "model": list(trainer.model.variables),
            "optimizer": list(wrapped.optimizer.variables),
            "schedule": [schedule.pace for schedule in trainer._schedules],
            "metrics": list(wrapped.mean_loss.variables),
        },
    )


def _without_copies(hlo: bytes) -> bytes:
    """Copies of variables' new values as reshapes to their own shape.

    The TPU's compiler has no form for such copies where it takes programs in, and needs none: it
    adds its own.
    """
    module = hlo_pb2.HloModuleProto.FromString(hlo)
    copies = [i for c in module.computations for i in c.instructions if i.opcode == "copy"]
    for instruction in copies:
        instruction.opcode = "reshape"
    return module.SerializeToString() if copies else hlo


def _platform() -> str | None:
    """What TensorFlow lowers for: None is its first device, whose compiler tensorflow-tpu lacks."""
    return "TPU" if tf.config.list_physical_devices("TPU_SYSTEM") else None


def lower(program: Program) -> bytes:
    """The program as a serialised HloModuleProto, as TensorFlow hands it to the compiler.

    Raises:
      ConfigurationError: the loss reads a feature that the batch does not have, or TensorFlow has
        no lowering for something in it.
    """
    trees = list(program.arguments.values())

    def run(*leaves):
        return program.function(*tf.nest.pack_sequence_as(trees, list(leaves)))

    compiled = tf.function(run, jit_compile=True, autograph=False)
    with explained(f"TensorFlow cannot lower {program.name}"):
        generate = compiled.experimental_get_compiler_ir(*tf.nest.flatten(trees))
        return _without_copies(generate(stage="hlo_serialized", platform_name=_platform()))
