"""Sources as a feature."""

import dataclasses
import pickle

import numpy as np
import pytest

from dr_keras.data.columns import Runs
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.source_ids import source_data, with_source
from dr_keras.errors import ConfigurationError, DataError


def example_set(sources, name="set", **features):
    sources = np.array(sources, object)
    ids = np.array([f"{name}-{n}" for n in range(len(sources))], object)
    tokens = {"tokens": np.ones((len(sources), 3), np.int32), **features}
    return ExampleSet(tokens, ids, sources, sources, name=name)


def parts(train=("b", "a", "b"), **more):
    held_out = [example_set(["target"], name) for name in ("outer", "validation", "test")]
    return Parts(example_set(train, "train"), *held_out, **more)


def test_numbers_count_from_one_and_what_is_held_out_may_come_from_elsewhere():
    questions = example_set(["q"], "pick", gold=np.zeros(1, np.int32))
    named = {"own": example_set(["a", "target"], "own"), "pick": questions}
    found = source_data(lambda: parts(named_outer=named, own_test=named["own"]), ["a", "b"])
    numbers = found.train.features["source"]
    assert numbers.dtype == np.int32 and numbers.tolist() == [2, 1, 2]
    assert found.validation.features["source"].tolist() == [0]
    assert found.own_test.features["source"].tolist() == [1, 0]
    assert found.outer_sets["own"].features["source"].tolist() == [1, 0]
    assert found.outer_sets["pick"] is questions  # of another form: it stays what it is


def test_of_sources_that_are_read_on_demand():
    plain = example_set(["a", "a", "c", "b"])
    column = dataclasses.replace(plain, sources=Runs(["a", "c", "b"], [2, 1, 1]))
    found = with_source(column, {"a": 1, "b": 2}).features["source"]
    found = pickle.loads(pickle.dumps(found))
    assert found.dtype == np.int32 and found[:].dtype == np.int32
    assert found[:].tolist() == [1, 1, 0, 2] and found[2] == 0


@pytest.mark.parametrize(
    "sources, wrong",
    [
        (["a"], "has 1 names, and the train part has a source 'b' that is not among them"),
        (["a", "b", "z"], "has 3 names, and no example of the train part is of 'z'"),
        ([], "has 0 names, and the train part has a source 'a'"),
    ],
)
def test_other_sources_are_named_with_the_line_that_is_right(sources, wrong):
    with pytest.raises(DataError, match=wrong) as caught:
        source_data(parts(), sources)
    assert "The sources are\nSOURCES = ('a', 'b')\n" in str(caught.value)


def test_settings_that_are_refused():
    for names in ("ab", ["a", "a", "b"]):
        with pytest.raises(ConfigurationError, match="source_data.sources is .* each of them once"):
            source_data(parts(), names)
    with pytest.raises(ConfigurationError, match="a feature 'source' already"):
        source_data(source_data(parts(), ["a", "b"]), ["a", "b"])
