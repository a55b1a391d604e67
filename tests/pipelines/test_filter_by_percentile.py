from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines.transformations import filter_by_percentile
from dr_keras.rating.example_ids import uniform_hash
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide

UNIFORM = ReferenceDistribution(np.linspace(0, 1, 1001))
SCORES = np.random.default_rng(1).uniform(size=1000).astype(np.float32)
SCORES[[3, 700]] = np.nan


def kept_rows(scores, discard_fraction, batch_size, seed, reference=UNIFORM):
    """What the decisions of a filtered corpus are, by plain Python ids."""
    ids = [str(row) for row in range(len(scores))]
    found = decide(ids, scores, discard_fraction, batch_size, seed, reference=reference)
    return np.flatnonzero(found.keep).tolist()


@pytest.mark.parametrize("discard_fraction, batch_size", [(0.5, 64), (0.9, 4), ("0.1", 9), (0, 8)])
@pytest.mark.parametrize("group", [None, 7])
def test_decides_as_python_does_by_id(table, values, discard_fraction, batch_size, group):
    rows = tf.data.Dataset.range(1000)
    rows = rows if group is None else rows.batch(group)
    kept = rows.apply(
        filter_by_percentile(
            table(SCORES), discard_fraction, batch_size, seed=5, reference=UNIFORM, rows_a_call=33
        )
    )
    expected = kept_rows(SCORES, discard_fraction, batch_size, 5)
    if group is None:
        assert values(kept) == expected
        assert kept.element_spec == tf.TensorSpec([], tf.int64)
    else:
        batches = values(kept)
        assert {len(batch) for batch in batches[:-1]} <= {batch_size}
        assert sum(batches, []) == expected
    assert (len(expected) == 1000) == (discard_fraction == 0)


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(
        st.one_of(st.floats(width=32), st.sampled_from([0.0, -0.0, 0.25, 0.5, 1.0])), max_size=40
    ),
    batch_size=st.integers(1, 9),
    thousandths=st.integers(0, 999),
    seed=st.integers(-(2**63), 2**63 - 1),
)
def test_equals_a_numpy_reference_on_any_scores(scores, batch_size, thousandths, seed):
    scores = np.array(scores, np.float32)
    fraction = thousandths / 1000
    rater = lambda rows: tf.gather(tf.constant(scores), rows)  # noqa: E731
    rows = tf.data.Dataset.range(len(scores))
    kept = rows.apply(
        filter_by_percentile(rater, fraction, batch_size, seed, reference=UNIFORM, rows_a_call=16)
    )
    assert list(kept.as_numpy_iterator()) == kept_rows(scores, fraction, batch_size, seed)


def test_ids_name_a_field_or_are_computed_and_texts_are_their_own(values):
    names = [f"document/{n}" for n in range(300)]
    rater = lambda text: {  # noqa: E731
        "score": tf.cast(tf.strings.length(text), tf.float32),
        "percentile": tf.fill(tf.shape(text), 0.5),
    }
    by_name = np.array(names)[uniform_hash(names, 3) < 0.5].tolist()
    rows = tf.data.Dataset.from_tensor_slices({"text": ["same"] * 300, "id": names})
    for ids in ("id", lambda batch: batch["id"]):
        kept = rows.apply(filter_by_percentile(rater, 0.5, 8, 3, key="text", ids=ids))
        assert [row["id"].decode() for row in kept.as_numpy_iterator()] == by_name
    # equal texts share a draw
    assert len(list(rows.apply(filter_by_percentile(rater, 0.5, 8, 3, key="text")))) in (0, 300)
    texts = tf.data.Dataset.from_tensor_slices(names)
    kept = texts.apply(filter_by_percentile(rater, 0.5, 8, 3))
    assert [text.decode() for text in values_of(kept)] == by_name


def values_of(dataset):
    return list(dataset.as_numpy_iterator())


def test_decisions_do_not_depend_on_batches_or_order():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 2)).astype(np.float32)
    rater = lambda x: x[:, 0]  # noqa: E731
    reference = ReferenceDistribution.from_scores(x[:, 0])

    def kept(rows, size):
        made = tf.data.Dataset.from_tensor_slices(x[rows]).apply(
            filter_by_percentile(rater, 0.4, 8, reference=reference, rows_a_call=size)
        )
        return {tuple(row) for row in made.as_numpy_iterator()}

    order = np.arange(200)
    assert kept(order, 200) == kept(order, 1) == kept(rng.permutation(order), 13)


