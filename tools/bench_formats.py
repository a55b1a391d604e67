#!/usr/bin/env python3
"""Measures the files that a rater becomes, each in its own runtime: one JSON line each.

    tools/bench_formats.py savedmodels/damaged_prose runs/student/export

`bytes` are those of the file, of the SavedModel of its whole folder. `windows_a_second` is the
number of windows scored in a CPU second of this process, on one thread, from token ids, the faster
of calls of 32 and 256 windows, or of those of --batch; the median over rounds. A round measures
every way once, so that a busy machine is as busy for all. `rank_correlation` and
`largest_difference` are against the SavedModel's scores.
"""

import argparse
from collections.abc import Iterable
import json
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from dr_keras.data.corpora.embedded import embedded_corpus
from dr_keras.errors import ArtefactError
from dr_keras.runs.conversion import convert_rater, sample_windows
from dr_keras.serving.loading import load_rater
from dr_keras.serving.portable import FORMATS, SIGNATURE, find_formats

ROWS = (32, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raters", nargs="+", metavar="RATER", help="exported")
    parser.add_argument("--format", action="append", choices=FORMATS, help="default: all")
    parser.add_argument("--batch", type=int, help="windows in each call, fixed in the files")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU time, each figure")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    for path in options.raters:
        measure(path, options.format or FORMATS, options.batch, options.seconds, options.rounds)


def measure(
    path: str, formats: Iterable[str], batch: int | None, seconds: float, rounds: int
) -> None:
    """Prints the lines of one rater."""
    rater = load_rater(path)
    served = rater.signatures[SIGNATURE]
    compiled = tf.function(lambda tokens: served(tokens=tokens)["score"], jit_compile=True)
    sizes = (batch,) if batch else ROWS
    size = sum(rater.metadata["files"].values())
    ways = {
        "savedmodel": lambda tokens: served(tokens=tf.constant(tokens))["score"].numpy(),
        "savedmodel, XLA": lambda tokens: compiled(tf.constant(tokens)).numpy(),
    }
    facts: dict[str, dict] = {way: {"bytes": size} for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        for one in find_formats(formats):
            try:
                made = convert_rater(rater, [one.name], folder, int8=True, batch=batch)
            except ArtefactError as error:  # nothing in it becomes int8
                print(json.dumps({"rater": path, "way": f"{one.name}, int8", "none": str(error)}))
                made = convert_rater(rater, [one.name], folder, batch=batch)
            for file in made:
                way = one.name + (", int8" if file.record["int8"] else "")
                ways[way] = one.load(file.path)
                facts[way] = {"bytes": file.record["bytes"], **file.record["check"]}
        tokens = sample_windows(rater, embedded_corpus().documents())
        tokens = np.resize(tokens, (max(sizes), rater.sequence_length))
        found = [
            {way: max(rate(score, tokens[:rows], seconds) for rows in sizes)
             for way, score in ways.items()}
            for _ in range(rounds)
        ]  # fmt: skip
    for way, known in facts.items():
        rates = [each[way] for each in found]
        line = {
            "rater": path,
            "way": way,
            **known,
            "windows_a_second": round(statistics.median(rates)),
            "range": [round(min(rates)), round(max(rates))],
            "times_savedmodel": round(
                statistics.median(each[way] / each["savedmodel"] for each in found), 2
            ),
        }
        print(json.dumps(line), flush=True)


def rate(score, tokens: np.ndarray, seconds: float) -> float:
    """Windows a CPU second; the first call is where all is done that is done once."""
    score(tokens)
    begin, calls = time.process_time(), 0
    while not calls or time.process_time() - begin < seconds:
        score(tokens)
        calls += 1
    return calls * len(tokens) / (time.process_time() - begin)


if __name__ == "__main__":
    main()
