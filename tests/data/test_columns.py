"""Columns give what the arrays behind them give, however they are asked."""

from collections import Counter
import pickle

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from dr_keras.data.array_files import ArrayFile
from dr_keras.data.columns import Chosen, Column, Joined, Runs, row_numbers
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.parquet_columns import ParquetColumn
from dr_keras.errors import DataError

ROWS = 40
TOKENS = np.arange(ROWS * 3, dtype=np.uint16).reshape(ROWS, 3)
NAMES = objects(f"name {k}" if k % 7 else None for k in range(ROWS))
CORPORA = objects("b" if k < 11 else "a" for k in range(ROWS))


@pytest.fixture(scope="module")
def columns(tmp_path_factory) -> dict[str, tuple[Column, np.ndarray]]:
    """Column -> (column, the array that it stands for)."""
    folder = tmp_path_factory.mktemp("columns")
    files, texts = [], []
    for number, part in enumerate(np.split(np.arange(ROWS), [15, 16])):
        path = f"{folder}/{number}.npy"
        np.save(path, TOKENS[part])
        files.append(ArrayFile(path, (len(part), 3), np.uint16, f"{number}"))
        path = f"{folder}/{number}.parquet"
        table = pyarrow.table({"x": pyarrow.array(NAMES[part]).dictionary_encode()})
        pyarrow.parquet.write_table(table, path, row_group_size=4)
        texts.append(ParquetColumn(path, "x", len(part), object, f"{number}"))
    order = np.random.default_rng(0).permutation(ROWS)
    tokens = Joined(files, np.int32)
    return {
        "files": (tokens, TOKENS.astype(np.int32)),
        "texts": (Joined(texts), NAMES),
        "runs": (Runs(["b", "a", "a"], [11, 9, 20]), CORPORA),
        "chosen": (tokens.take(order).take(order[:25]), TOKENS.astype(np.int32)[order][order[:25]]),
    }


@pytest.mark.parametrize("name", ["files", "texts", "runs", "chosen"])
@given(data=st.data())
def test_a_column_is_indexed_like_its_array(columns, name, data):
    column, array = columns[name]
    numbers = st.integers(-len(array), len(array) - 1)
    asked = data.draw(
        st.one_of(
            numbers,
            st.lists(numbers, max_size=9).map(lambda rows: np.array(rows, np.int64)),
            st.lists(numbers, min_size=6, max_size=6).map(lambda rows: np.reshape(rows, (2, 3))),
            st.lists(st.booleans(), min_size=len(array), max_size=len(array)).map(np.array),
            st.slices(len(array)),
        )
    )
    found, wanted = column[asked], array[asked]
    assert np.array_equal(found, wanted) and np.shape(found) == np.shape(wanted)
    if not np.isscalar(asked):
        assert found.dtype == array.dtype


@pytest.mark.parametrize("name", ["files", "texts", "runs", "chosen"])
def test_a_column_as_a_whole(columns, name):
    column, array = columns[name]
    assert np.array_equal(np.asarray(column), array) and column.shape == array.shape
    assert list(map(str, column)) == list(map(str, array))
    assert np.array_equal(column == array, array == array)
    sent = pickle.loads(pickle.dumps(column))
    assert len(pickle.dumps(column)) < 2000  # by path, not by content
    assert np.array_equal(sent[:], array) and sent.fingerprint == column.fingerprint
    if array.ndim == 1:
        assert column.counts() == Counter(array.tolist())
    else:
        assert np.array_equal(column[:, 1:], array[:, 1:])
    for beyond in (len(array), -len(array) - 1):
        with pytest.raises(IndexError):
            column[beyond]


def test_fingerprints_stand_for_the_rows_and_their_order(columns):
    column, _ = columns["files"]
    rows = np.array([3, 1, 2])
    same, other, whole = (
        Chosen(column, r).fingerprint for r in (rows, rows[::-1], np.arange(ROWS))
    )
    assert same == Chosen(column, rows.astype(np.uint8)).fingerprint
    assert len({same, other, whole, column.fingerprint}) == 4
    assert Runs(["a", "b"], [2, 2]).fingerprint != Runs(["a", "b"], [3, 1]).fingerprint


def test_a_file_that_lost_its_end_is_named_when_it_is_read(tmp_path):
    path = f"{tmp_path}/tokens.npy"
    np.save(path, TOKENS)
    column = ArrayFile(path, TOKENS.shape, np.uint16, "")
    with open(path, "r+b") as file:
        file.truncate(200)
    assert np.array_equal(column[2], TOKENS[2])
    with pytest.raises(DataError, match="tokens.npy is shorter than it was"):
        column[ROWS - 1]
    with pytest.raises(DataError, match="holds uint16"):
        ArrayFile(path, TOKENS.shape, np.uint8, "")
    with pytest.raises(DataError, match="no NumPy file"):
        ArrayFile(__file__, TOKENS.shape, np.uint16, "")


def test_sets_of_columns_are_sets_like_others(columns):
    def examples(values):
        tokens, names, corpora = (values[name] for name in ("files", "texts", "runs"))
        return ExampleSet({"tokens": tokens}, names, corpora, corpora, {"known": tokens[:, 0]})

    lazy = examples({name: column for name, (column, _) in columns.items()})
    whole = examples({name: array for name, (_, array) in columns.items()})
    assert lazy.counts_by_source() == whole.counts_by_source()
    for rows in (np.array([5, 5, 0]), np.arange(ROWS) % 3 == 1, slice(30, 4, -2), [], [-1]):
        some, same = lazy.take(rows), whole.take(rows)
        assert isinstance(some.features["tokens"], Column)
        assert np.array_equal(some.features["tokens"][:], same.features["tokens"])
        assert some.ids.tolist() == same.ids.tolist() and len(some) == len(same)
        assert some.counts_by_source() == same.counts_by_source()
    assert np.array_equal(lazy.thinned(7).row(3)["tokens"], whole.thinned(7).row(3)["tokens"])
    assert lazy.take([1, 2]).fingerprint == lazy.take([1, 2]).fingerprint
    assert lazy.take([1, 2]).fingerprint != lazy.take([2, 1]).fingerprint
    with pytest.raises(IndexError):
        row_numbers(np.zeros(3, bool), ROWS)
