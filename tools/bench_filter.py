#!/usr/bin/env python3
"""Measures the pipeline transformations against a bare rater: one JSON line a case.

    tools/bench_filter.py

Cases, all of the same rater on the same windows of `--sequence` random tokens:

    bare                  the rater, compiled, called on one batch of B_up after the other
    bare_pipeline         dataset.batch(B_up).map(rater), nothing kept or dropped
    top_k, filter_by_percentile, reweight
    dataset_filter        Dataset.filter, the rater called on one example at a time
    unsorted, length_sorted   documents of mixed length in batches of B_up as they come, padded to
                          the longest of each batch, and by `serving.windows.score_by_length`

A round runs every case once, in a new order. `share_of_bare` is the median over rounds of the ratio
of examples per second within one round, `cpu_share_of_bare` that of examples per second of this
process's CPU time: the figure to go by on a machine that others use too, where the clock says
more about them. length_sorted is compared to unsorted in the same way, as `speedup`.
`examples_per_second` and `cores` (CPU seconds per second of the clock) are of the fastest round.
`startup_seconds` is what making an iterator costs (tf.data optimises its graph then), once an epoch
and not part of the rest. Bare calls spread each operation over all cores, bare_pipeline (tf.data's
default) scores several batches at once with one thread each, the transformations do both.
"""

import argparse
from collections.abc import Callable
import json
import os
from pathlib import Path
import random
import statistics
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.models.text_models import text_rater
from dr_keras.rating.fractions import oversized_batch
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import windows
from dr_keras.serving.frozen import freeze

VOCABULARY = 258
YARDSTICK = {"length_sorted": "unsorted"}  # all others: bare


def make_rater(options) -> keras.Model:
    keras.utils.set_random_seed(0)
    rater = text_rater(
        VOCABULARY, options.sequence, options.width, options.layers, max(1, options.width // 32)
    )
    score = rater.get_layer("score")
    score.set_weights([np.random.normal(size=shape.shape) for shape in score.get_weights()])
    return rater


def documents(count: int, longest: int, median: float) -> np.ndarray:
    """int32 [count, longest], lengths log-normal about the median as those of web text are."""
    rng = np.random.default_rng(0)
    lengths = np.clip(np.exp(rng.normal(np.log(median), 1.0, count)), 1, longest).astype(int)
    tokens = rng.integers(2, VOCABULARY, (count, longest))
    return np.where(np.arange(longest) < lengths[:, None], tokens, 0).astype(np.int32)


def clock(work: Callable) -> tuple[float, float]:
    """Seconds of the clock and of the CPU."""
    at_cpu, at_wall = time.process_time(), time.perf_counter()
    work()
    return time.perf_counter() - at_wall, time.process_time() - at_cpu


def measure(case) -> tuple[float, float, float]:
    """Seconds of the clock, of the CPU, and of starting an iterator (0 where there is none)."""
    if not isinstance(case, tf.data.Dataset):
        return *clock(case), 0.0
    started = time.perf_counter()
    iterator = iter(case)  # scores nothing before it is asked for elements
    startup = time.perf_counter() - started
    return *clock(lambda: [None for _ in iterator]), startup


def cases(rater: keras.Model, options) -> dict[str, tuple[Callable | tf.data.Dataset, int]]:
    """name -> (what to run or to iterate over, examples that it scores)."""
    oversized = oversized_batch(options.batch_size, options.discard_fraction)
    count = options.batches * oversized
    rng = np.random.default_rng(0)
    tokens = rng.integers(2, VOCABULARY, (count, options.sequence)).astype(np.int32)
    rows = tf.data.Dataset.from_tensor_slices({"tokens": tokens})
    pairs = tf.data.Dataset.from_tensor_slices(({"tokens": tokens}, tokens))
    outputs = freeze(rater, {"tokens": tf.TensorSpec([None, None], tf.int32)})

    def frozen(features: dict[str, tf.Tensor]) -> tf.Tensor:
        return outputs(features)["score"]

    score = tf.function(frozen, input_signature=[{"tokens": tf.TensorSpec([None, None], tf.int32)}])
    batches = [{"tokens": tf.constant(part)} for part in np.split(tokens, options.batches)]
    scores = np.concatenate([score(batch).numpy() for batch in batches])
    reference = ReferenceDistribution.from_scores(scores)
    threshold = float(np.quantile(scores, options.discard_fraction))
    sizes = (options.discard_fraction, options.batch_size)

    few = max(1, count // 8)  # one at a time is slow, and its speed does not depend on their number
    singly = rows.take(few).filter(
        lambda row: frozen({"tokens": row["tokens"][tf.newaxis]})[0] >= threshold
    )
    mixed = documents(count, options.sequence, options.sequence / 6)

    def one_batch(part: np.ndarray) -> np.ndarray:
        return score({"tokens": tf.constant(part)}).numpy()

    def unsorted() -> list[np.ndarray]:
        return [
            one_batch(part[:, : np.count_nonzero(part, axis=1).max()])
            for part in np.split(mixed, options.batches)
        ]

    return {
        "bare": (lambda: [score(batch).numpy() for batch in batches], count),
        "bare_pipeline": (
            rows.batch(oversized, drop_remainder=True).map(
                frozen, num_parallel_calls=tf.data.AUTOTUNE
            ),
            count,
        ),
        "top_k": (rows.apply(dr_keras.top_k(rater, *sizes)), count),
        "filter_by_percentile": (
            rows.apply(dr_keras.filter_by_percentile(rater, *sizes, reference=reference)),
            count,
        ),
        "reweight": (pairs.apply(dr_keras.reweight(rater, oversized)), count),
        "dataset_filter": (singly, few),
        "unsorted": (unsorted, count),
        "length_sorted": (lambda: windows.score_by_length(one_batch, mixed, oversized), count),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--sequence", type=int, default=256)
    parser.add_argument("--batch_size", type=int, default=32, help="B, of B_up = B / (1 - f)")
    parser.add_argument("--discard_fraction", type=float, default=0.5)
    parser.add_argument("--batches", type=int, default=16, help="of B_up, in each case")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    rater = make_rater(options)
    runs = cases(rater, options)
    for case, _ in runs.values():  # traces and warms up
        measure(case)
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in runs}
    for number in range(options.rounds):
        for name in random.Random(number).sample(list(runs), len(runs)):
            found[name].append(measure(runs[name][0]))
    for name, (case, count) in runs.items():
        wall, cpu, _ = min(found[name])
        line = {
            "case": name,
            "width": options.width,
            "layers": options.layers,
            "sequence": options.sequence,
            "oversized_batch": oversized_batch(options.batch_size, options.discard_fraction),
            "parameters": rater.count_params(),
            "examples": count,
            "examples_per_second": round(count / wall, 1),
            "cores": round(cpu / wall, 2),
        }
        if isinstance(case, tf.data.Dataset):
            line["startup_seconds"] = round(statistics.median(x for _, _, x in found[name]), 3)
        yardstick = YARDSTICK.get(name, "bare")
        if name not in ("bare", "unsorted"):
            key = "share_of_bare" if yardstick == "bare" else "speedup"
            for column, label in enumerate((key, f"cpu_{key}")):
                ratios = [
                    (theirs[column] / runs[yardstick][1]) / (ours[column] / count)
                    for theirs, ours in zip(found[yardstick], found[name])
                ]
                line[label] = round(statistics.median(ratios), 3)
                line[f"{label}_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
