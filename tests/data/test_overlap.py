"""What is held out and trained on as well is found, by id or by what it holds."""

import dataclasses

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.data.overlap import train_apart
from dr_keras.errors import DataError


def rows(first, count, prefix="t", dtype=np.float32, **features):
    x = np.arange(first, first + count, dtype=dtype)[:, None]
    ids = np.array([f"{prefix}{n}" for n in range(first, first + count)], object)
    return ExampleSet({"x": x, **features}, ids, ids, ids, name="rows")


def test_rows_with_the_same_features_or_ids_are_named_and_counted():
    train = rows(0, 10)
    assert train_apart(train, {"a": rows(10, 5), "b": rows(20, 5)}) is train
    with pytest.raises(DataError) as error:
        train_apart(train, {"a": rows(10, 5), "b": rows(7, 9, "other", np.float64)})
    said = str(error.value)
    assert "The held-out set 'b' overlaps 'train': 3 examples lie in both" in said
    assert "'other7' has the features of 't7'" in said and "on_overlap = 'drop'" in said
    renamed = dataclasses.replace(rows(30, 2), ids=np.array(["t3", "u"], object))
    with pytest.raises(DataError, match="1 examples .*'t3' is the id .* an id of its own"):
        train_apart(train, {"a": renamed})


def test_dropped_from_train_with_every_copy():
    train = rows(0, 10).take([*range(10), 2])
    left = train_apart(train, {"a": rows(2, 1, "other"), "b": rows(9, 4)}, "drop")
    assert left.ids.tolist() == ["t0", "t1", *(f"t{n}" for n in range(3, 9))]


def test_sets_with_other_features_are_other_data():
    train = rows(0, 3, y=np.zeros(3))
    assert train_apart(train, {"a": rows(0, 3)}) is train  # no y: not the same kind of example
    with pytest.raises(DataError, match="3 examples"):
        train_apart(rows(0, 3), {"a": train})  # more than what training reads
