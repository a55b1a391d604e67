"""Streams are a pure function of (seed, step) and use every example once an epoch."""

import dataclasses
import tracemalloc

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data import streams
from dr_keras.data.columns import Chosen, Column, Runs
from dr_keras.data.examples import ExampleSet
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, DataError


def make_set(rows, corpora=None, weights=None):
    names = np.array(corpora or ["one"] * rows, dtype=object)
    return ExampleSet(
        features={"x": np.arange(rows) * 10.0},
        ids=np.array([str(i) for i in range(rows)], dtype=object),
        sources=names,
        corpora=names,
        weights=weights,
        name="train",
    )


def draws(stream, steps, first=0):
    return np.concatenate([stream.indices(step) for step in range(first, first + steps)])


@hypothesis.given(
    rows=st.integers(1, 60), batch_size=st.integers(1, 60), seed=st.integers(0, 2**64 - 1)
)
@hypothesis.settings(deadline=None, max_examples=40)
def test_each_epoch_holds_every_row_once(rows, batch_size, seed):
    hypothesis.assume(batch_size <= rows)
    stream = BatchStream(make_set(rows), batch_size, seed)
    epochs = draws(stream, -(-3 * rows // batch_size))[: 3 * rows].reshape(3, rows)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(rows), (3, 1)))


@hypothesis.given(steps=st.lists(st.integers(0, 10_000), min_size=1, max_size=10))
@hypothesis.settings(deadline=None, max_examples=20)
def test_a_batch_does_not_depend_on_what_was_read_before(steps):
    for weights in (None, {"one": 2.0, "two": 1.0}):
        examples = make_set(30, ["one"] * 20 + ["two"] * 10, weights)
        used = BatchStream(examples, 7, seed=3)
        for step in steps:
            fresh = BatchStream(examples, 7, seed=3)
            np.testing.assert_array_equal(used.indices(step), fresh.indices(step))


@pytest.mark.parametrize("weights", [None, {"a": 2.0, "b": 1.0, "c": 0.5}])
def test_corpora_as_runs_and_as_an_array_give_the_same_batches(weights, monkeypatch):
    values, lengths = ["a", "b", "a", "c", "a"], [7, 5, 0, 4, 9]
    names = np.repeat(values, lengths).tolist()
    array = make_set(25, names, weights)
    runs = dataclasses.replace(array, corpora=Runs(values, lengths))
    expected = draws(BatchStream(array, 6, 9), 90)
    np.testing.assert_array_equal(draws(BatchStream(runs, 6, 9), 90), expected)
    # a column without runs is read in pieces, which may cut one
    chosen = dataclasses.replace(array, corpora=Chosen(runs.corpora, np.arange(25)))
    monkeypatch.setattr(streams, "_ROWS_AT_ONCE", 3)
    np.testing.assert_array_equal(draws(BatchStream(chosen, 6, 9), 90), expected)


def test_rows_of_a_corpus_that_lie_apart_are_all_drawn():
    names = ["a", "b", "a", "a", "c", "b", "a", "c"] * 3
    stream = BatchStream(make_set(24, names, {"a": 1.0, "b": 1.0, "c": 1.0}), 12, seed=0)
    rows = draws(stream, 64)  # three blocks
    for name in "abc":
        own = np.flatnonzero(np.array(names) == name)
        inside = rows[np.isin(rows, own)]
        assert abs(len(inside) - 256) <= 1
        np.testing.assert_array_equal(np.sort(inside[: len(own)]), own)


class Numbers(Column):
    """Row i is i, without a table."""

    def __init__(self, rows):
        self.shape, self.dtype = (rows,), np.dtype(np.int64)

    def read(self, rows):
        return rows


def test_a_stream_of_a_trillion_rows_is_as_small_as_any():
    rows = 10**12
    numbers = Numbers(rows)
    corpora = Runs(["web", "books"], [rows - 10**6, 10**6])
    examples = ExampleSet({"x": numbers}, numbers, corpora, corpora, name="train")
    weighted = dataclasses.replace(examples, weights={"web": 0.7, "books": 0.3})
    tracemalloc.start()
    try:
        for some in (examples, weighted):
            stream = BatchStream(some, 512, seed=3)
            first, late = (stream.batch(step)["x"] for step in (0, 10**9))
        assert tracemalloc.get_traced_memory()[1] < 1 << 18
    finally:
        tracemalloc.stop()
    assert abs((first >= rows - 10**6).sum() - 0.3 * 512) <= 1  # two blocks
    assert len(np.unique(np.concatenate([first, late]))) > 1000


def test_another_seed_gives_the_stream_of_that_seed():
    examples = make_set(30, ["a"] * 20 + ["b"] * 10, {"a": 1.0, "b": 1.0})
    stream = BatchStream(examples, 8, seed=1)
    draws(stream, 3)
    other = stream.with_seed(2)
    np.testing.assert_array_equal(draws(other, 50), draws(BatchStream(examples, 8, seed=2), 50))
    assert stream.seed == 1
    with pytest.raises(ConfigurationError, match="seed is -1"):
        stream.with_seed(-1)


def test_batch_holds_the_rows_of_indices():
    stream = BatchStream(make_set(9), 4, seed=1)
    np.testing.assert_array_equal(stream.batch(5)["x"], stream.indices(5) * 10.0)


def test_order_is_fixed_for_all_time():
    # A resumed run must meet the same rows, whatever the versions of numpy and dr_keras.
    assert draws(BatchStream(make_set(8), 8, seed=7), 2).tolist() == PLAIN
    weighted = make_set(8, ["a"] * 6 + ["b"] * 2, {"a": 1, "b": 1})
    assert draws(BatchStream(weighted, 8, seed=7), 2).tolist() == WEIGHTED


def test_seeds_and_epochs_differ():
    examples = make_set(50)
    first, second = (BatchStream(examples, 50, seed).indices(0) for seed in (0, 1))
    assert (first != second).any()
    assert (first != BatchStream(examples, 50, 0).indices(1)).any()


def test_weights_set_the_share_of_each_corpus_and_walk_it_evenly():
    names = ["big"] * 90 + ["mid"] * 25 + ["small"] * 5
    weights = {"big": 5.0, "mid": 3.0, "small": 2.0}
    stream = BatchStream(make_set(120, names, weights), 10, seed=4)
    rows = draws(stream, 256 * 10)  # ten blocks of 256
    for name, share in (("big", 0.5), ("mid", 0.3), ("small", 0.2)):
        inside = rows[np.array(names, dtype=object)[rows] == name]
        assert abs(len(inside) - share * len(rows)) <= 1
        size = names.count(name)
        epochs = inside[: len(inside) // size * size].reshape(-1, size)
        assert (np.sort(epochs, axis=1) == np.sort(np.unique(inside))).all()
        assert len(np.unique(inside)) == size


def test_rare_corpora_get_their_share_in_longer_blocks():
    names = ["common"] * 50 + ["rare"] * 3
    stream = BatchStream(make_set(53, names, {"common": 0.999, "rare": 0.001}), 50, seed=0)
    rows = draws(stream, 2048 * 2 // 50)
    assert 2 <= (rows >= 50).sum() <= 6


def test_order_of_weights_does_not_matter():
    names = ["a"] * 10 + ["b"] * 10
    one = BatchStream(make_set(20, names, {"a": 1, "b": 3}), 8, seed=2)
    two = BatchStream(make_set(20, names, {"b": 3, "a": 1}), 8, seed=2)
    np.testing.assert_array_equal(draws(one, 40), draws(two, 40))


def test_weight_zero_leaves_a_corpus_out():
    stream = BatchStream(make_set(20, ["a"] * 10 + ["b"] * 10, {"a": 1, "b": 0}), 8, seed=2)
    assert draws(stream, 40).max() == 9


def test_too_few_examples_names_set_sizes_and_remedy():
    with pytest.raises(DataError, match="'train' has 3 examples, fewer than one batch of 4: lower"):
        BatchStream(make_set(3), 4)


@pytest.mark.parametrize(
    "weights, message",
    [
        ({"a": 1.0}, r"examples of \['b'\], which its weights do not name"),
        ({"a": 1.0, "b": 1.0, "c": 2.0}, r"no example of \['c'\]"),
        ({"a": 0.0, "b": 0.0}, "All weights of 'train' are 0"),
        ({"a": -1.0, "b": 2.0}, "finite and >= 0"),
        ({"a": float("nan"), "b": 2.0}, "finite and >= 0"),
        ({"a": 1e-9, "b": 1.0}, "factor of a million"),
    ],
)
def test_weights_that_do_not_fit_are_refused(weights, message):
    with pytest.raises(DataError, match=message):
        BatchStream(make_set(4, ["a", "a", "b", "b"], weights), 2)


def test_out_of_range_arguments_are_refused():
    with pytest.raises(ConfigurationError, match="batch_size is 0"):
        BatchStream(make_set(4), 0)
    with pytest.raises(ConfigurationError, match="seed is -1"):
        BatchStream(make_set(4), 2, seed=-1)
    with pytest.raises(ConfigurationError, match="step is -1"):
        BatchStream(make_set(4), 2).batch(-1)


PLAIN = [6, 5, 1, 4, 3, 0, 2, 7, 0, 5, 2, 3, 4, 1, 6, 7]
WEIGHTED = [7, 6, 5, 7, 1, 4, 6, 6, 3, 0, 2, 0, 5, 7, 2, 6]
