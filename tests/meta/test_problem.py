"""Weights: softmax of the scores over the batch, their entropy, the effective sample size."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import sgd
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.meta.weighting import example_softmax, weight_metrics
from dr_keras.models.losses import squared_error
from dr_keras.models.model_inputs import model_inputs


def problem_of(temperature: float = 1.0) -> MetaProblem:
    return MetaProblem(
        lambda eta, batch: eta[0], None, None, sgd(), weighting=example_softmax(temperature)
    )


STATE = InnerState([], [], {}, tf.constant(0))


def weights_of(scores, problem=None):
    problem = problem or problem_of()
    return problem.weigh([tf.constant(scores)], STATE, {"x": tf.zeros(len(scores))})


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_weights_are_the_softmax_of_scores_over_the_temperature(temperature):
    scores = np.array([0.3, -1.2, 2.5, 0.0])
    weights, given = weights_of(scores, problem_of(temperature))
    expected = np.exp(scores / temperature) / np.exp(scores / temperature).sum()
    np.testing.assert_allclose(weights, expected, rtol=1e-14)
    np.testing.assert_array_equal(given, scores)


def test_equal_scores_give_uniform_weights_whatever_their_size():
    for value in (0.0, -50.0, 1e4):
        weights, _ = weights_of([value] * 8)
        metrics = weight_metrics(weights)
        np.testing.assert_allclose(weights, np.full(8, 1 / 8), rtol=1e-6)
        assert float(metrics["weight_entropy"]) == pytest.approx(np.log(8), rel=1e-6)
        assert float(metrics["effective_sample_size"]) == pytest.approx(8, rel=1e-6)


def test_entropy_and_effective_sample_size_equal_numpy():
    weights = np.array([0.5, 0.25, 0.125, 0.125])
    metrics = weight_metrics(tf.constant(weights))
    assert float(metrics["weight_entropy"]) == pytest.approx(1.75 * np.log(2))
    assert float(metrics["effective_sample_size"]) == pytest.approx(1 / (weights**2).sum())


def test_one_example_that_takes_all_is_finite():
    weights, _ = weights_of([1000.0, 0.0, -1000.0])
    metrics = weight_metrics(weights)
    assert weights.numpy().tolist() == [1.0, 0.0, 0.0]
    assert float(metrics["weight_entropy"]) == 0.0
    assert float(metrics["effective_sample_size"]) == 1.0


def test_a_score_column_is_flattened():
    """[B, 1] must not become a softmax over axis 1, which would be 1 everywhere."""
    x = keras.Input((2,), name="x")
    rater = keras.Model({"x": x}, keras.layers.Dense(1)(x))
    problem = KerasProblem(rater, rater, squared_error, sgd())()
    batch = {"x": tf.constant(np.random.default_rng(0).normal(size=(5, 2)), tf.float32)}
    eta = [v.value for v in rater.trainable_variables]
    weights, scores = problem.weigh(eta, STATE, batch)
    assert scores.shape == (5,) and float(tf.reduce_sum(weights)) == pytest.approx(1.0)
    np.testing.assert_allclose(scores, rater(batch)[:, 0], rtol=1e-6)


# -------------------------------------------------------------------- what a model is handed


def test_models_get_the_features_they_name():
    a, b = keras.Input((2,), name="a"), keras.Input((2,), name="b")
    batch = {"a": 1, "b": 2, "unused": 3}
    both = keras.Model({"a": a, "b": b}, keras.layers.Add()([a, b]))
    assert model_inputs(both, batch) == {"a": 1, "b": 2}
    assert model_inputs(keras.Model(a, a * 2.0), batch) == 1
    named = keras.Sequential([keras.Input((2,), name="b"), keras.layers.Dense(1)])
    assert model_inputs(named, batch) == 2
    # One that misses a feature is handed everything and says itself what is wrong.
    other = keras.Model({"c": keras.Input((2,), name="c")} | {"a": a}, a * 2.0)
    assert model_inputs(other, batch) == batch


def test_a_subclassed_model_gets_the_whole_batch():
    class Own(keras.Model):
        def call(self, inputs):
            return inputs["a"]

    batch = {"a": np.ones((2, 3)), "b": np.ones(2)}
    assert model_inputs(Own(), batch) is batch
