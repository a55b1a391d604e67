"""Experiments: where a rater goes on from, and the held-out sets of the meta-objective."""

import dataclasses

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import ArtefactError, CheckpointError, ConfigurationError, DataError
from dr_keras.meta.seeds import seeded
from dr_keras.models.text_models import text_rater
from dr_keras.runs.experiment import build_rater, experiment, with_outer_sets
from dr_keras.serving.export import export_examples
from dr_keras.serving.loading import load_rater
from dr_keras.serving.weights import canonical_names

ROWS = {
    "x": np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32),
    "target": np.zeros((12, 1), np.float32),
}


def rows(name, first=0, last=12, **features):
    ids = np.array([f"{name}-{row}" for row in range(first, last)], object)
    shown = features or {key: value[first:last] for key, value in ROWS.items()}
    return ExampleSet(shown, ids, ids, ids, name=name)


def dense_rater(width=4, hidden=1, dropout=0.0):
    """Layers without names of their own: Keras numbers them through the whole process."""
    x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
    found = keras.layers.Concatenate()([x, y])
    for _ in range(hidden):
        found = keras.layers.Dense(width, activation="tanh")(found)
        found = keras.layers.Dropout(dropout)(found)
    return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(found), name="rater")


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """(a rater, its export)"""
    with seeded(7):
        rater = dense_rater()
    folder = tmp_path_factory.mktemp("old")
    scores = rater.predict(ROWS, verbose=0)[:, 0]
    return rater, export_examples(rater, rows("r"), scores, str(folder / "export"), {})


def test_a_rater_goes_on_from_an_exported_one(old):
    rater, path = old
    expected = rater.predict(ROWS, verbose=0)[:, 0]
    dense_rater()  # moves the numbers on
    for place in (path, path.rpartition("/")[0]):
        found = build_rater(lambda: dense_rater(dropout=0.5), 0, place)
        np.testing.assert_array_equal(found.predict(ROWS, verbose=0)[:, 0], expected)
    np.testing.assert_allclose(load_rater(path)(ROWS)["score"], expected, rtol=1e-5)
    assert not np.allclose(build_rater(dense_rater, 0).predict(ROWS, verbose=0)[:, 0], expected)


def test_a_shipped_rater_is_known_by_its_name():
    tokens = np.random.default_rng(0).integers(1, 257, (4, 128)).astype(np.int32)
    found = build_rater(lambda: text_rater(258, 128), 0, "damaged_prose")
    expected = load_rater("damaged_prose").score_tokens(tokens)["score"]
    np.testing.assert_allclose(found({"tokens": tokens}).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"width": 5}, r"shapes differ: dense\w*/kernel is \(4, 5\), exported \(4, 4\)"),
        ({"hidden": 2}, r"'rater': the exported rater has no dense_\d+/kernel, dense_\d+/bias;"),
        ({"hidden": 0}, r"this rater has no dense_\d+/bias, dense_\d+/kernel; shapes differ"),
    ],
    ids=["width", "layer more", "layer less"],
)
def test_an_exported_rater_of_another_architecture_says_which_weights(old, options, message):
    with pytest.raises(CheckpointError, match=message):
        build_rater(lambda: dense_rater(**options), 0, old[1])


def test_a_rater_goes_on_from_a_file_of_weights(old, tmp_path):
    rater, _ = old
    path = str(tmp_path / "mine.weights.h5")
    rater.save_weights(path)
    found = build_rater(dense_rater, 0, path)
    np.testing.assert_array_equal(found.predict(ROWS, verbose=0), rater.predict(ROWS, verbose=0))
    with pytest.raises(CheckpointError, match="mine.weights.h5 cannot be loaded: .* than 'rater'"):
        build_rater(lambda: dense_rater(width=5), 0, path)
    # Keras would load the layers that are there, and say nothing of the others
    text_rater(9, 6, width=4, layer_count=2, heads=1).save_weights(path)
    with pytest.raises(
        CheckpointError, match="mine.weights.h5 has 5\\d\\d weights .*_rater' 2\\d\\d"
    ):
        build_rater(lambda: text_rater(9, 6, width=4, layer_count=1, heads=1), 0, path)
    (tmp_path / "mine.txt").write_text("nothing")
    with pytest.raises(CheckpointError, match="mine.txt cannot be loaded"):
        build_rater(dense_rater, 0, str(tmp_path / "mine.txt"))


def test_what_is_no_rater_is_told_what_may_be_one(tmp_path):
    for place in (tmp_path, tmp_path / "absent", f"{tmp_path}@7"):
        with pytest.raises(CheckpointError, match="holds no rater; name .*export_rater.*damaged_p"):
            build_rater(dense_rater, 0, str(place))
    (tmp_path / "rater.json").write_text("{}")
    with pytest.raises(ArtefactError, match="does not describe a dr_keras rater"):
        build_rater(dense_rater, 0, str(tmp_path))


def test_numbers_of_layers_count_by_their_order_alone():
    ours = ["dense_9/kernel", "dense_12/kernel", "block_0/dense_10/bias", "block_1/dense/bias"]
    theirs = ["dense/kernel", "dense_2/kernel", "block_0/dense_7/bias", "block_1/dense_8/bias"]
    assert canonical_names(ours) == canonical_names(theirs)
    assert len({*canonical_names(["a", "a_0", "a_1", "a_1/b", "a/b"])}) == 5


# ------------------------------------------------------------------------------- held-out sets


@pytest.fixture
def parts():
    return Parts(*(rows(n, k, k + 3) for k, n in zip((0, 3, 6, 9), ("t", "o", "v", "e"))))


def choices(name="choices"):
    return rows(name, 0, 5, choices=np.zeros((5, 2, 3), np.int32), gold=np.zeros(5, np.int32))


def test_held_out_sets_join_those_of_the_data_replace_or_leave_them_out(parts):
    joined = with_outer_sets(parts, {"choices": choices})
    assert list(joined.outer_sets) == ["outer", "choices"] and joined.outer is parts.outer
    assert joined.fingerprint != parts.fingerprint and joined.train.ids[0] == "t-0"
    other = rows("new", 5, 7)
    assert with_outer_sets(parts, {"outer": other}).outer_sets == {"outer": other}
    alone = with_outer_sets(parts, {"outer": None, "choices": choices()})
    assert list(alone.outer_sets) == ["choices"]
    assert with_outer_sets(parts, {}).fingerprint == parts.fingerprint
    with pytest.raises(ConfigurationError, match="experiment.outer_sets has no set"):
        with_outer_sets(parts, {"outer": None})
    with pytest.raises(ConfigurationError, match=r"outer_sets\['b'\] is list: give an ExampleSet"):
        with_outer_sets(parts, {"b": lambda: [1]})


def test_held_out_examples_that_are_trained_on_are_refused_or_dropped(parts, monkeypatch):
    shared = rows("copy", 2, 5)
    overlapping = dataclasses.replace(parts, outer=shared)
    with pytest.raises(DataError, match="'outer' overlaps 'train': 1 examples .*'copy-2' has the"):
        experiment(overlapping, dense_rater, dense_rater)
    dropped = experiment(overlapping, dense_rater, dense_rater, on_overlap="drop").parts
    assert dropped.train.ids.tolist() == ["t-0", "t-1"] and len(dropped.outer) == 3
    # who made the parts may have seen to it, but not for what joins them
    trusted = dataclasses.replace(overlapping, disjoint=True)
    assert len(with_outer_sets(trusted, {}).train) == 3
    with pytest.raises(DataError, match="'more' overlaps 'train': 1 examples"):
        with_outer_sets(trusted, {"more": shared})
