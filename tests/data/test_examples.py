"""Example sets keep their rows together and know when they are not the same."""

import dataclasses

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, Parts, document_ids, joined
from dr_keras.errors import ConfigurationError, DataError


def strings(*values):
    return np.array(values, dtype=object)


def make_set(rows=4, **changes):
    fields = dict(
        features={"tokens": np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)},
        ids=strings(*(f"doc#{i}" for i in range(rows))),
        sources=strings(*("ab"[i % 2] for i in range(rows))),
        corpora=strings(*["books"] * rows),
        labels={"level": np.linspace(0, 1, rows, dtype=np.float32)},
        name="train",
    )
    return ExampleSet(**{**fields, **changes})


def test_take_keeps_every_array_in_step():
    taken = make_set().take([2, 0], name="some")
    np.testing.assert_array_equal(taken.features["tokens"], [[6, 7, 8], [0, 1, 2]])
    assert taken.ids.tolist() == ["doc#2", "doc#0"]
    assert taken.sources.tolist() == ["a", "a"]
    np.testing.assert_allclose(taken.labels["level"], [2 / 3, 0])
    assert taken.name == "some" and make_set().take([0]).name == "train"


def test_take_accepts_masks_slices_and_nothing():
    mask = np.array([False, True, False, True])
    assert make_set().take(mask).ids.tolist() == ["doc#1", "doc#3"]
    assert make_set().take(slice(1, 3)).ids.tolist() == ["doc#1", "doc#2"]
    assert len(make_set().take([])) == 0
    assert make_set().take([]).features["tokens"].shape == (0, 3)


def test_rows_of_different_lengths_are_refused_by_name():
    with pytest.raises(DataError, match=r"'train' has 4 ids but 3 rows in labels\['level'\]"):
        make_set(labels={"level": np.zeros(3)})
    with pytest.raises(DataError, match="no features"):
        make_set(features={})


def test_fingerprint_sees_content_and_order_but_not_labels_or_names():
    base = make_set()
    assert base.fingerprint == make_set().fingerprint
    assert base.fingerprint == make_set(name="x", labels={}).fingerprint
    other = [
        base.take([1, 0, 2, 3]),
        make_set(ids=strings("doc#0", "doc#1", "doc#2", "doc#9")),
        make_set(features={"tokens": np.arange(12, dtype=np.int64).reshape(4, 3)}),
        make_set(weights={"books": 1.0}),
        make_set(3),
    ]
    assert len({base.fingerprint, *(s.fingerprint for s in other)}) == 6


def test_counts_by_source_puts_the_largest_first():
    counts = make_set(5).counts_by_source()
    assert list(counts.items()) == [("a", 3), ("b", 2)]


def test_text_renders_one_row():
    examples = make_set(render=lambda row: "-".join(map(str, row["tokens"])))
    assert examples.text(1) == "3-4-5"
    assert make_set().text(1) == "doc#1"


def test_parts_fingerprint_depends_on_which_part_holds_what():
    one, two = make_set(3), make_set(4)
    parts = Parts(train=one, outer=two, validation=two, test=two)
    moved = dataclasses.replace(parts, train=two, outer=one)
    assert parts.fingerprint != moved.fingerprint
    assert [name for name, _ in parts.items()] == ["train", "outer", "validation", "test"]


def test_windows_go_with_their_document():
    ids = strings("doc0#0", "doc0#1", "doc1#0", "whole")
    found = document_ids(make_set(ids=ids))
    assert found.tolist() == ["doc0", "doc0", "doc1", "whole"]


def tokens_from(first, rows, prefix, **changes):
    tokens = first + np.arange(rows * 3, dtype=np.int32).reshape(rows, 3)
    ids = strings(*(f"{prefix}#{i}" for i in range(rows)))
    return make_set(rows, features={"tokens": tokens}, ids=ids, **changes)


def test_joined_sets_hold_each_example_once_under_ids_of_their_own():
    one, other = tokens_from(0, 3, "a"), tokens_from(90, 2, "b", labels={})
    whole = joined({"one": one, "two": other}, "outer")
    assert whole.ids.tolist() == ["a#0", "a#1", "a#2", "b#0", "b#1"] and not whole.labels
    assert whole.features["tokens"][3].tolist() == [90, 91, 92] and whole.name == "outer"
    shared = joined({"one": one, "two": one.take([2, 0])}, "outer")
    assert shared.fingerprint == one.fingerprint
    # the same ids for other rows: whose they are is said
    clashing = joined({"one": one, "two": tokens_from(90, 2, "a")}, "outer")
    assert clashing.ids.tolist() == ["a#0", "a#1", "a#2", "two/a#0", "two/a#1"]


def test_parts_know_one_outer_set_or_several():
    train, one, two = (tokens_from(n, 3, f"p{n}") for n in (0, 20, 40))
    rest = {"train": train, "validation": two, "test": two}
    single = Parts.of({**rest, "outer": one})
    assert single.outer_sets == {"outer": one}
    assert single.fingerprint == Parts(train, one, two, two).fingerprint  # as of runs before names
    several = Parts.of({**rest, "outer/x": one, "outer/y": two})
    assert list(several.outer_sets) == ["x", "y"] and len(several.outer) == 6
    renamed = Parts.of({**rest, "outer/z": one, "outer/y": two})
    assert len({parts.fingerprint for parts in (single, several, renamed)}) == 3


def test_outer_sets_with_other_features_are_no_part_of_the_whole():
    train, other = tokens_from(0, 3, "a"), make_set(features={"choices": np.zeros([4, 2, 3])})
    rest = {"train": train, "validation": train, "test": train}
    mixed = Parts.of({**rest, "outer/text": tokens_from(20, 2, "b"), "outer/choices": other})
    assert len(mixed.outer) == 2 and len(mixed.outer_sets["choices"]) == 4
    alone = Parts.of({**rest, "outer/choices": other})
    assert len(alone.outer) == 0 and list(alone.outer_sets) == ["choices"]


@pytest.mark.parametrize("sets", [{}, {"a/b": 0}, {"": 0}, {3: 0}], ids=str)
def test_names_of_outer_sets_that_are_none(sets):
    one = make_set()
    with pytest.raises(ConfigurationError, match="without '/'"):
        Parts(one, one, one, one, named_outer=dict.fromkeys(sets, one))
