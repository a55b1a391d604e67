from fractions import Fraction
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines.transformations import top_k
from dr_keras.rating.fractions import oversized_batch


def numpy_top_k(scores, batch_size, oversized):
    batches = []
    for first in range(0, len(scores) - oversized + 1, oversized):
        rows = list(range(first, first + oversized))
        best = sorted(rows, key=lambda i: (-scores[i], i))[:batch_size]
        batches.append(sorted(best))
    return batches


@pytest.mark.parametrize(
    "batch_size, discard_fraction, oversized", [(4, 0.5, 8), (3, 0.7, 10), (5, 0.1, 6), (4, 0, 4)]
)
def test_equals_numpy_on_fixed_scores(batch_size, discard_fraction, oversized, values):
    scores = np.random.default_rng(3).integers(0, 6, size=100).astype(np.float32)  # many ties
    rows = tf.data.Dataset.range(100)
    filtered = rows.apply(top_k(lambda i: tf.gather(scores, i), discard_fraction, batch_size))
    assert values(filtered) == numpy_top_k(scores, batch_size, oversized)


@settings(max_examples=25, deadline=None)
@given(
    scores=st.lists(
        # TensorFlow's kernels take subnormal numbers for 0, NumPy does not
        st.one_of(
            st.floats(width=32, allow_subnormal=False), st.sampled_from([0.0, -0.0, 1.0, 2.0])
        ),
        max_size=40,
    ),
    batch_size=st.integers(1, 9),
    thousandths=st.integers(0, 900),
    group=st.sampled_from([None, 1, 4, 50]),
)
def test_equals_numpy_on_any_scores_short_last_batches_too(scores, batch_size, thousandths, group):
    scores = np.array(scores, np.float32)
    fraction = thousandths / 1000
    oversized = oversized_batch(batch_size, fraction)
    ranked = np.where(np.isnan(scores), -np.inf, scores)
    whole = numpy_top_k(ranked, batch_size, oversized)
    left = np.arange(len(whole) * oversized, len(scores))
    count = math.ceil(Fraction(len(left) * batch_size, oversized))
    best = sorted(left.tolist(), key=lambda i: (-ranked[i], i))[:count]
    rows = tf.data.Dataset.range(len(scores))
    rows = rows if group is None else rows.batch(group)

    def kept(**options):
        rater = lambda i: tf.gather(tf.constant(scores), i)  # noqa: E731
        made = rows.apply(top_k(rater, fraction, batch_size, emit_dropped=True, **options))
        return [[part.tolist() for part in pair] for pair in made.as_numpy_iterator()]

    found = kept()
    assert [good for good, _ in found] == whole
    for number, (good, bad) in enumerate(found):
        first = number * oversized
        assert sorted(good + bad) == list(range(first, first + oversized)) and bad == sorted(bad)
    found = kept(drop_remainder=False)
    assert [good for good, _ in found] == whole + [sorted(best)] * bool(len(left))
    assert sorted(sum((good + bad for good, bad in found), [])) == list(range(len(scores)))


def test_keeps_the_best_in_their_order_with_static_shapes(dense_rater):
    x = np.array([[0, 0], [5, 0], [1, 0], [4, 0], [9, 30], [2, 0], [3, 0], [6, 0]], np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    filtered = dataset.apply(top_k(dense_rater, 0.5, 2, emit_scores=True))
    assert filtered.element_spec == (tf.TensorSpec([2, 2]), tf.TensorSpec([2]))
    batches = list(filtered.as_numpy_iterator())
    assert [b[0][:, 0].tolist() for b in batches] == [[5, 4], [3, 6]]
    assert [b[1].tolist() for b in batches] == [[10, 8], [6, 12]]


def test_nested_elements_ragged_and_text_go_along_with_their_example(dense_rater):
    dataset = tf.data.Dataset.from_tensor_slices(
        (
            {
                "x": tf.constant([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 9.0]]),
                "ids": tf.ragged.constant([[1], [2, 2], [], [4]]),
            },
            tf.constant(["a", "b", "c", "d"]),
        )
    )
    filtered = dataset.apply(top_k(dense_rater, 0.5, 2, key=lambda batch: batch[0]["x"]))
    [(features, names)] = list(filtered)
    assert features["x"].numpy()[:, 0].tolist() == [2, 3]
    assert features["ids"].to_list() == [[2, 2], []]
    assert names.numpy().tolist() == [b"b", b"c"]


