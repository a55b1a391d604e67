"""The programs that a configuration compiles, as functions of explicit arguments, and their HLO.

| program | compiled by | arguments |
|---|---|---|
| meta_step | MetaTrainer, for each member | rater, a member's state and outer slots, batches |
| advance | MetaTrainer, with advance_updates | rater, a member's state, a batch |
| score | Scorer | rater, a batch |
| train_step | RepeatedTrainer, by Keras | a model with its optimizer, a batch |

Two more are made of what `MetaTrainer` runs around a meta-step, so that a driver without TensorFlow
can do it: `collect` adds a member's direction to those of the others, `rater_update` moves the
rater by their mean.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.problem import InnerState
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.meta.scoring import Scorer
from dr_keras.precompile.setup import Features, Setup, batch_specs, explained, spec, specs
from dr_keras.training.trainers import RepeatedTrainer

PROGRAMS = ("meta_step", "advance", "score", "train_step")
AROUND = ("collect", "rater_update")
_COUNT = tf.TensorSpec((), tf.int32)


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled function of a run.

    Attributes:
      name: of `PROGRAMS`.
      function: trees of tensors, in the order of `arguments`, to any outputs.
      arguments: role -> tree of `tf.TensorSpec`.
      held: role -> tree of variables that the function reads and assigns; the compiler sees them
        as further arguments, and new values of those assigned as further results.
      results: roles of what `function` returns, one for each part of it; the role of an argument
        where it takes that argument's place.
    """

    name: str
    function: Callable
    arguments: Mapping[str, Any]
    held: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    results: Sequence[str] = ()

    def argument_bytes(self) -> dict[str, int]:
        """Role -> bytes of what enters the program, without the padding of any layout."""
        return {role: tree_bytes(t) for role, t in (self.arguments | self.held).items()}


def state_specs(setup: Setup) -> InnerState:
    """One member's state as specs."""
    trainer = setup.trainer
    theta = specs(trainer.inner_model.trainable_variables)
    others = specs(trainer.inner_model.non_trainable_variables)
    slots = _made(trainer.inner_optimizer.init, theta)
    state = InnerState(theta, trainer.problem.parts.statistics(others), slots, _COUNT)
    if trainer.population._beginnings.learning_rate is not None:
        state = state._replace(hyper={"learning_rate": tf.TensorSpec((), tf.float32)})
    remember = getattr(trainer.estimator, "init", None)
    if remember is None:
        return state
    return state._replace(memory=_made(remember, state, rater_specs(setup)[0]))


def _made(function: Callable, *arguments) -> Any:
    """What a function makes of tensors of these specs, as specs."""
    traced = tf.function(function, autograph=False).get_concrete_function(*arguments)
    return tf.nest.map_structure(spec, traced.structured_outputs)


def rater_specs(setup: Setup) -> tuple[list, dict]:
    """Values of the rater that are trained, and all that no update changes, as specs."""
    rater = setup.rater
    kept = tf.nest.map_structure(spec, setup.trainer.problem.kept_variables())
    constants = {"rater": specs(rater.non_trainable_variables), **kept}
    return specs(rater.trainable_variables), constants


def build(setup: Setup, names: Sequence[str] = PROGRAMS) -> list[Program]:
    """The programs of that configuration, in the order of `PROGRAMS` and `AROUND`.

    Raises:
      ConfigurationError: no such program.
    """
    makers = {
        "meta_step": _meta_step,
        "advance": _advance,
        "score": _score,
        "train_step": _train_step,
        "collect": _collect,
        "rater_update": _rater_update,
    }
    unknown = sorted(set(names) - set(makers))
    if unknown:
        raise ConfigurationError(
            f"There is no program {unknown[0]!r}: choose of {', '.join(PROGRAMS)}."
        )
    made = [make(setup) for name, make in makers.items() if name in names]
    return [program for program in made if program is not None]


def _rater(setup: Setup) -> dict:
    eta, constants = rater_specs(setup)
    return {"eta": eta, "constants": constants}


