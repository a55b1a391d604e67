#!/usr/bin/env python3
"""Measures how fast exported raters score text, one beside the other: one JSON line a rater.

    tools/bench_score.py --text corpus.jsonl savedmodels/damaged_prose runs/student/export

Figures are MB (1e6 bytes) of text a CPU second of this process, windows included, on one thread:
`texts` by `score_texts`, not compiled; `pipeline` in tf.data; `compiled` with the network
compiled by XLA. `flops` are those of the matrix products of one window. `times_first_<way>` is the
ratio to the first rater named, the median over rounds: a round measures every rater once, so that a
busy machine is as busy for all. `rank_correlation` is Spearman's with the first rater, over the
documents of the second half of the text.

--fasttext adds a fastText classifier of the better and the worse half by the first rater, trained
on the first half of the text in pieces of its windows' length: words and pairs of them, 100 numbers
each, as web filters have it; `texts` is then `predict` on lists of documents. It needs a fastText
package that loads beside NumPy 2, such as fasttext-numpy2-wheel.
"""

import argparse
import json
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import tensorflow as tf

from dr_keras.data.prepare import corpus_from_path
from dr_keras.serving.loading import load_rater
from dr_keras.studies.scoring_speed import megabytes_a_second
from dr_keras.training.flops import scoring_flops
from dr_keras.training.metrics import spearman


def texts_of(path: str, size: int) -> list[str]:
    """The first documents of a corpus, about `size` bytes."""
    texts, total = [], 0
    for document in corpus_from_path(path).documents():
        texts.append(document.text)
        total += len(document.text.encode("utf-8", "replace"))
        if total >= size:
            break
    return texts


class FastText:
    """A fastText classifier of what a rater prefers; its score is the chance of the better half."""

    def __init__(self, rater, texts: list[str]):
        import fasttext

        width = rater.sequence_length
        pieces = [
            one[at : at + width]
            for one in map(_one_line, texts)
            for at in range(0, len(one), width)
        ]
        score = rater.score_texts(pieces)["score"]
        better = score >= np.median(score)
        with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
            file.writelines(f"__label__{int(b)} {one}\n" for b, one in zip(better, pieces))
            file.flush()
            self._model = fasttext.train_supervised(
                file.name, dim=100, wordNgrams=2, epoch=5, thread=1, verbose=0
            )

    def score(self, texts: list[str]) -> np.ndarray:
        labels, chances = self._model.predict([_one_line(one) for one in texts], k=1)
        best = np.array([chance[0] for chance in chances])
        return np.where([label[0] == "__label__1" for label in labels], best, 1 - best)

    def megabytes_a_second(self, texts: list[str], seconds: float) -> float:
        self.score(texts)
        size = sum(len(one.encode("utf-8", "replace")) for one in texts)
        begin, total = time.process_time(), 0
        while not total or time.process_time() - begin < seconds:
            self.score(texts)
            total += size
        return total / (time.process_time() - begin) / 1e6


def _one_line(text: str) -> str:
    """As fastText wants it."""
    return text.replace("\n", " ")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("raters", nargs="+", metavar="RATER", help="exported; the yardstick first")
    parser.add_argument("--text", required=True, metavar="PATH", help="a corpus of files")
    parser.add_argument("--bytes", type=int, default=300_000, help="of it that are scored")
    parser.add_argument("--seconds", type=float, default=1.0, help="of CPU time, each figure")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fasttext", action="store_true", help="a fastText classifier beside them")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)

    texts = texts_of(options.text, options.bytes)
    raters = {path: load_rater(path) for path in options.raters}
    first = options.raters[0]
    half = len(texts) // 2
    named: dict = dict(raters)
    if options.fasttext:
        named["fastText"] = FastText(raters[first], texts[:half])
    rounds = [
        {
            path: {"texts": rater.megabytes_a_second(texts, options.seconds)}
            if isinstance(rater, FastText)
            else megabytes_a_second(rater, texts, seconds=options.seconds)
            for path, rater in named.items()
        }
        for _ in range(options.rounds)
    ]
    yardstick = raters[first].score_texts(texts[half:])["score"]
    for path, rater in named.items():
        line: dict = {"rater": path}
        if isinstance(rater, FastText):
            score = rater.score(texts[half:])
        else:
            line["parameters"] = rater.metadata["parameters"]
            line["flops"] = scoring_flops(rater, {"tokens": ((rater.sequence_length,), np.int32)})
            score = rater.score_texts(texts[half:])["score"]
        line["rank_correlation"] = round(spearman(yardstick, score), 3)
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
