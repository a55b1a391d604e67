"""What is printed and written of a configuration's programs: facts, advice, tables, JSON lines."""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import json
from pathlib import Path

from dr_keras.errors import DataError
from dr_keras.meta.estimators import NestedTape, untold
from dr_keras.meta.estimators.unroll import LoopedUnroll
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.precompile.programs import rater_specs, state_specs
from dr_keras.precompile.setup import Setup
from dr_keras.precompile.tpu import Compiled, Topology
from dr_keras.system import whole_files

GIB = 2**30


def gib(count: float | None) -> str:
    """Bytes as text: GiB, or MiB below a tenth of one; "-" for None."""
    if count is None:
        return "-"
    return f"{count / GIB:.2f} GiB" if count >= GIB / 10 else f"{count / 2**20:.1f} MiB"


def members_per_chip(population: int, chips: int) -> int:
    """Members whose state a chip holds: at least one, also where chips share members."""
    return max(1, -(-population // chips))


def resident_bytes(arguments: Mapping[str, int], members: int) -> int:
    """State of further members on a chip: it lies in its memory while one member's step runs."""
    one = arguments.get("member", 0) + arguments.get("outer_adam", 0)
    return one * (members - 1)


def all_reduced_bytes(parameters: int, population: int, length: int, batch: int) -> int:
    """Payload of the meta-step's one sum over replicas in float32; see docs/distributed.md."""
    return 4 * parameters + 4 + population * (4 * (6 + length * batch) + 8)


def line_of(facts: Mapping, topology: Topology, compiled: Compiled) -> dict:
    """One program's facts, with what the compiler said of it, as a JSON-able dict."""
    line = {**facts, "topology": topology.name, "chips": topology.chips, "chip": topology.kind}
    line |= dataclasses.asdict(compiled) | {"peak_bytes": compiled.peak_bytes}
    members = members_per_chip(facts.get("population", 1), topology.chips)
    others = resident_bytes(facts["arguments"], members) if "member" in facts["arguments"] else 0
    line |= {"members_per_chip": members, "other_members_bytes": others}
    usable = compiled.has_bytes or topology.usable_bytes
    line["usable_bytes"] = usable
    if compiled.fits and usable and compiled.peak_bytes + others > usable:
        line["fits"] = False
        line["reason"] = (
            f"needs {(compiled.peak_bytes + others) / GIB:.2f} GiB of {usable / GIB:.2f} GiB with"
            f" the states of {members - 1} more members"
        )
    return line


def compiled_line(
    line: Mapping,
    read: Callable[[], bytes],
    topology: Topology,
    known: Iterable[dict],
    path: Path | None,
) -> dict:
    """The line of one program and topology: a known one, or compiled now and added to the file.

    Args:
      line: the program's facts.
      read: gives its serialised HloModuleProto.
      topology: to compile for.
      known: lines of earlier calls.
      path: of the file; None adds to none.
    """
    identity = {key: line[key] for key in ("program", "config", "features")}
    identity["topology"] = topology.name
    for other in known:
        if other.items() >= identity.items():
            return other
    new = line_of(line, topology, topology.compile(read()))
    if path:
        append_line(path, new)
    return new


def advice(setup: Setup, line: Mapping) -> list[str]:
    """What to change where a program does not fit, the mildest change first."""
    name, trainer = line["program"], setup.trainer
    options = _model_options(setup)
    found = []
    if name == "train_step":
        found.append("LanguageModelTrainer.batch_size: smaller")
    elif name == "score":
        found.append(
            "score fewer rows at once: more micro_batches, a smaller MetaTrainer.inner_batch_size"
        )
    else:
        estimator, micro, label = trainer.estimator, 1, "MixedMode.micro_batches"
        kind = type(estimator).__name__
        if isinstance(estimator, LoopedUnroll):
            micro, label = estimator.micro_batches, f"{kind}.micro_batches"
            if trainer.unroll_length > 8 and estimator.checkpoint_every is None:
                found.append(f"{kind}.checkpoint_every = 'sqrt': fewer saved states")
        elif isinstance(estimator, NestedTape):
            found.append(
                "MetaTrainer.estimator = @MixedMode(): one update at a time instead of all"
                f" {trainer.unroll_length}"
            )
        else:
            silent = untold(estimator, "micro_batches", "temporary_bytes")
            found += [f"what {kind} holds is {silent}"] if silent else []
            found.append("MetaTrainer.estimator = @MixedMode(): one update at a time")
        if micro < trainer.inner_batch_size:
            found.append(f"{label} = {min(2 * micro, trainer.inner_batch_size)} or more")
    if options.get("recompute_blocks") is False:
        found.append("language_model.recompute_blocks = True")
    if options.get("chunked_logits") is False:
        found.append("language_model.chunked_logits = True")
    if name != "train_step" and options.get("rater_recompute_blocks") is False:
        found.append("text_rater.recompute_blocks = True")
    if name in ("meta_step", "advance"):
        found.append("MetaTrainer.inner_batch_size, outer_batch_size: smaller")
        if trainer.unroll_length > 1 and name == "meta_step":
            found.append(
                f"MetaTrainer.unroll_length: below {trainer.unroll_length}, for fewer saved states"
            )
        if line.get("members_per_chip", 1) > 1:
            found.append(
                f"more chips: each carries {line['members_per_chip']} members of"
                f" {trainer.population.size}"
            )
    found.append("SEQUENCE_LENGTH or the model: smaller; or a chip with more memory")
    return found


def _model_options(setup: Setup) -> dict:
    """Which memory-saving options the models have: read off their layers and outputs."""
    model, rater, found = setup.trainer.inner_model, setup.rater, {}

    def recomputes(model):
        return any(layer.name == "blocks" for layer in model.layers)

    if model.name == "language_model":
        found["recompute_blocks"] = recomputes(model)
        found["chunked_logits"] = isinstance(model.output, dict)
    if rater.name == "text_rater":
        found["rater_recompute_blocks"] = recomputes(rater)
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Text in columns; the first is to the left, the others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = []
    for row in cells:
        first, *others = (cell.ljust(w) if i == 0 else cell.rjust(w)
                          for i, (cell, w) in enumerate(zip(row, widths)))  # fmt: skip
        lines.append("  ".join([first, *others]).rstrip())
    return "\n".join(lines)


def check_table(lines: Sequence[Mapping]) -> str:
    """Programs with what is known without a compiler."""
    header = ("program", "arguments", "temporaries (est.)", "together (est.)", "TFLOP")
    rows = []
    for line in lines:
        entering, temporary = sum(line["arguments"].values()), line["estimated_temp_bytes"]
        together = None if temporary is None else temporary + entering
        figures = (gib(entering), gib(temporary), gib(together), _tera(line["flops_by_formula"]))
        rows.append((line["program"], *figures))
    notes = [f"{line['program']}: {line['unknown']}" for line in lines if line.get("unknown")]
    return "\n".join([table(header, rows), *notes])


def compiled_table(lines: Sequence[Mapping]) -> str:
    """Programs with what the compiler said, per chip."""
    rows = []
    for line in lines:
        rows.append((
            line["program"],
            line["topology"],
            gib(line["argument_bytes"]),
            gib(line["temp_bytes"]),
            gib(line["estimated_temp_bytes"]),
            gib(line["peak_bytes"]),
            gib(line["other_members_bytes"]),
            gib(line["usable_bytes"]),
            "yes" if line["fits"] else "no",
            _tera(line["flops_by_formula"]),
        ))  # fmt: skip
    header = (
        "program", "topology", "arguments", "temporaries", "(est.)", "peak", "other members",
        "usable", "fits", "TFLOP",
    )  # fmt: skip
    return table(header, rows)


def _tera(flops: float | None) -> str:
    return "-" if flops is None else f"{flops / 1e12:.3g}"


def read_lines(path: Path) -> list[dict]:
    """Lines that earlier calls have written; an unfinished last line does not count.

    Raises:
      DataError: a line in the middle is no JSON.
    """
    if not path.exists():
        return []
    lines, found = path.read_text(encoding="utf-8").splitlines(keepends=True), []
    for number, text in enumerate(lines, 1):
        try:
            found.append(json.loads(text))
        except ValueError as error:
            if number == len(lines) and not text.endswith("\n"):
                break
            raise DataError(
                f"{path} line {number} is no JSON ({error}): name another file, or remove the line."
            ) from error
    return found


def append_line(path: Path, line: Mapping) -> None:
    """Adds one line; an unfinished one before it is cut off."""
    if path.exists():
        text = path.read_bytes()
        whole = text[: text.rfind(b"\n") + 1]
        if whole != text:
            path.write_bytes(whole)
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_files.writing(path), path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def configuration_text(setup: Setup, facts: Mapping) -> str:
    """What models, states and what is summed over replicas come to; `facts` of any program."""
    parameters, population = facts["parameters"], facts["population"]
    trainer, state = setup.trainer, state_bytes(setup)
    total = population * (state["member"] + state["outer_adam"])
    payload = all_reduced_bytes(
        parameters["rater"], population, facts["unroll_length"], trainer.inner_batch_size
    )
    return (
        f"inner model: {parameters['inner_model']:,} parameters; state of a member"
        f" {gib(state['member'])}\n"
        f"rater: {parameters['rater']:,} parameters; {gib(state['rater'])}, and"
        f" {gib(state['outer_adam'])} of slots for each member\n"
        f"population {population}, T = {facts['unroll_length']}, {facts['estimator']}, inner batch"
        f" {trainer.inner_batch_size}, outer batch {trainer.outer_batch_size}\n"
        f"all members together: {gib(total)}\n"
        f"all-reduced a meta-step, where members are on several chips: {gib(payload)}\n"
    )


def state_bytes(setup: Setup) -> dict[str, int]:
    """Bytes of one member's state, of the rater, and of a member's slots for the rater."""
    trainable, others = map(tree_bytes, rater_specs(setup))
    return {
        "member": tree_bytes(state_specs(setup)),
        "rater": trainable + others,
        "outer_adam": 2 * trainable + 4,
    }


def keep(folder: str, line: Mapping, hlo: bytes) -> None:
    """Writes `<folder>/<program>.hlo`, and its facts as `<program>.json`, for `read_kept`."""
    base = Path(folder) / line["program"]
    whole_files.write_bytes(base.with_suffix(".hlo"), hlo)
    whole_files.write_text(base.with_suffix(".json"), json.dumps(line, indent=1) + "\n")


def read_kept(folder: str) -> list[tuple[dict, Path]]:
    """(facts, path of the program) of everything that `keep` wrote.

    Raises:
      DataError: the folder holds no program, or one without its facts.
    """
    paths = sorted(Path(folder).glob("*.hlo"))
    if not paths:
        raise DataError(f"{folder} holds no *.hlo file: make them with --save_hlo {folder}.")
    found = []
    for path in paths:
        try:
            line = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} has no readable {path.stem}.json beside it ({error}): make both with"
                f" --save_hlo {folder}."
            ) from error
        found.append((line, path))
    return found