def test_facts_and_what_was_dropped_come_out_where_asked_for(table):
    rows = tf.data.Dataset.range(1000)
    settings_ = dict(discard_fraction=0.5, batch_size=16, seed=2, reference=UNIFORM)
    plain = list(rows.apply(filter_by_percentile(table(SCORES), **settings_)).as_numpy_iterator())
    scored = rows.apply(filter_by_percentile(table(SCORES), emit_scores=True, **settings_))
    assert scored.element_spec[1]["keep_probability"] == tf.TensorSpec([], tf.float64)
    found = decide([str(n) for n in range(1000)], SCORES, 0.5, 16, 2, reference=UNIFORM)
    for row, facts in scored.as_numpy_iterator():
        assert facts["score"] == SCORES[row]
        assert facts["percentile"] == found.percentile[row]
        assert facts["keep_probability"] == found.probability[row]
    assert [row for row, _ in scored.as_numpy_iterator()] == plain

    both = rows.apply(filter_by_percentile(table(SCORES), emit_dropped=True, **settings_))
    marked = list(both.as_numpy_iterator())
    assert [row for row, _ in marked] == list(range(1000))
    assert [row for row, facts in marked if facts["kept"]] == plain
    assert set(marked[0][1]) == {"kept"}


def test_examples_keep_their_structure_ragged_and_none_too():
    x = {"ids": tf.ragged.constant([[1], [2, 2], [], [4]])}
    dataset = tf.data.Dataset.from_tensor_slices((x, tf.constant(["a", "b", "c", "d"])))
    count = lambda rows: tf.fill([tf.shape(rows)[0]], 0.5)  # noqa: E731
    rater = lambda ids: {"score": count(ids), "percentile": count(ids)}  # noqa: E731
    kept = list(dataset.apply(filter_by_percentile(rater, 0, 3, key="ids")))
    assert [row["ids"].numpy().tolist() for row, _ in kept] == [[1], [2, 2], [], [4]]
    with_none = dataset.map(lambda x, y: (y, None, 1))
    kept = list(with_none.apply(filter_by_percentile(rater, 0, 3)))
    assert [(y.numpy(), none, one.numpy()) for y, none, one in kept] == [
        (b"a", None, 1),
        (b"b", None, 1),
        (b"c", None, 1),
        (b"d", None, 1),
    ]


def test_iterators_can_be_checkpointed(dense_rater, resumes):
    x = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    filter_ = filter_by_percentile(dense_rater, 0.3, 4, reference=UNIFORM)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    resumes(dataset.apply(filter_).prefetch(2), 9)
    resumes(dataset.batch(3).apply(filter_), 3)


def test_works_under_interleave_and_shard(dense_rater):
    x = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    filter_ = filter_by_percentile(dense_rater, 0.3, 4, reference=UNIFORM)

    def shard(index):
        return tf.data.Dataset.from_tensor_slices(x).shard(2, index).apply(filter_)

    dataset = tf.data.Dataset.range(2).interleave(shard, cycle_length=2)
    whole = tf.data.Dataset.from_tensor_slices(x).apply(filter_)
    assert sorted(map(tuple, dataset.as_numpy_iterator())) == sorted(
        map(tuple, whole.as_numpy_iterator())
    )


def test_batches_are_static_where_a_short_last_one_is_left_out(dense_rater):
    x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(x).batch(7)
    kept = dataset.apply(
        filter_by_percentile(dense_rater, 0, 8, reference=UNIFORM, drop_remainder=True)
    )
    assert kept.element_spec == tf.TensorSpec([8, 2])
    np.testing.assert_array_equal(np.concatenate(values_of(kept)), x[:48])


def test_what_is_missing_or_wrong_is_said_before_any_data_is_read(table):
    rows = tf.data.Dataset.range(4)
    with pytest.raises(ConfigurationError, match="scores and no percentiles.*give reference"):
        rows.apply(filter_by_percentile(table([1.0] * 4), 0.5, 2))
    with pytest.raises(ConfigurationError, match=r"no field 'name' \(\['id'\]\)"):
        rows.map(lambda n: {"id": n}).apply(
            filter_by_percentile(table([1.0] * 4), 0.5, 2, key="name", reference=UNIFORM)
        )
    with pytest.raises(ConfigurationError, match="no field 'name'"):
        rows.map(lambda n: {"id": n}).apply(
            filter_by_percentile(table([1.0] * 4), 0.5, 2, key="id", ids="name", reference=UNIFORM)
        )
    with pytest.raises(ConfigurationError, match="rows_a_call is 0"):
        filter_by_percentile(table([1.0]), 0.5, 2, rows_a_call=0)
    with pytest.raises(ConfigurationError, match="discard_fraction is 1.0"):
        filter_by_percentile(table([1.0]), 1.0, 2)
