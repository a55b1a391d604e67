#!/usr/bin/env python3
"""Measures how fast exported raters score text, one beside the other: one JSON line a rater.

    tools/bench_score.py --text corpus.jsonl savedmodels/damaged_prose runs/student/export

Figures are MB (1e6 bytes) of text a CPU second of this process, windows included, on one thread:
`texts` by `score_texts`, not compiled; `pipeline` in tf.data; `compiled` with the network
compiled by XLA. `flops` are those of the matrix products of one window. `times_first_<way>` is the
ratio to the first rater named, the median over rounds: a round measures every rater once, so that a
busy machine is as busy for all.
"""

import argparse
import json
import os
from pathlib import Path
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from dr_keras.data.prepare import corpus_from_path
from dr_keras.serving.loading import load_rater
from dr_keras.studies.scoring_speed import megabytes_a_second
from dr_keras.training.flops import scoring_flops


def texts_of(path: str, size: int) -> list[str]:
    """The first documents of a corpus, about `size` bytes."""
    texts, total = [], 0
    for document in corpus_from_path(path).documents():
        texts.append(document.text)
        total += len(document.text.encode("utf-8", "replace"))
        if total >= size:
            break
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raters", nargs="+", metavar="RATER", help="exported; the yardstick first")
    parser.add_argument("--text", required=True, metavar="PATH", help="a corpus of files")
    parser.add_argument("--bytes", type=int, default=300_000, help="of it that are scored")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU time, each figure")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)

    texts = texts_of(options.text, options.bytes)
    raters = {path: load_rater(path) for path in options.raters}
    rounds = [
        {path: megabytes_a_second(rater, texts, seconds=options.seconds)
         for path, rater in raters.items()}
        for _ in range(options.rounds)
    ]  # fmt: skip
    first = options.raters[0]
    for path, rater in raters.items():
        line: dict = {"rater": path, "parameters": rater.metadata["parameters"]}
        line["flops"] = scoring_flops(rater, {"tokens": ((rater.sequence_length,), np.int32)})
        for way in rounds[0][path]:
            found = [one[path][way] for one in rounds]
            line[way] = round(statistics.median(found), 3)
            line[f"{way}_range"] = [round(min(found), 3), round(max(found), 3)]
            if path != first:
                times = statistics.median(one[path][way] / one[first][way] for one in rounds)
                line[f"times_first_{way}"] = round(times, 1)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
