"""Programs of a configuration in a folder, for machines that have JAX and no TensorFlow.

<folder>/manifest.json                    what follows, and everything a driver must know
<folder>/<program>.<precision>.hlo.gz     serialised HloModuleProto
<folder>/values.npz                       initial values, unless a driver draws them
<folder>/windows.npz                      batches, unless a driver draws them

The manifest (JSON) has

    format          1
    device          "cpu", "cuda" or "tpu": what the programs were made for
    precisions      names of `PRECISIONS`, the first the most exact
    settings        T, population, batch sizes, lifetime, sizes of models, features
    meta_steps      for which there are batches and beginnings
    programs        name -> {"files": {precision: name}, "arguments": [[name, shape, dtype], ...],
                    "results": [...], "flops": of its matrix products by formula,
                    "estimated_temp_bytes": {precision: bytes}}
    initial         name of an argument -> {"constant": c}, {"file": true} (of values.npz), or
                    {"mean": m, "deviation": s} where a driver draws it from a normal distribution
    beginnings      [[meta-step, member, generation], ...]: members that start then
    windows         {"file": "windows.npz"} or {"drawn": vocabulary}
    keys            [meta_steps, P, 2], for estimators that draw

A result that has the name of an argument takes its place, and lies where that lay: the argument's
memory is given up. Names are those of `dr_keras.precompile.programs.Leaf`. values.npz has
"rater/..." and "model/..." as named, and "<member>.<generation>/member/...". windows.npz has
"inner/<feature>" [meta_steps, P, U, B, ...], "outer/<set>/<feature>" [meta_steps, P, B_outer, ...],
"train_step/<feature>" [meta_steps, B_train, ...] and "score/<feature>" [N, ...].
"""

from collections.abc import Mapping, Sequence
import contextlib
import dataclasses
import gzip
import json
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow.compiler.xla.service import hlo_pb2

from dr_keras.data.examples import Parts
from dr_keras.data.streams import BatchStream, rows_of
from dr_keras.errors import ConfigurationError
from dr_keras.meta.member_batches import MemberBatches
from dr_keras.meta.population import initial_values
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.precompile import estimates, programs
from dr_keras.precompile.setup import Setup
from dr_keras.system import whole_files

FORMAT = 1
# Device -> precisions that it has. "float32" multiplies in float32, whatever that costs; "tf32"
# lets tensor cores read float32 as 19 bits; "bfloat16" is Keras' policy "mixed_bfloat16".
PRECISIONS = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "tf32", "bfloat16"),
    "tpu": ("float32", "bfloat16"),
}
_SCORED = 256
# Element types' operand precision in XLA's PrecisionConfig.
_HIGHEST = 2
_PRODUCTS = ("dot", "convolution")


@contextlib.contextmanager
def computing_in(precision: str):
    """Within it, Keras models are built for this precision."""
    before = keras.config.dtype_policy()
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def for_driver(lowered: programs.Lowered, precision: str) -> bytes:
    """The program, serialised: the same bytes from whichever process made it.

    Its precision is written into every product, and results that take the place of arguments lie
    where these lie.
    """
    module = hlo_pb2.HloModuleProto.FromString(lowered.hlo)
    for computation in module.computations:  # TensorFlow's names tell one process from another
        if computation.name == module.entry_computation_name:
            computation.name = lowered.name
    module.name, module.entry_computation_name, module.id = lowered.name, lowered.name, 0
    if precision == "float32":
        for computation in module.computations:
            for instruction in computation.instructions:
                if instruction.opcode in _PRODUCTS:
                    operands = len(instruction.operand_ids)
                    instruction.precision_config.operand_precision[:] = [_HIGHEST] * operands
    places = {leaf.name: number for number, leaf in enumerate(lowered.arguments)}
    known = {entry.parameter_number for entry in module.input_output_alias.entries}  # variables
    for number, leaf in enumerate(lowered.results):
        if leaf.name in places and places[leaf.name] not in known:
            entry = module.input_output_alias.entries.add()
            if len(lowered.results) > 1:
                entry.output_shape_index.append(number)
            entry.parameter_number = places[leaf.name]
            entry.kind = hlo_pb2.MAY_ALIAS
    return module.SerializeToString(deterministic=True)  # maps have no order of their own


@dataclasses.dataclass(frozen=True)
class Contents:
    """What of a configuration goes into the folder.

    Attributes:
      device: of `PRECISIONS`.
      precisions: of that device.
      meta_steps: for which batches are kept.
      parts: the data, or None: a driver draws token windows.
      exact: keep the initial values, instead of their mean and deviation.
    """

    device: str
    precisions: Sequence[str]
    meta_steps: int
    parts: Parts | None
    exact: bool

    def __post_init__(self):
        if self.device not in PRECISIONS:
            raise ConfigurationError(
                f"There is no device {self.device!r}: choose of {', '.join(PRECISIONS)}."
            )
        for precision in self.precisions:
            if precision not in PRECISIONS[self.device]:
                raise ConfigurationError(
                    f"There is no precision {precision!r} on {self.device}: choose of"
                    f" {', '.join(PRECISIONS[self.device])}."
                )


