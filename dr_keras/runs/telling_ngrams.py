"""What an n-gram rater has learned, in words: the n-grams that move its scores most."""

from collections import Counter
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.data.windows import tokenizer_of
from dr_keras.models.ngram_rater import NgramRows

_MOST_WINDOWS = 4096


def telling_ngrams(rater: keras.Model, examples: ExampleSet, count: int = 20) -> list[dict] | None:
    """The n-grams whose presence tells windows apart most.

    An n-gram's worth is what the score changes by for every token that it ends at, of a window of
    mean contents: exact for a linear rater, the derivative there for one with a hidden layer. What
    it tells is |worth| times the standard deviation, over windows, of its share of the tokens.
    N-grams that fall into one row of the table are one feature, named after the most frequent.

    Args:
      rater: any Keras model.
      examples: windows of text; at most `_MOST_WINDOWS` are looked at.
      count: of each sign.

    Returns:
      The `count` that raise scores most, then those that lower them, each from the most telling:
      "ngram" (text, with blanks as they are), "worth", "tells" (in units of the score), "windows"
      (share that has it) and "named" (share of the feature's occurrences that are this n-gram).
      None of a rater without a layer of n-grams, or of examples that are not text.
    """
    found = [layer for layer in rater.layers if isinstance(layer, NgramRows)]
    tokenizer = tokenizer_of(examples)
    if not found or tokenizer is None:
        return None
    ngrams, examples = found[0], examples.thinned(_MOST_WINDOWS)
    tokens = np.asarray(examples.features["tokens"])
    rows = [np.asarray(one) for one in ngrams(tokens)]
    real = tokens != 0
    worth = _worth(rater, rows, real)
    size = len(worth)
    shares, squares, windows = np.zeros(size), np.zeros(size), np.zeros(size)
    lengths = np.maximum(real.sum(axis=1), 1)
    for one in rows:
        inside, here = np.nonzero(real)
        features = inside.astype(np.int64) * size + one[inside, here]
        places, times = np.unique(features, return_counts=True)
        window, feature = np.divmod(places, size)
        share = times / lengths[window]
        np.add.at(shares, feature, share)
        np.add.at(squares, feature, share**2)
        np.add.at(windows, feature, 1)
    total = len(tokens)
    deviation = np.sqrt(np.maximum(squares / total - (shares / total) ** 2, 0))
    tells = np.abs(worth) * deviation
    chosen: list[int] = []
    for sign in (1, -1):
        order = np.argsort(-np.where(np.sign(worth) == sign, tells, -1), kind="stable")[:count]
        chosen += [row for row in order.tolist() if np.sign(worth[row]) == sign and tells[row] > 0]
    names = _names(chosen, rows, ngrams.orders, ngrams.buckets, tokens, tokenizer)
    return [
        {
            "ngram": names[row][0],
            "worth": float(worth[row]),
            "tells": float(tells[row]),
            "windows": float(windows[row] / total),
            "named": names[row][1],
        }
        for row in chosen
    ]


def _worth(rater: keras.Model, rows: Sequence[np.ndarray], real: np.ndarray) -> np.ndarray:
    """[rows of the table]"""
    table = np.asarray(rater.get_layer("table").get_weights()[0], np.float64)
    if table.shape[1] == 1:
        return table[:, 0]
    lengths = np.maximum(real.sum(axis=1, keepdims=True), 1)
    mean = np.zeros(table.shape[1])
    for one in rows:
        weights = np.bincount(one.ravel(), (real / lengths).ravel(), len(table))
        mean += weights @ table / len(real)
    after = [layer for layer in rater.layers if layer.name in ("hidden", "score")]
    given = tf.constant(mean[None], after[0].compute_dtype)
    with tf.GradientTape() as tape:
        tape.watch(given)
        value = given
        for layer in after:
            value = layer(value)
    return table @ np.asarray(tape.gradient(value, given), np.float64)[0]


def _names(chosen, rows, orders, buckets, tokens, tokenizer) -> dict[int, tuple[str, float]]:
    """Row of the table -> its most frequent n-gram as text, and its share of what falls there."""
    found: dict[int, tuple[str, float]] = {}
    for row in chosen:
        number = row // buckets
        order = orders[number]
        window, end = np.nonzero((rows[number] == row) & (tokens != 0))
        kinds = Counter(
            tuple(tokens[w, max(e - order + 1, 0) : e + 1].tolist()) for w, e in zip(window, end)
        )
        ids, times = kinds.most_common(1)[0]
        found[row] = tokenizer.decode(np.array(ids)), times / len(end)
    return found