def test_batches_of_any_size_are_grouped_anew(values):
    dataset = tf.data.Dataset.range(17).batch(3)
    filtered = dataset.apply(
        top_k(lambda i: tf.cast(i, tf.float32), 0.5, 4, batched=True, num_parallel_calls=2)
    )
    assert values(filtered) == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_a_short_last_batch_keeps_its_share_rounded_up_or_is_left_out(values):
    dataset = tf.data.Dataset.range(13)
    rater = lambda i: tf.cast(i, tf.float32)  # noqa: E731
    assert values(dataset.apply(top_k(rater, 0.5, 4))) == [[4, 5, 6, 7]]
    kept = dataset.apply(top_k(rater, 0.5, 4, drop_remainder=False))
    assert values(kept) == [[4, 5, 6, 7], [10, 11, 12]]


def test_nan_scores_rank_last_and_discarding_nothing_keeps_even_them(values):
    scores = tf.constant([np.nan, 1.0, np.nan, -5.0])
    rater = lambda i: tf.gather(scores, i)  # noqa: E731
    rows = tf.data.Dataset.range(4)
    assert values(rows.apply(top_k(rater, 0.5, 2))) == [[1, 3]]
    assert values(rows.apply(top_k(rater, 0.25, 3))) == [[0, 1, 3]]
    assert values(rows.apply(top_k(rater, 0, 4))) == [[0, 1, 2, 3]]


def test_dropped_examples_come_out_beside_the_kept_with_static_shapes(dense_rater):
    x = np.array([[0, 0], [5, 0], [1, 0], [4, 0], [9, 30], [2, 0]], np.float32)
    dataset = tf.data.Dataset.from_tensor_slices({"x": x, "n": np.arange(6)})
    made = dataset.apply(top_k(dense_rater, "0.3", 2, key="x", emit_scores=True, emit_dropped=True))
    spec = ({"x": tf.TensorSpec([2, 2]), "n": tf.TensorSpec([2], tf.int64)}, tf.TensorSpec([2]))
    less = ({"x": tf.TensorSpec([1, 2]), "n": tf.TensorSpec([1], tf.int64)}, tf.TensorSpec([1]))
    assert made.element_spec == (spec, less)
    batches = list(made.as_numpy_iterator())
    assert [kept[0]["n"].tolist() for kept, _ in batches] == [[1, 2], [3, 5]]
    assert [kept[1].tolist() for kept, _ in batches] == [[10, 2], [8, 4]]
    assert [dropped[0]["n"].tolist() for _, dropped in batches] == [[0], [4]]
    assert [dropped[1].tolist() for _, dropped in batches] == [[0], [-12]]


def test_iterators_can_be_checkpointed_and_the_rater_is_frozen(dense_rater, values, resumes):
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(x).apply(top_k(dense_rater, 0.5, 4)).prefetch(2)
    whole = values(dataset)
    dense_rater.layers[1].set_weights([np.zeros((2, 1), np.float32)])  # must not show
    assert values(dataset) == whole
    resumes(dataset, 3)


def test_sharding_and_interleave_work(dense_rater, values):
    x = np.stack([np.arange(32), np.zeros(32)], axis=1).astype(np.float32)

    def shard(index):
        dataset = tf.data.Dataset.from_tensor_slices(x).shard(2, index)
        return dataset.apply(top_k(dense_rater, 0.5, 4)).map(lambda batch: batch[:, 0])

    dataset = tf.data.Dataset.range(2).interleave(shard, cycle_length=2)
    assert values(dataset) == [[8, 10, 12, 14], [9, 11, 13, 15], [24, 26, 28, 30], [25, 27, 29, 31]]
    whole = tf.data.Dataset.from_tensor_slices(x).apply(top_k(dense_rater, 0.5, 4))
    assert [batch[:, 0].tolist() for batch in whole.shard(2, 1).as_numpy_iterator()] == [
        [12, 13, 14, 15],
        [28, 29, 30, 31],
    ]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(discard_fraction=1.0, batch_size=4), "discard_fraction is 1.0"),
        (dict(discard_fraction=0.5, batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_settings_are_refused_before_any_data_is_read(arguments, message, dense_rater):
    with pytest.raises(ConfigurationError, match=message):
        top_k(dense_rater, **arguments)


def test_a_rater_without_one_score_an_example_is_refused():
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((8, 2), np.float32))
    with pytest.raises(ConfigurationError, match=r"shape \(2, 2\).*one score an example"):
        dataset.apply(top_k(lambda x: x, 0.5, 1))
    with pytest.raises(ConfigurationError, match=r"no 'score', only \['scores'\]"):
        dataset.apply(top_k(lambda x: {"scores": x}, 0.5, 1))