def save(
    folder: str | Path, setups: Mapping[str, Setup], names: Sequence[str], contents: Contents
) -> dict:
    """Writes a folder that `tools/run_programs.py` runs.

    Args:
      folder: made if missing; what was there under these names is replaced.
      setups: precision -> the configuration built `computing_in` it.
      names: of `PROGRAMS`; those around a meta-step go with it.
      contents: the rest.

    Returns:
      The manifest.

    Raises:
      ConfigurationError: a program cannot be lowered, members have start ages, or windows to be
        drawn have no vocabulary.
      DataError: too few examples for a batch.
    """
    folder = Path(folder)
    setup = setups[contents.precisions[0]]
    if setup.trainer.population.start_age is not None:
        raise ConfigurationError(
            "Members with start_ages make updates that are no part of a meta-step, and are not"
            " saved: set MetaTrainer.start_ages = 0."
        )
    around = programs.AROUND if "meta_step" in names else ()
    described: dict[str, dict] = {}
    for precision in contents.precisions:
        with computing_in(precision):  # the training step's model is built when it is asked for
            made = programs.build(setups[precision], [*names, *around])
            asked = [program for program in made if program.name in names]
            lines = estimates.facts_of(setups[precision], asked)
        facts = {line["program"]: line for line in lines}
        for program in made:
            lowered = programs.lower(program)
            line = facts.get(program.name, {})
            found = described.setdefault(program.name, _described(lowered, line))
            found["files"][precision] = _write(folder, program.name, lowered, precision)
            found["estimated_temp_bytes"][precision] = line.get("estimated_temp_bytes")
    initial, values = _initial(setup, described, contents)
    windows, rows = _windows(setup, described, contents)
    manifest = {
        "format": FORMAT,
        "device": contents.device,
        "precisions": list(contents.precisions),
        "tensorflow": tf.__version__,
        "settings": _settings(setup, lines[0]),
        "meta_steps": contents.meta_steps,
        "programs": described,
        "initial": initial,
        "beginnings": _beginnings(setup, contents.meta_steps),
        "windows": windows,
        "keys": _keys(setup, contents.meta_steps),
    }
    for name, arrays in (("values.npz", values), ("windows.npz", rows)):
        if arrays:
            whole_files.write_arrays(folder / name, arrays)
    whole_files.write_text(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    return manifest


def save_program(folder: Path, name: str, program: programs.Program, precision: str) -> dict:
    """Writes one program of variables that are real; its entry of the manifest's "programs"."""
    lowered = programs.lower(program)
    found = _described(lowered, {})
    found["files"][precision] = _write(folder, name, lowered, precision)
    found["estimated_temp_bytes"][precision] = None
    return found


def _write(folder: Path, name: str, lowered: programs.Lowered, precision: str) -> str:
    file = f"{name}.{precision}.hlo.gz"
    packed = gzip.compress(for_driver(lowered, precision), 6, mtime=0)
    whole_files.write_bytes(folder / file, packed)
    return file


def _described(lowered: programs.Lowered, line: Mapping) -> dict:
    return {
        "files": {},
        "arguments": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in lowered.arguments],
        "results": [[leaf.name, list(leaf.shape), leaf.dtype] for leaf in lowered.results],
        "flops": line.get("flops_by_formula"),
        "estimated_temp_bytes": {},
    }


def _settings(setup: Setup, line: Mapping) -> dict:
    trainer = setup.trainer
    kept = ("config", "parameters", "estimator", "micro_batches", "unroll_length", "population")
    return {key: line[key] for key in (*kept, "features")} | {
        "updates_per_step": trainer.updates_per_step,
        "inner_batch_size": trainer.inner_batch_size,
        "outer_batch_size": trainer.outer_batch_size,
        "seed": trainer.seed,
    }


def _beginnings(setup: Setup, meta_steps: int) -> list[list[int]]:
    """[meta-step, member, generation] of all members that start before or within these steps."""
    population, found = setup.trainer.population, []
    for member in range(population.size):
        ends = [step for step in range(meta_steps) if population.lifetime_ends(member, step)]
        found += [[step, member, number] for number, step in enumerate([0, *ends])]
    return sorted(found)


def _keys(setup: Setup, meta_steps: int) -> list:
    """[meta_steps, P, 2], as the trainer hands them to estimators that draw."""
    seed, members = setup.trainer.seed, range(setup.trainer.population.size)
    return [
        [[derive_seed(seed, "key", m, step), step] for m in members] for step in range(meta_steps)
    ]