def _meta_step(setup: Setup) -> Program:
    trainer = setup.trainer
    eta, _ = rater_specs(setup)

    def function(rater, state, outer, batches, key):
        return trainer._member_step(
            rater["eta"],
            rater["constants"],
            state,
            outer["slots"],
            outer["count"],
            batches["inner"],
            batches["held_out"],
            key,
        )

    return Program(
        "meta_step",
        function,
        {
            "rater": _rater(setup),
            "member": state_specs(setup),
            "outer_adam": {"slots": _made(trainer.outer_optimizer.init, eta), "count": _COUNT},
            "batches": {
                "inner": batch_specs(
                    setup.features, trainer.unroll_length, trainer.inner_batch_size
                ),
                "held_out": {
                    name: batch_specs(features, trainer.outer_batch_size)
                    for name, features in setup.held_out.items()
                },
            },
            "key": tf.TensorSpec([2], tf.int32),
        },
        results=("direction", "member", "outer_adam/slots", "report"),
    )


def _advance(setup: Setup) -> Program | None:
    trainer = setup.trainer
    if trainer.updates_per_step == trainer.unroll_length:
        return None

    def function(rater, state, batch):
        return trainer._advance(rater["eta"], rater["constants"], state, batch)

    return Program(
        "advance",
        function,
        {
            "rater": _rater(setup),
            "member": state_specs(setup),
            "batches": batch_specs(setup.features, trainer.inner_batch_size),
        },
        results=("member", "advanced/finite"),
    )


def _score(setup: Setup) -> Program:
    scorer = Scorer(setup.rater, setup.trainer.rows_at_once)
    batch = batch_specs(setup.features, setup.trainer.rows_at_once)
    rater = setup.rater
    constants = {"rater": rater.non_trainable_variables}
    held = {"eta": rater.trainable_variables, "constants": constants}
    return Program("score", scorer._score, {"batches": batch}, {"rater": held}, ("scores",))


def _train_step(setup: Setup) -> Program:
    return train_step(setup.train_step, setup.features)


def train_step(trainer: RepeatedTrainer, features: Features) -> Program:
    """A trainer's step, on batches of these features."""
    wrapped = trainer._wrapped
    return Program(
        "train_step",
        wrapped.train_step,
        {"batches": batch_specs(features, trainer.batch_size)},
        {
            "model": list(trainer.model.variables),
            "optimizer": list(wrapped.optimizer.variables),
            "schedule": [schedule.pace for schedule in trainer._schedules],
            "metrics": list(wrapped.mean_loss.variables),
        },
        ("logs",),
    )


def evaluation(trainer: RepeatedTrainer, features: Features) -> Program:
    """Losses of a batch as a trainer evaluates them: sums and numbers of targets, [B] each."""
    return Program(
        "evaluation",
        trainer._loss_of_batch,
        {"batches": batch_specs(features, trainer.evaluation_batch_size)},
        {"model": list(trainer.model.variables)},
        ("sums", "counts"),
    )


def _sum(setup: Setup) -> dict:
    return {"direction": rater_specs(setup)[0], "count": _COUNT}


def _collect(setup: Setup) -> Program:
    """What `PopulationStep` does with a member's direction."""

    def function(total, direction, report, outer):
        one = tf.cast(report["finite"], tf.int32)
        summed = [a + b for a, b in zip(total["direction"], direction)]
        return {"direction": summed, "count": total["count"] + one}, outer["count"] + one

    return Program(
        "collect",
        function,
        {
            "sum": _sum(setup),
            "direction": rater_specs(setup)[0],
            "report": {"finite": tf.TensorSpec((), tf.bool)},
            "outer_adam": {"count": _COUNT},
        },
        results=("sum", "outer_adam/count"),
    )


