#!/usr/bin/env python3
"""Measures how batches come from a corpus on disk: one JSON line a case.

    tools/bench_streams.py --rows 1000000 --length 128 --batch_size 32

A corpus of random tokens is written as one memory-mapped uint16 file into a temporary folder.

    permutation   microseconds of a core for an index, of a billion: in batches, and many at once
    start         seconds and traced bytes until the first batch of a stream, of a billion rows of
                  two corpora with weights as well as of the file
    windows       random windows a CPU second, in batches of a stream
    meta_steps    seconds of a meta-step of models of 0.1 million parameters (two members, T = 2),
                  windows a second that it consumes, and the share of its time that it waited for
                  data, with and without reading ahead; the first epoch, which compiles, apart
"""

import argparse
import dataclasses
import functools
import json
import os
from pathlib import Path
import sys
import tempfile
import time
import tracemalloc

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from dr_keras.data.columns import Column, Joined, Runs
from dr_keras.data.examples import ExampleSet
from dr_keras.data.permutations import permuted
from dr_keras.data.streams import BatchStream


class Numbers(Column):
    """Row i is i, without a table: ids that cost nothing."""

    def __init__(self, rows: int):
        self.shape, self.dtype = (rows,), np.dtype(np.int64)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return rows


def as_set(tokens: Column, weights: dict | None = None) -> ExampleSet:
    numbers = Numbers(len(tokens))
    corpora = Runs(["web", "books"], [len(tokens) // 2, len(tokens) - len(tokens) // 2])
    return ExampleSet({"tokens": tokens}, numbers, corpora, corpora, weights=weights, name="train")


def write(folder: str, rows: int, length: int) -> np.ndarray:
    """Random tokens of bytes on disk, uint16 [rows, length], memory-mapped."""
    path = Path(folder) / "tokens.npy"
    file = np.lib.format.open_memmap(path, "w+", np.uint16, (rows, length))
    rng = np.random.default_rng(0)
    for start in range(0, rows, 1 << 14):
        part = file[start : start + (1 << 14)]
        part[:] = rng.integers(3, 259, part.shape)
    file.flush()
    del file
    return np.load(path, mmap_mode="r")


def permutation(size: int = 10**9) -> dict:
    figures = {}
    for count in (32, 128, 100_000):
        indices = np.random.default_rng(0).integers(0, size, count)
        repeats = max(3, 20_000 // count)
        permuted(indices, size, 0, 0)
        started = time.process_time()
        for _ in range(repeats):
            permuted(indices, size, 0, 0)
        seconds = (time.process_time() - started) / repeats
        figures[f"microseconds_an_index_of_{count}"] = round(1e6 * seconds / count, 3)
    return {"case": "permutation", "size": size, **figures}


def start(examples: ExampleSet, batch_size: int, corpus: str) -> dict:
    tracemalloc.start()
    began = time.perf_counter()
    BatchStream(examples, batch_size, seed=1).batch(0)
    seconds = time.perf_counter() - began
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    figures = {"seconds": round(seconds, 4), "traced_bytes": peak}
    return {"case": "start", "corpus": corpus, "rows": len(examples), **figures}


def windows(examples: ExampleSet, batch_size: int, batches: int) -> dict:
    stream = BatchStream(examples, batch_size, seed=2)
    stream.batch(0)
    cpu, wall = time.process_time(), time.perf_counter()
    for step in range(1, batches + 1):
        stream.batch(step)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    count = batches * batch_size
    return {
        "case": "windows",
        "batch_size": batch_size,
        "windows_a_cpu_second": round(count / cpu),
        "windows_a_second": round(count / wall),
    }


def meta_steps(examples: ExampleSet, batch_size: int, steps: int, read_ahead: int) -> dict:
    from dr_keras.meta.trainer import MetaTrainer
    from dr_keras.models.losses import next_token_loss
    from dr_keras.models.text_models import language_model, text_rater

    length = examples.features["tokens"].shape[1]
    shape = {"vocabulary_size": 259, "sequence_length": length}
    trainer = MetaTrainer(
        text_rater(*shape.values(), 48, 2, 4),
        functools.partial(language_model, *shape.values(), 64, 2, 4),
        next_token_loss,
        population_size=2,
        inner_batch_size=batch_size,
        outer_batch_size=batch_size,
        read_ahead=read_ahead,
    )
    outer = dataclasses.replace(examples.thinned(4 * batch_size), name="outer")
    trainer.fit(examples, outer, steps, steps_per_epoch=steps)  # compiles
    began = time.perf_counter()
    history = trainer.fit(examples, outer, 2 * steps, steps_per_epoch=steps).history
    seconds = (time.perf_counter() - began) / steps
    return {
        "case": "meta_steps",
        "read_ahead": read_ahead,
        "seconds_a_step": round(seconds, 4),
        "windows_a_second": round(2 * 3 * batch_size / seconds),  # two members, T = 2 and outer
        "data_wait_share": round(history["data_wait_share"][-1], 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="windows of the corpus")
    parser.add_argument("--length", type=int, default=128, help="tokens of a window")
    parser.add_argument("--batch_size", type=int, default=32)
    parser.add_argument("--batches", type=int, default=5_000, help="that are read for a rate")
    parser.add_argument("--meta_steps", type=int, default=20, help="that are timed; 0: none")
    options = parser.parse_args()

    def say(figures: dict) -> None:
        print(json.dumps(figures), flush=True)

    say(permutation())
    weights = {"web": 0.8, "books": 0.2}
    say(start(as_set(Numbers(10**9), weights), options.batch_size, "numbers"))
    with tempfile.TemporaryDirectory() as folder:
        tokens = Joined([write(folder, options.rows, options.length)], np.int32)
        examples = as_set(tokens, weights)
        say(start(examples, options.batch_size, "file"))
        for one in (examples, dataclasses.replace(examples, weights=None)):
            figures = windows(one, options.batch_size, options.batches)
            say(figures | {"weights": one.weights is not None})
        for read_ahead in (0, 2) if options.meta_steps else ():
            say(meta_steps(examples, options.batch_size, options.meta_steps, read_ahead))


if __name__ == "__main__":
    main()
