"""Candidates for tests, with known sources, tokens and texts."""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.data.examples import ExampleSet


def strings(values):
    array = np.empty(len(values), object)
    array[:] = values
    return array


def candidates(count=40, texts=None, sources=None, passages=False):
    """`count` candidates d0, d1, ...; three of four from source "a", the others from "b"."""
    ids = strings([f"d{k}" for k in range(count)])
    sources = sources or ["b" if k % 4 == 3 else "a" for k in range(count)]
    texts = texts or [f"text {k}" for k in range(count)]
    tokens = np.arange(1, count + 1)
    return Candidates(ids, strings(sources), ids, tokens, lambda: texts, passages)


def windows(documents=30, each=2, length=8, vocabulary=20, seed=0, corpora=None, weights=None):
    """A set of windows `doc0#0`, ...; token values are random, sources alternate."""
    ids = [f"doc{d}#{k}" for d in range(documents) for k in range(each)]
    tokens = np.random.default_rng(seed).integers(1, vocabulary, (len(ids), length))
    names = ["ab"[d % 2] for d in range(documents) for _ in range(each)]
    return ExampleSet(
        {"tokens": tokens.astype(np.int32)},
        strings(ids),
        strings(names),
        strings(names if corpora is None else corpora),
        weights=weights,
        render=lambda row: " ".join(str(t) for t in row["tokens"] if t),
    )
