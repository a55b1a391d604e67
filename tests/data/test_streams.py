"""Streams are a pure function of (seed, step) and use every example once an epoch."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

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
@hypothesis.settings(deadline=None)
def test_each_epoch_holds_every_row_once(rows, batch_size, seed):
    hypothesis.assume(batch_size <= rows)
    stream = BatchStream(make_set(rows), batch_size, seed)
    epochs = draws(stream, 3 * rows)[: 3 * rows].reshape(3, rows)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(rows), (3, 1)))


@hypothesis.given(steps=st.lists(st.integers(0, 10_000), min_size=1, max_size=20))
@hypothesis.settings(deadline=None)
def test_a_batch_does_not_depend_on_what_was_read_before(steps):
    for weights in (None, {"one": 2.0, "two": 1.0}):
        examples = make_set(30, ["one"] * 20 + ["two"] * 10, weights)
        used = BatchStream(examples, 7, seed=3)
        for step in steps:
            fresh = BatchStream(examples, 7, seed=3)
            np.testing.assert_array_equal(used.indices(step), fresh.indices(step))


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


PLAIN = [4, 1, 6, 3, 2, 7, 5, 0, 2, 5, 7, 1, 3, 4, 0, 6]
WEIGHTED = [4, 1, 6, 7, 6, 3, 7, 6, 7, 2, 6, 5, 0, 7, 2, 6]