def _rater_update(setup: Setup) -> Program:
    """What `PopulationStep` does with all directions; the sum is zero again afterwards."""
    trainer = setup.trainer

    def function(rater, total, meta_step):
        count, eta = total["count"], rater["eta"]
        some = tf.maximum(count, 1)
        mean = [leaf / tf.cast(some, leaf.dtype) for leaf in total["direction"]]
        moved = trainer.outer_optimizer.apply(eta, mean, meta_step)
        moved = [tf.where(count > 0, new, old) for new, old in zip(moved, eta)]
        return moved, pytrees.zeros_like(total), meta_step + 1

    return Program(
        "rater_update",
        function,
        {"rater": {"eta": rater_specs(setup)[0]}, "sum": _sum(setup), "meta_step": _COUNT},
        results=("rater/eta", "sum", "meta_step"),
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


@dataclasses.dataclass(frozen=True)
class Leaf:
    """One tensor that enters or leaves a program.

    Attributes:
      name: role and place, such as "member/theta/3". A result that has the name of an argument
        takes its place.
      shape: static.
      dtype: by NumPy's name.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Lowered:
    """A program as TensorFlow hands it to the compiler.

    Attributes:
      name: of the program.
      hlo: serialised HloModuleProto.
      arguments: what enters, in order.
      results: what leaves, in order.
    """

    name: str
    hlo: bytes
    arguments: list[Leaf]
    results: list[Leaf]


def named(tree: Any, name: str) -> list[Leaf]:
    """The leaves of a tree of tensors, variables or specs in the order of tf.nest."""
    if isinstance(tree, Mapping):
        parts = [(key, tree[key]) for key in sorted(tree)]
    elif hasattr(tree, "_fields"):
        parts = list(zip(tree._fields, tree))
    elif isinstance(tree, (list, tuple)):
        parts = list(enumerate(tree))
    else:
        found = spec(tree)
        return [Leaf(name, tuple(found.shape), found.dtype.name)]
    return [leaf for key, part in parts for leaf in named(part, f"{name}/{key}")]


def lower(program: Program) -> Lowered:
    """The program for XLA, and what each of its arguments and results is.

    Raises:
      ConfigurationError: the loss reads a feature that the batch does not have, or TensorFlow has
        no lowering for something in it.
    """
    trees = list(program.arguments.values())

    def run(*leaves):
        return program.function(*tf.nest.pack_sequence_as(trees, list(leaves)))

    compiled = tf.function(run, jit_compile=True, autograph=False)
    leaves = tf.nest.flatten(trees)
    with explained(f"TensorFlow cannot lower {program.name}"):
        traced = compiled.get_concrete_function(*leaves)
        generate = compiled.experimental_get_compiler_ir(*leaves)
        hlo = _without_copies(generate(stage="hlo_serialized", platform_name=_platform()))
    arguments = [leaf for role, tree in program.arguments.items() for leaf in named(tree, role)]
    outputs = traced.structured_outputs
    parts = outputs if len(program.results) > 1 else (outputs,)
    results = [
        leaf
        for role, tree in zip(program.results, parts, strict=True)
        for leaf in named(tree, role)
    ]
    # The compiler sees variables after the arguments, and what was assigned after the results.
    entering, assigned = _captured(traced, program.held)
    return Lowered(program.name, hlo, arguments + entering, results + assigned)


def _captured(traced, held: Mapping[str, Any]) -> tuple[list[Leaf], list[Leaf]]:
    """Variables that a traced function reads, and those of them that it assigns."""
    names = {}
    for role, tree in held.items():
        for leaf, variable in zip(named(tree, role), tf.nest.flatten(tree), strict=True):
            own = variable.value if isinstance(variable, keras.Variable) else variable
            names[id(own.handle)] = leaf
    leaves = [names[id(handle)] for handle in traced.captured_inputs]
    places = traced.graph.inputs[len(traced.graph.inputs) - len(leaves) :]
    found = _assigned(traced.graph, {place.name for place in places})
    return leaves, [leaf for leaf, place in zip(leaves, places) if place.name in found]


def _assigned(graph, handles: set) -> set:
    """Names of those handles of variables that something in the graph assigns."""
    found = set()
    for op in graph.get_operations():
        entering = [tensor.name for tensor in op.inputs]
        if op.type.startswith("Assign"):
            found.update(handles.intersection(entering[:1]))
        elif "PartitionedCall" in op.type:
            inner = graph._get_function(op.get_attr("f").name).graph
            inside = {i.name: name for i, name in zip(inner.inputs, entering) if name in handles}
            found.update(inside[name] for name in _assigned(inner, set(inside)))
    return found
