"""Which n-grams a rater has learned from, on a table that is filled by hand."""

import keras
import numpy as np
import pytest

from dr_keras.data.documents import make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.models.ngram_rater import NgramRows, ngram_rater
from dr_keras.runs.telling_ngrams import telling_ngrams

LENGTH = 8
TEXTS = ["the tea ", "no tea x", "the cat ", "qq qq qq"]


@pytest.fixture(scope="module")
def windows():
    documents = [make_document(text, "s", f"d{k}") for k, text in enumerate(TEXTS)]
    return window_documents(documents, byte_tokenizer(), LENGTH)


def rows_of(text):
    tokens = byte_tokenizer().encode([text])[0][None]
    return [int(one[0, -1]) for one in NgramRows([1, 2], 4096)(tokens)]


def test_worth_and_spread_of_a_linear_rater(windows):
    rater = ngram_rater(258, LENGTH, orders=(1, 2), buckets=4096)
    table = np.zeros((8192, 1), np.float32)
    pair, single = rows_of("qq")[1], rows_of("e")[0]
    table[pair], table[single] = -3.0, 2.0
    table[rows_of("#z")[1]] = 50.0  # in no window
    rater.get_layer("table").set_weights([table])
    raising, lowering = telling_ngrams(rater, windows)
    # "qq" ends at 3 of 8 tokens of one window of four; "e" at 2, 1, 1 and 0 of 8
    share = np.array([0, 0, 0, 3]) / 8
    assert lowering == {
        "ngram": "qq", "worth": -3.0, "windows": 0.25, "named": 1.0,
        "tells": pytest.approx(3 * share.std()),
    }  # fmt: skip
    assert (raising["ngram"], raising["worth"], raising["windows"]) == ("e", 2.0, 0.75)
    assert raising["tells"] == pytest.approx(2 * (np.array([2, 1, 1, 0]) / 8).std())


def test_the_derivative_at_the_mean_of_a_rater_with_a_hidden_layer(windows, randomised_raters):
    rater = ngram_rater(258, LENGTH, orders=(1, 2), buckets=4096, width=2, hidden=3)
    randomised_raters(rater)
    found = {one["ngram"]: one["worth"] for one in telling_ngrams(rater, windows, count=200)}
    table = rater.get_layer("table").get_weights()[0]
    tokens = windows.features["tokens"]
    rows = [np.asarray(one) for one in NgramRows([1, 2], 4096)(tokens)]
    mean = sum(table[one] for one in rows).mean(axis=(0, 1))
    hidden, score = rater.get_layer("hidden"), rater.get_layer("score")

    def value(at):
        return float(score(hidden(at[None].astype(np.float32)))[0, 0])

    for text in ("q", "te"):
        direction = table[rows_of(text)[len(text) - 1]]
        step = 1e-2
        difference = (value(mean + step * direction) - value(mean - step * direction)) / (2 * step)
        assert found[text] == pytest.approx(difference, rel=0.02, abs=1e-3)


def test_others_have_no_ngrams(windows):
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    plain = keras.Model({"tokens": tokens}, keras.ops.sum(tokens, axis=1))
    assert telling_ngrams(plain, windows) is None


@pytest.fixture
def randomised_raters():
    def randomise(model):
        rng = np.random.default_rng(0)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(scale=0.5, size=variable.shape))

    return randomise
