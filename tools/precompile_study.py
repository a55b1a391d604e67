#!/usr/bin/env python3
"""Compiles the cases of docs/precompile.md for TPUs that are not there: one JSON line each.

    tools/precompile_study.py lines.jsonl             all cases; those in the file are kept
    tools/precompile_study.py lines.jsonl --topology v5e:2x2 --model tiny 50m
    tools/precompile_study.py lines.jsonl --table     prints what the file holds, in Markdown

Each case is a call of tools/precompile.py in a process of its own, so that a compiler that aborts
or runs out of memory ends its case only; such cases are tried again by the next call. The models
are those of gin/models with the settings of gin/runs/paper.gin, on batches of 8 windows of 512
tokens: of the paper's batches of 128, what each of 16 chips would have. Everything is per chip,
with one member on it. A meta-step of the 50M models takes ten minutes of one core, larger ones more.
"""

import argparse
import dataclasses
import itertools
import json
from pathlib import Path
import subprocess
import sys

TOOL = Path(__file__).resolve().parent / "precompile.py"
TOPOLOGIES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")
MODELS = ("tiny", "shallow", "50m", "150m", "400m")
ESTIMATORS = {
    "mixed_mode": "MixedMode",
    "recompute": "Recompute",
    "first_order": "FirstOrder",
    "nested_tape": "NestedTape",
}
SHAPE = {
    "VOCABULARY_FILE": "'none'",  # not read
    "SEQUENCE_LENGTH": 512,
    "MetaTrainer.inner_batch_size": 8,
    "MetaTrainer.outer_batch_size": 8,
    "MetaTrainer.population_size": 4,
    "LanguageModelTrainer.batch_size": 8,
    "MixedMode.micro_batches": 1,
}
# The 50M model's width and vocabulary in two layers, with a rater that hardly counts: the
# estimators' own temporaries, in programs that compile in minutes.
SHALLOW = {
    "language_model.layer_count": 2,
    "text_rater.layer_count": 1,
    "text_rater.width": 64,
    "text_rater.heads": 2,
}
NEITHER = {"language_model.recompute_blocks": False, "language_model.chunked_logits": False}


@dataclasses.dataclass(frozen=True)
class Case:
    """One program of one configuration on one topology."""

    model: str
    program: str
    topology: str
    estimator: str = "mixed_mode"
    unroll_length: int = 2
    options: bool = True  # recomputed blocks and chunked logits

    def command(self, path: Path) -> list[str]:
        if self.model == "tiny":
            files, params = ["experiments/quickstart.gin"], {}
        else:
            size = "50m" if self.model == "shallow" else self.model
            files = ["experiments/paper_c4.gin", f"models/language_model_{size}.gin"]
            params = SHAPE | ({} if self.options else NEITHER)
            params |= SHALLOW if self.model == "shallow" else {}
        params = params | {
            "MetaTrainer.estimator": f"@{ESTIMATORS[self.estimator]}()",
            "MetaTrainer.unroll_length": self.unroll_length,
        }
        command = [sys.executable, str(TOOL), "--json", str(path), "--program", self.program]
        command += ["--topology", self.topology]
        for name in files:
            command += ["--gin_file", name]
        for name, value in params.items():
            command += ["--gin_param", f"{name} = {value}"]
        return command


def cases(models, topologies) -> list[Case]:
    """The most telling ones first: a table that is cut short still says something."""
    found = []
    for topology, model in itertools.product(topologies, models):
        if model == "tiny":
            programs = ("score", "train_step", "meta_step")
            found += [Case(model, program, topology, "nested_tape") for program in programs]
            continue
        found += [
            Case(model, "train_step", topology, options=False),
            Case(model, "meta_step", topology),
            Case(model, "meta_step", topology, unroll_length=4),
        ]
        for name in ("recompute", "first_order", "nested_tape"):
            found.append(Case(model, "meta_step", topology, name))
        found += [
            Case(model, "score", topology),
            Case(model, "train_step", topology),
            Case(model, "meta_step", topology, "recompute", 4),
            Case(model, "meta_step", topology, "nested_tape", 4),
        ]
    return found


def read(path: Path) -> dict[Case, dict]:
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {Case(**line.pop("case")): line for line in lines}


def run(case: Case, path: Path) -> None:
    """Adds the case's line to the file, or says what went wrong."""
    single = path.with_name(f"unfinished-{path.name}")
    single.unlink(missing_ok=True)
    done = subprocess.run(case.command(single), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    if done.returncode or not single.exists():
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        print(f"{case}: {tail[0][:300]} (status {done.returncode})", file=sys.stderr)
        return
    line = {"case": dataclasses.asdict(case), **json.loads(single.read_text(encoding="utf-8"))}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    single.unlink()
    print(f"{case}: {'fits' if line['fits'] else line['reason']}", flush=True)


def gib(count) -> str:
    return "-" if count is None else f"{count / 2**30:.2f}"


def print_table(lines: dict[Case, dict]) -> None:
    """Markdown: bytes in GiB, and the temporaries as a multiple of the plain training step's."""
    print(
        "| model | topology | program | T | blocks and logits | arguments | temporaries |"
        " of them saved states | estimate | peak | fits | without saved, to a plain step |"
    )
    print("|---" * 12 + "|")
    for case, line in sorted(lines.items(), key=lambda item: MODELS.index(item[0].model)):
        program = case.program
        if program == "meta_step":
            program = case.estimator
        looped = program in ("mixed_mode", "recompute", "first_order")
        saved = line["saved_state_bytes"] if looped else 0
        plain = lines.get(Case(case.model, "train_step", case.topology, options=False))
        ratio = "-"
        temp = line["temp_bytes"]
        if plain and temp is not None and plain["temp_bytes"] and case.program == "meta_step":
            ratio = f"{(temp - saved) / plain['temp_bytes']:.2f}"
        print("| " + " | ".join([
            case.model, case.topology, program,
            str(case.unroll_length) if case.program == "meta_step" else "-",
            "recomputed, chunked" if case.options and case.model != "tiny" else "kept",
            gib(line["argument_bytes"]), gib(temp), gib(saved),
            gib(line["estimated_temp_bytes"]), gib(line["peak_bytes"]),
            "yes" if line["fits"] else "no", ratio,
        ]) + " |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("lines", type=Path, help="file of JSON lines, added to")
    parser.add_argument("--model", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--topology", nargs="+", default=TOPOLOGIES)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print_table(read(options.lines))
        return
    for case in cases(options.model, options.topology):
        if case not in read(options.lines):
            run(case, options.lines)


if __name__ == "__main__":
    main()