def _initial(setup: Setup, described: Mapping, contents: Contents) -> tuple[dict, dict]:
    """(the manifest's "initial", arrays of values.npz)."""
    trainer = setup.trainer
    values: dict[str, np.ndarray] = {}

    def keep(tree, role: str, prefix: str = "") -> None:
        leaves = programs.named(tree, role)
        for leaf, value in zip(leaves, tf.nest.flatten(tree), strict=True):
            values[prefix + leaf.name] = np.asarray(value)

    if "train_step" in described:
        model = setup.train_step.model_fn.args[0]
        trainable, others = initial_values(model, derive_seed(0, "language model"))
        keep(_in_order(setup.train_step.model, trainable, others), "model")
        keep([np.ones([], np.float32)] * len(setup.train_step._schedules), "schedule")
    rater = setup.build_rater()
    eta = [v.value for v in rater.trainable_variables]
    keep({"eta": eta, "constants": _constants(setup, rater)}, "rater")
    beginnings = dataclasses.replace(
        trainer.population._beginnings, constructor=setup.inner_model, eta=eta
    )
    begun = _beginnings(setup, contents.meta_steps) if "meta_step" in described else []
    if "advance" in described and not begun:
        begun = [[0, 0, 0]]
    if not contents.exact:
        begun = begun[:1]
    for _, member, generation in begun:
        keep(beginnings.state(member, generation), "member", f"{member}.{generation}/")
    initial, kept = {}, {}
    for name, value in values.items():
        plain = name[name.index("member/") :] if "member/" in name else name
        how = _how(value, contents.exact)
        known = initial.setdefault(plain, how)
        if contents.exact and known != how:  # constant in one member alone
            initial[plain] = {"file": True}
    for name, value in values.items():
        plain = name[name.index("member/") :] if "member/" in name else name
        if "file" in initial[plain]:
            kept[name] = value
    return initial, kept


def _constants(setup: Setup, rater: keras.Model) -> dict[str, list]:
    """What no update changes, as the trainer would have it."""
    problem, found = setup.trainer.problem, {}
    found["rater"] = [v.value for v in rater.non_trainable_variables]
    frozen = problem.kept_variables()
    if frozen["frozen"]:
        with seeded(derive_seed(setup.trainer.seed, "structure")):
            model = setup.inner_model()
        frozen["frozen"] = problem.parts.frozen([v.value for v in model.non_trainable_variables])
    return found | frozen


def _how(value: np.ndarray, exact: bool) -> dict:
    if value.size and (value == value.flat[0]).all():
        return {"constant": value.flat[0].item()}
    if exact or not np.issubdtype(value.dtype, np.floating):
        return {"file": True}
    return {"mean": float(value.mean()), "deviation": float(value.std())}


def _in_order(model: keras.Model, trainable: list, others: list) -> list:
    """Values of trainable and other variables in the order of `model.variables`."""
    both = [*model.trainable_variables, *model.non_trainable_variables]
    known = {id(v): value for v, value in zip(both, [*trainable, *others], strict=True)}
    return [known[id(v)] for v in model.variables]


def _windows(setup: Setup, described: Mapping, contents: Contents) -> tuple[dict, dict]:
    """(the manifest's "windows", arrays of windows.npz)."""
    if contents.parts is None:
        return {"drawn": _vocabulary(setup)}, {}
    trainer, parts, arrays = setup.trainer, contents.parts, {}
    steps = range(contents.meta_steps)
    if "meta_step" in described:
        batches = MemberBatches(
            trainer.placement,
            trainer.population.size,
            trainer.seed,
            trainer.updates_per_step,
            parts.train,
            parts.outer_sets,
            trainer.inner_batch_size,
            trainer.outer_batch_size,
        )
        found = [batches.placed(batches.read(step))[:2] for step in steps]
        for name in found[0][0]:
            arrays[f"inner/{name}"] = np.stack([inner[name] for inner, _ in found])
        for held_out, features in found[0][1].items():
            for name in features:
                stacked = np.stack([outer[held_out][name] for _, outer in found])
                arrays[f"outer/{held_out}/{name}"] = stacked
    if "train_step" in described:
        stream = BatchStream(parts.train, setup.train_step.batch_size, 0)
        rows = rows_of(stream, contents.meta_steps)
        for name, values in parts.train.features.items():
            arrays[f"train_step/{name}"] = values[rows]
    for name, values in parts.validation.features.items():
        arrays[f"score/{name}"] = values[:_SCORED]
    return {"file": "windows.npz"}, arrays


def _vocabulary(setup: Setup) -> int:
    sizes = [getattr(layer, "input_dim", None) for layer in setup.trainer.inner_model.layers]
    found = [size for size in sizes if size]
    if not found:
        raise ConfigurationError(
            f"The inner model '{setup.trainer.inner_model.name}' has no embedding that says how"
            " many tokens there are: save its data, without --draw_windows."
        )
    return int(found[0])
