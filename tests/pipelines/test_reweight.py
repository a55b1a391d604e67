from hypothesis import given, settings
from hypothesis import strategies as st
import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines.transformations import batch_weights, reweight

finite = st.floats(-1e4, 1e4, width=32)


def softmax(scores, temperature=1.0):
    raw = np.exp((np.asarray(scores, np.float64) - np.max(scores)) / temperature)
    return raw / raw.sum()


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0.1, 10))
def test_weights_are_the_softmax_with_mean_one(scores, temperature):
    weights = batch_weights(tf.constant(scores, tf.float32), temperature).numpy()
    expected = len(scores) * softmax(np.float32(scores), temperature)
    np.testing.assert_allclose(weights, expected, rtol=2e-3, atol=1e-6)
    assert weights.mean() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([np.nan, 0, 0], [0, 1.5, 1.5]),
        ([-np.inf, 1.0], [0, 2]),
        ([np.nan, -np.inf], [1, 1]),
        ([np.inf, 5.0, np.inf, np.nan], [2, 0, 2, 0]),
        ([3e38, -3e38], [2, 0]),
        ([], []),
    ],
)
def test_scores_that_are_not_finite_have_defined_weights(scores, expected):
    assert batch_weights(tf.constant(scores, tf.float32)).numpy().tolist() == expected


@settings(max_examples=15, deadline=None)
@given(
    scores=st.lists(finite, min_size=1, max_size=30),
    batch_size=st.integers(1, 8),
    group=st.sampled_from([None, 3]),
)
def test_batches_get_the_weights_of_a_numpy_reference(scores, batch_size, group):
    scores = np.array(scores, np.float32)
    rater = lambda i: tf.gather(tf.constant(scores), i)  # noqa: E731
    rows = tf.data.Dataset.range(len(scores)).map(lambda i: (i, -i))
    rows = rows if group is None else rows.batch(group)
    batches = list(rows.apply(reweight(rater, batch_size, temperature=2.0)).as_numpy_iterator())
    assert np.concatenate([x for x, _, _ in batches]).tolist() == list(range(len(scores)))
    for x, y, weights in batches:
        assert (y == -x).all()
        expected = len(x) * softmax(scores[x], 2.0)
        np.testing.assert_allclose(weights, expected, rtol=2e-3, atol=1e-6)
    dropping = rows.apply(reweight(rater, batch_size, drop_remainder=True))
    assert len(list(dropping)) == len(scores) // batch_size
    assert dropping.element_spec[2] == tf.TensorSpec([batch_size])


def test_every_form_that_keras_takes(dense_rater):
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    weights = 6 * softmax(2 * x[:, 0] - x[:, 1])
    y, given_ = np.arange(6), np.linspace(0, 1, 6)
    by_token = np.random.default_rng(1).uniform(size=(6, 5))

    def weighed(*parts, key=None):
        dataset = tf.data.Dataset.from_tensor_slices(parts if len(parts) > 1 else parts[0])
        [batch] = dataset.apply(reweight(dense_rater, 6, key=key))
        return batch

    np.testing.assert_allclose(weighed(x)[2], weights, rtol=1e-5)
    assert weighed(x)[1] is None
    np.testing.assert_allclose(weighed({"x": x}, key="x")[2], weights, rtol=1e-5)
    np.testing.assert_allclose(weighed(x, y)[2], weights, rtol=1e-5)
    np.testing.assert_allclose(weighed(x, y, given_)[2], weights * given_, rtol=1e-5)
    np.testing.assert_allclose(weighed(x, y, by_token)[2], weights[:, None] * by_token, rtol=1e-5)
    [(inner, none, found)] = tf.data.Dataset.from_tensor_slices((x,)).apply(
        reweight(dense_rater, 6)
    )
    np.testing.assert_allclose(found, weights, rtol=1e-5)
    np.testing.assert_array_equal(inner, x)
    assert none is None


def test_keras_fit_minimises_the_weighted_loss_of_the_same_size():
    rng = np.random.default_rng(0)
    good = rng.integers(0, 2, size=256)
    x = np.stack([rng.normal(size=256), good], axis=1).astype(np.float32)
    y = np.where(good, 3 * x[:, 0], -x[:, 0]).astype(np.float32)[:, None]  # the bad mislead
    rater = lambda x: 8 * x[:, 1]  # noqa: E731
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).apply(reweight(rater, 32))

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, use_bias=False)])
    model.layers[0].set_weights([np.zeros((2, 1), np.float32)])
    model.compile(keras.optimizers.Adam(0.1), "mse")
    weights = np.concatenate([w for _, _, w in dataset.as_numpy_iterator()])
    loss = model.evaluate(dataset, verbose=0)
    assert loss == pytest.approx(np.mean(weights * y[:, 0] ** 2), rel=1e-4)
    assert weights.mean() == pytest.approx(1, abs=1e-5)
    model.fit(dataset, epochs=40, verbose=0)
    assert model.get_weights()[0][0, 0] == pytest.approx(3, abs=0.2)


def test_iterators_can_be_checkpointed(dense_rater, resumes):
    x = np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)
    dataset = tf.data.Dataset.from_tensor_slices((x, x[:, 0])).shuffle(
        20, seed=1, reshuffle_each_iteration=False
    )
    resumes(dataset.apply(reweight(dense_rater, 8)).prefetch(1), 4)


def test_bad_settings_and_elements_are_refused(dense_rater):
    with pytest.raises(ConfigurationError, match="temperature is 0"):
        reweight(dense_rater, 8, temperature=0)
    with pytest.raises(ConfigurationError, match="temperature is nan"):
        reweight(dense_rater, 8, temperature=float("nan"))
    with pytest.raises(ConfigurationError, match="batch_size is 0"):
        reweight(dense_rater, 0)
    x = np.zeros((8, 2), np.float32)
    with pytest.raises(ConfigurationError, match="tuples of 4"):
        tf.data.Dataset.from_tensor_slices((x, x, x, x)).apply(reweight(dense_rater, 4))
