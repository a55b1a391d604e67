#!/usr/bin/env python3
"""Compiles the cases of docs/precompile.md for TPUs that are not there: a JSON line for each.

    tools/precompile_study.py lines.jsonl             all cases; those in the file are kept
    tools/precompile_study.py lines.jsonl --topology v5e:2x2 --model tiny 50m
    tools/precompile_study.py lines.jsonl --table     prints what the file holds, in Markdown

Each case is a call of `dr-keras precompile` in a process of its own, for all topologies, so that a
compiler that aborts or runs out of memory ends its case only; such cases are tried again by the
next call. The models are those of gin/models with the settings of gin/runs/paper.gin, on batches
of 8 windows of 512 tokens: of the paper's batches of 128, what each of 16 chips would have.
Everything is per chip, with one member on it. A meta-step takes some minutes of one core for each
topology.
"""

import argparse
import dataclasses
import json
import os
from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parent.parent
TOPOLOGIES = ("v5e:2x2", "v5p:2x2x1", "v6e:2x2")
MODELS = ("tiny", "50m", "150m", "400m")
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
    "next_token_loss.chunk": 512,  # of 8 x 511 positions
}
NEITHER = {"language_model.recompute_blocks": False, "language_model.chunked_logits": False}


@dataclasses.dataclass(frozen=True)
class Case:
    """One program of one configuration."""

    model: str
    program: str
    estimator: str = "mixed_mode"
    unroll_length: int = 2
    options: bool = True  # recomputed blocks and chunked logits

    def command(self, path: Path, topologies) -> list[str]:
        if self.model == "tiny":
            files, params = ["experiments/quickstart.gin"], {}
        else:
            files = ["experiments/paper_c4.gin", f"models/language_model_{self.model}.gin"]
            params = SHAPE | ({} if self.options else NEITHER)
        params = params | {
            "MetaTrainer.estimator": f"@{ESTIMATORS[self.estimator]}()",
            "MetaTrainer.unroll_length": self.unroll_length,
        }
        command = [sys.executable, "-m", "dr_keras", "precompile", "--json", str(path)]
        command += ["--program", self.program]
        for name in topologies:
            command += ["--topology", name]
        for name in files:
            command += ["--gin_file", name]
        for name, value in params.items():
            command += ["--gin_param", f"{name} = {value}"]
        return command


def cases(models) -> list[Case]:
    """The most telling ones first: a table that is cut short still says something."""
    found = []
    if "tiny" in models:
        found = [Case("tiny", name, "nested_tape") for name in ("score", "train_step", "meta_step")]
    kinds = [dict(program="train_step", options=False)]
    kinds += [dict(program="meta_step", estimator=name) for name in ESTIMATORS]
    kinds += [dict(program="meta_step", unroll_length=length) for length in (4, 8)]
    kinds += [dict(program="score"), dict(program="train_step")]
    large = [model for model in models if model != "tiny"]
    return found + [Case(model, **kind) for kind in kinds for model in large]


def read(path: Path) -> dict[tuple[Case, str], dict]:
    """(case, topology) -> its line."""
    if not path.exists():
        return {}
    lines = [json.loads(text) for text in path.read_text(encoding="utf-8").splitlines()]
    return {(Case(**line.pop("case")), line["topology"]): line for line in lines}


def run(case: Case, topologies, path: Path) -> None:
    """Adds the case's lines to the file, and says what went wrong, if something did."""
    own = path.with_name(f"unfinished-{path.name}")
    own.unlink(missing_ok=True)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        case.command(own, topologies),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    texts = own.read_text(encoding="utf-8").splitlines() if own.exists() else []
    for line in map(json.loads, texts):
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"case": dataclasses.asdict(case), **line}) + "\n")
        print(f"{case}, {line['topology']}: {'fits' if line['fits'] else line['reason']}",
              flush=True)  # fmt: skip
    own.unlink(missing_ok=True)
    if done.returncode or len(texts) < len(topologies):
        tail = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        print(f"{case}: {tail[0][:300]} (status {done.returncode})", file=sys.stderr)


def gib(count) -> str:
    return "-" if count is None else f"{count / 2**30:.2f}"


def print_table(lines: dict[Case, dict]) -> None:
    """Markdown: bytes in GiB, and the temporaries as a multiple of the plain training step's."""
    print(
        "| model | topology | program | T | blocks and logits | arguments | temporaries |"
        " of them saved states | estimate | peak | fits | without saved, to a plain step |"
    )
    print("|---" * 12 + "|")
    order = sorted(lines, key=lambda key: (MODELS.index(key[0].model), key[1].split(":")[0]))
    for case, topology in order:
        line = lines[case, topology]
        program = case.program
        if program == "meta_step":
            program = case.estimator
        looped = program in ("mixed_mode", "recompute", "first_order")
        saved = line["saved_state_bytes"] if looped else 0
        plain = lines.get((Case(case.model, "train_step", options=False), topology))
        ratio = "-"
        temp = line["temp_bytes"]
        if plain and temp is not None and plain["temp_bytes"] and case.program == "meta_step":
            ratio = f"{(temp - saved) / plain['temp_bytes']:.2f}"
        print("| " + " | ".join([
            case.model, topology, program,
            str(case.unroll_length) if case.program == "meta_step" else "-",
            "recomputed, chunked" if case.options and case.model != "tiny" else "kept",
            gib(line["argument_bytes"]), gib(temp), gib(saved),
            gib(line["estimated_temp_bytes"]), gib(line["peak_bytes"]),
            "yes" if line["fits"] else line["reason"], ratio,
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
    for case in cases(options.model):
        known = read(options.lines)
        missing = [name for name in options.topology if (case, name) not in known]
        if missing:
            run(case, missing, options.lines)


if __name__ == "__main__":
    main()
