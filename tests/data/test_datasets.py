"""Datasets of dicts as examples: what arrives, how it is split, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.datasets import dataset_data, examples_from_dataset
from dr_keras.data.overlap import content_keys
from dr_keras.data.splits import part_of
from dr_keras.errors import ConfigurationError, DataError

EQUAL = {"train": 0.25, "outer": 0.25, "validation": 0.25, "test": 0.25}


def table(rows=200, seed=0, **columns):
    rng = np.random.default_rng(seed)
    return {
        "id": [f"r{seed}-{row}" for row in range(rows)],
        "x": rng.normal(size=(rows, 3)),
        "n": rng.integers(0, 9, rows),
        **columns,
    }


def dataset(**arguments):
    return tf.data.Dataset.from_tensor_slices(table(**arguments))


def test_parts_hold_every_row_once_with_its_features():
    parts = dataset_data(dataset, fractions=EQUAL, name="mine")
    whole = table()
    rows = {identity: row for row, identity in enumerate(whole["id"])}
    ids = [identity for _, part in parts.items() for identity in part.ids]
    assert sorted(ids) == sorted(whole["id"])
    for _, part in parts.items():
        assert 20 < len(part) < 80
        chosen = [rows[identity] for identity in part.ids]
        assert part.features["x"].dtype == np.float32
        assert np.array_equal(part.features["x"], whole["x"][chosen].astype(np.float32))
        assert np.array_equal(part.features["n"], whole["n"][chosen])
        assert set(part.sources) == set(part.corpora) == {"mine"}


def test_a_row_stays_in_its_part_when_others_join_and_twins_stay_together():
    few = dataset_data(dataset(rows=100), fractions=EQUAL)
    doubled = table(rows=100)
    twins = {key: np.concatenate([np.asarray(v), np.asarray(v)]) for key, v in doubled.items()}
    twins["id"] = [*doubled["id"], *(f"twin-{i}" for i in doubled["id"])]
    many = dataset_data(tf.data.Dataset.from_tensor_slices(twins), fractions=EQUAL)
    for name, part in few.items():
        expected = {*part.ids, *(f"twin-{i}" for i in part.ids)}
        assert set(dict(many.items())[name].ids) == expected


def test_the_part_is_that_of_the_content_hash():
    parts = dataset_data(dataset, fractions=EQUAL)
    for name, part in parts.items():
        assert {part_of(key, EQUAL) for key in content_keys(part.features)} == {name}


def test_known_columns_become_labels_and_sources_are_read():
    made = dataset(level=np.linspace(0, 1, 200), kind=["a", "b"] * 100, where=["s", "t"] * 100)
    examples = examples_from_dataset(made, "mine", source_feature="where", known=["level", "kind"])
    assert set(examples.features) == {"x", "n"}
    assert examples.labels["level"][-1] == 1.0 and list(examples.labels["kind"][:2]) == ["a", "b"]
    assert examples.counts_by_source() == {"s": 100, "t": 100}


def test_held_out_parts_with_data_of_their_own():
    shares = {"train": 0.5, "outer": 0.5, "validation": 0, "test": 0}
    parts = dataset_data(
        dataset,
        outer=dataset(seed=1),
        validation=dataset(seed=2),
        test=dataset(seed=3),
        fractions=shares,
    )
    assert [len(part) for _, part in parts.items()][1:] == [200, 200, 200]
    assert 70 < len(parts.train) < 130  # what would have been outer is used nowhere
    assert parts.outer.ids[0] == "r1-0"


def test_whole_numbers_are_ids_too():
    made = tf.data.Dataset.from_tensor_slices({"id": [3, 1], "x": [[1.0], [2.0]]})
    assert examples_from_dataset(made, "mine").ids.tolist() == ["3", "1"]


@pytest.mark.parametrize(
    "columns, error, message",
    [
        (
            {"id": ["a", "b", "a", "c"]},
            DataError,
            r"The id 'a' of 'corpus' repeats: rows 0 and 2 have it \(from 0\)",
        ),
        ({"id": [0.5, 1.5, 2.5, 3.5]}, ConfigurationError, "ids of 'corpus' are float32: use str"),
        ({"name": ["x"] * 4}, ConfigurationError, "The feature 'name' of 'corpus' is text, which"),
        (
            {"x": [1.0, float("nan"), 2.0, float("inf")]},
            DataError,
            "The feature 'x' of 'corpus' is not finite in 2 of 4 rows, first in '1'",
        ),
    ],
    ids=["repeated id", "float ids", "text feature", "nan"],
)
def test_columns_that_cannot_be_used(columns, error, message):
    made = {"id": [0, 1, 2, 3], "x": [1.0, 2.0, 3.0, 4.0], **columns}
    with pytest.raises(error, match=message):
        dataset_data(tf.data.Dataset.from_tensor_slices(made), fractions=EQUAL)


@pytest.mark.parametrize(
    "corpus, message",
    [
        (lambda: [1, 2], "must give a tf.data.Dataset of dicts .*not list"),
        (lambda: tf.data.Dataset.range(3), "must give a tf.data.Dataset of dicts"),
        (lambda: dataset().map(lambda row: {"x": row["x"]}), r"have no 'id', only \['x'\]"),
        (lambda: dataset().batch(4), r"'id' of 'corpus' has shape \(None,\): .*batched\?"),
        (lambda: dataset().map(lambda row: {"id": row["id"]}), "have no features beside"),
    ],
    ids=["list", "numbers", "no id", "batched", "no features"],
)
def test_what_is_no_corpus(corpus, message):
    with pytest.raises(ConfigurationError, match=message):
        dataset_data(corpus)


def test_rows_of_differing_shapes_are_named():
    def rows():
        yield {"id": "a", "x": np.zeros(3, np.float32)}
        yield {"id": "b", "x": np.zeros(4, np.float32)}

    spec = {"id": tf.TensorSpec([], tf.string), "x": tf.TensorSpec([None], tf.float32)}
    made = tf.data.Dataset.from_generator(rows, output_signature=spec)
    with pytest.raises(DataError, match="The dataset of 'mine' cannot be read .*need one shape"):
        examples_from_dataset(made, "mine")


def test_an_empty_dataset_and_an_empty_part():
    with pytest.raises(DataError, match="The dataset of 'corpus' has no rows"):
        dataset_data(dataset().take(0))
    only_train = {"train": 1.0, "outer": 0.0, "validation": 0.0, "test": 0.0}
    with pytest.raises(DataError, match="give the part 'outer' no examples: .*dataset_data.outer"):
        dataset_data(dataset, fractions=only_train)


def test_parts_that_overlap_or_differ_are_refused():
    again = dataset().map(lambda row: {**row, "id": tf.strings.join(["again-", row["id"]])})
    with pytest.raises(DataError, match="'train' and 'test' overlap: 51 .*'r0-1' and 'again-r0-1'"):
        dataset_data(dataset, test=again, fractions=EQUAL)
    other = dataset(seed=1).map(lambda row: {"id": row["id"], "x": row["x"]})
    with pytest.raises(DataError, match="The features of 'outer' are .*make them alike"):
        dataset_data(dataset, outer=other, fractions=EQUAL)


def test_several_outer_sets_by_name_share_rows_with_each_other_alone():
    shares = {"train": 0.5, "outer": 0.25, "validation": 0.25, "test": 0}
    sets = {"own": None, "one": dataset(seed=1), "two": dataset(seed=1)}
    parts = dataset_data(dataset, outer=sets, test=dataset(seed=3), fractions=shares)
    assert {name: len(one) for name, one in parts.outer_sets.items()} == {
        "own": len(parts.outer) - 200,
        "one": 200,
        "two": 200,
    }
    assert parts.disjoint and set(parts.outer_sets["own"].ids).isdisjoint(parts.train.ids)
    with pytest.raises(DataError, match="'outer/one' and 'test' overlap: 200 examples"):
        dataset_data(dataset, outer=sets, test=dataset(seed=1), fractions=shares)
    with pytest.raises(DataError, match=r"the part 'outer/own' no .*dataset_data.outer\['own'\]"):
        nothing = {"train": 0.5, "outer": 0, "validation": 0.25, "test": 0.25}
        dataset_data(dataset, outer={"own": None}, fractions=nothing)
