#!/usr/bin/env python3
"""Learns weights of sources for a target, and holds them against a rater of windows.

    tools/source_weights.py --data DATA --base_dir runs/sources [--target medical] [--seeds 3]

DATA and targets are those of tools/targeted.py, whose study this is, with the arms `unfiltered`,
`random`, `rater`, `best_sources` and `source_weights` at the smallest size. Each seed of
experiments/source_weights.gin is a run <base_dir>/weights-<seed>, so that the spread of the weights
can be seen; the arm takes those of seed 0. --rater names an exported rater of windows; without it,
the study makes one. What follows --gin_param goes to all commands.
"""

import argparse
from collections.abc import Sequence
import json
import os
from pathlib import Path
import subprocess
import sys

from targeted import ROOT, TARGETS, bindings

ARMS = ("unfiltered", "rater", "random")
MORE_ARMS = ("best_sources", "source_weights")


def sources_of(given: Sequence[str]) -> list[str]:
    """The sources of a study's corpus: of each of its files the first record's, and the web's."""
    files = next(b for b in given if b.startswith("CORPUS_FILES")).partition(" = ")[2]
    found = []
    for path in json.loads(files.replace("'", '"')):
        with open(path, encoding="utf-8") as file:
            found.append(json.loads(file.readline())["domain"])
    return [*found, "web_raw"]


def call(verb: str, *arguments: str, gin_params: Sequence[str] = ()) -> None:
    """Runs a verb; ends this program where it fails."""
    command = [sys.executable, "-m", "dr_keras", verb, *arguments]
    command += [part for binding in gin_params for part in ("--gin_param", binding)]
    print(f"== {verb} {' '.join(arguments)}", flush=True)
    if status := subprocess.call(command, cwd=ROOT):
        sys.exit(status)


def main(argv: Sequence[str] | None = None) -> None:
    """Meta-trains the weights of every seed, then runs the study."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--base_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--target", choices=list(TARGETS), default="medical")
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--rater", metavar="PATH")
    parser.add_argument("--gin_param", action="append", default=[], metavar="BINDING")
    parser.add_argument("--workers", type=int, metavar="N")
    arguments = parser.parse_args(argv)
    base_dir = arguments.base_dir.absolute()
    given = [*bindings(arguments.data.absolute(), TARGETS[arguments.target], 0.0)]
    sources = f"SOURCES = {tuple(sources_of(given))}"
    for seed in range(arguments.seeds):
        run = os.fspath(base_dir / f"weights-{seed}")
        bound = [*given, sources, f"SEED = {seed}", *arguments.gin_param]
        files = ("--gin_file", "experiments/source_weights.gin", "--base_dir", run)
        call("meta-train", *files, gin_params=bound)
        call("source-weights", "--base_dir", run)
    table = base_dir / "weights-0" / "source_weights" / "table.json"
    size = "{'0.12M': @small/LanguageModelTrainer}"
    study = [
        *given,
        f"SIZES = {size}",
        f"evidence.core_arms = {ARMS}",
        f"evidence.more_arms = {MORE_ARMS}",
        f"source_weights.table = '{table}'",
        *(() if arguments.rater is None else (f"evidence.rater = '{arguments.rater}'",)),
        *arguments.gin_param,
    ]
    files = ("--gin_file", "experiments/targeted.gin", "--base_dir", os.fspath(base_dir / "study"))
    workers = () if arguments.workers is None else ("--workers", str(arguments.workers))
    call("evaluate", *files, *workers, gin_params=study)


if __name__ == "__main__":
    main()
