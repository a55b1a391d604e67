import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.filtering.top_k import top_k


def dense_rater():
    """Scores [x, y] as 2x - y."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs)[:, 0])
    model.layers[1].set_weights([np.array([[2.0], [-1.0]], np.float32)])
    return model


def values(dataset):
    return [batch.tolist() for batch in dataset.as_numpy_iterator()]


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
def test_equals_numpy_on_fixed_scores(batch_size, discard_fraction, oversized):
    scores = np.random.default_rng(3).integers(0, 6, size=100).astype(np.float32)  # many ties
    rows = tf.data.Dataset.range(100)
    filtered = rows.apply(top_k(lambda i: tf.gather(scores, i), discard_fraction, batch_size))
    assert values(filtered) == numpy_top_k(scores, batch_size, oversized)


def test_keeps_the_best_in_their_order_with_static_shapes():
    x = np.array([[0, 0], [5, 0], [1, 0], [4, 0], [9, 30], [2, 0], [3, 0], [6, 0]], np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(x)
    filtered = dataset.apply(top_k(dense_rater(), 0.5, 2, emit_scores=True))
    assert filtered.element_spec == (tf.TensorSpec([2, 2]), tf.TensorSpec([2]))
    batches = list(filtered.as_numpy_iterator())
    assert [b[0][:, 0].tolist() for b in batches] == [[5, 4], [3, 6]]
    assert [b[1].tolist() for b in batches] == [[10, 8], [6, 12]]


def test_nested_elements_ragged_and_text_go_along_with_their_example():
    dataset = tf.data.Dataset.from_tensor_slices(
        (
            {
                "x": tf.constant([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 9.0]]),
                "ids": tf.ragged.constant([[1], [2, 2], [], [4]]),
            },
            tf.constant(["a", "b", "c", "d"]),
        )
    )
    filtered = dataset.apply(top_k(dense_rater(), 0.5, 2, key=lambda batch: batch[0]["x"]))
    [(features, names)] = list(filtered)
    assert features["x"].numpy()[:, 0].tolist() == [2, 3]
    assert features["ids"].to_list() == [[2, 2], []]
    assert names.numpy().tolist() == [b"b", b"c"]


def test_batches_of_any_size_are_grouped_anew():
    dataset = tf.data.Dataset.range(17).batch(3)
    filtered = dataset.apply(
        top_k(lambda i: tf.cast(i, tf.float32), 0.5, 4, batched=True, num_parallel_calls=2)
    )
    assert values(filtered) == [[4, 5, 6, 7], [12, 13, 14, 15]]


def test_a_short_last_batch_keeps_its_share_rounded_up_or_is_left_out():
    dataset = tf.data.Dataset.range(13)
    rater = lambda i: tf.cast(i, tf.float32)  # noqa: E731
    assert values(dataset.apply(top_k(rater, 0.5, 4))) == [[4, 5, 6, 7]]
    kept = dataset.apply(top_k(rater, 0.5, 4, drop_remainder=False))
    assert values(kept) == [[4, 5, 6, 7], [10, 11, 12]]


def test_nan_scores_rank_last_and_discarding_nothing_keeps_even_them():
    scores = tf.constant([np.nan, 1.0, np.nan, -5.0])
    rater = lambda i: tf.gather(scores, i)  # noqa: E731
    rows = tf.data.Dataset.range(4)
    assert values(rows.apply(top_k(rater, 0.5, 2))) == [[1, 3]]
    assert values(rows.apply(top_k(rater, 0.25, 3))) == [[0, 1, 3]]
    assert values(rows.apply(top_k(rater, 0, 4))) == [[0, 1, 2, 3]]


def test_iterators_can_be_checkpointed_and_the_rater_is_frozen(tmp_path):
    model = dense_rater()
    x = np.random.default_rng(0).normal(size=(64, 2)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices(x).apply(top_k(model, 0.5, 4)).prefetch(2)
    whole = values(dataset)

    iterator = iter(dataset)
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    for _ in range(3):
        next(iterator)
    path = checkpoint.save(str(tmp_path / "iterator"))
    model.layers[1].set_weights([np.zeros((2, 1), np.float32)])  # must not show
    resumed = iter(dataset)
    tf.train.Checkpoint(iterator=resumed).restore(path)
    assert [batch.numpy().tolist() for batch in resumed] == whole[3:]


def test_sharding_and_interleave_work():
    def shard(index):
        dataset = tf.data.Dataset.range(32).shard(2, index)
        return dataset.apply(top_k(lambda i: tf.cast(i, tf.float32), 0.5, 4))

    dataset = tf.data.Dataset.range(2).interleave(shard, cycle_length=2)
    assert values(dataset) == [[8, 10, 12, 14], [9, 11, 13, 15], [24, 26, 28, 30], [25, 27, 29, 31]]


def test_kept_share_by_percentile_is_the_keep_probability():
    from dr_keras.filtering.keep_probability import keep_probability

    n, batch_size, oversized = 64_000, 8, 16
    percentiles = np.random.default_rng(5).uniform(size=n).astype(np.float32)
    rows = tf.data.Dataset.range(n).apply(top_k(lambda i: tf.gather(percentiles, i), 0.5, 8))
    kept = np.zeros(n)
    kept[np.concatenate(values(rows))] = 1
    decile = (percentiles * 10).astype(int)
    expected = keep_probability(percentiles, batch_size, oversized).numpy()
    for d in range(10):
        # about 6400 examples a decile: one standard error is at most 0.0063 were they independent
        assert kept[decile == d].mean() == pytest.approx(expected[decile == d].mean(), abs=0.02)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(discard_fraction=1.0, batch_size=4), "discard_fraction is 1.0"),
        (dict(discard_fraction=0.5, batch_size=0), "batch_size is 0"),
    ],
)
def test_bad_settings_are_refused_before_any_data_is_read(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        top_k(dense_rater(), **arguments)


def test_a_rater_without_one_score_an_example_is_refused():
    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((8, 2), np.float32))
    with pytest.raises(ConfigurationError, match=r"shape \(2, 2\).*one score an example"):
        dataset.apply(top_k(lambda x: x, 0.5, 1))
    with pytest.raises(ConfigurationError, match=r"no 'score', only \['scores'\]"):
        dataset.apply(top_k(lambda x: {"scores": x}, 0.5, 1))
