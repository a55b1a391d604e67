"""Meta-gradient estimators: exact against differences and by hand, equal to one another, compiled.

A new estimator is one entry in EXACT.
"""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta.estimators import NestedTape
from dr_keras.meta.inner_optimizers import adam, adamw, momentum, sgd
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.meta.schedules import constant_rate, cosine_rate

# Estimators whose meta-gradient is exact up to rounding.
EXACT = {"nested_tape": NestedTape()}

exact = pytest.mark.parametrize("estimator", EXACT.values(), ids=EXACT.keys())

SGD = sgd(learning_rate=0.2)
CLIPPED_SGD = sgd(learning_rate=cosine_rate(0.2, 4, warmup=2), clip_norm=0.3)
MOMENTUM = momentum(learning_rate=0.1, beta=0.8)
NESTEROV = momentum(learning_rate=constant_rate(0.1, warmup=3), nesterov=True, clip_norm=0.5)
ADAM = adam(learning_rate=0.05)
CLIPPED_ADAM = adam(learning_rate=cosine_rate(0.05, 6, warmup=1), clip_norm=0.2)
ADAMW = adamw(learning_rate=0.05, weight_decay=0.3)
FULL_ADAMW = adamw(learning_rate=cosine_rate(0.05, 5), clip_norm=0.4, weight_decay=0.1)

# toy, optimizer, T, age of the member: every value of each, not every combination.
COVERING = [
    ("two_parameters", SGD, 1, 0),
    ("two_parameters", ADAMW, 5, 3),
    ("mlp", CLIPPED_SGD, 5, 0),
    ("mlp", MOMENTUM, 2, 4),
    ("mlp", ADAM, 5, 2),
    ("mlp", FULL_ADAMW, 1, 3),
    ("mlp_with_dropout", NESTEROV, 2, 1),
    ("conv_net", NESTEROV, 5, 0),
    ("conv_net", CLIPPED_ADAM, 2, 3),
    ("language_model", MOMENTUM, 1, 2),
    ("language_model", FULL_ADAMW, 2, 3),
]


@exact
@pytest.mark.parametrize("toy, optimizer, unroll_length, age", COVERING)
def test_meta_gradient_matches_central_differences(
    estimator, toy, optimizer, unroll_length, age, toy_problem, assert_matches_central_differences
):
    toy = toy_problem(toy, optimizer, unroll_length, age)
    outer_loss, gradient, state, metrics = toy.estimate(estimator)
    assert float(outer_loss) == pytest.approx(float(toy.outer_loss(toy.eta)), rel=1e-12)
    assert int(state.age) == age + unroll_length
    assert_matches_central_differences(toy, gradient)


@exact
@pytest.mark.parametrize("unroll_length", [1, 2, 5])
def test_two_parameters_by_hand(estimator, unroll_length, toy_problem):
    """l_i = (theta - c_i)^2 / 2, w = softmax(eta), outer loss (theta_T - t)^2 / 2, SGD.

    theta' = (1 - r) theta + r sum_i w_i c_i, and dw_i/deta_j = w_i (1{i=j} - w_j), so that
    d theta_T / d eta_j = sum_t (1 - r)^(T - 1 - t) r w_j (c_j,t - sum_i w_i c_i,t).
    """
    rate = 0.2
    toy = toy_problem("two_parameters", sgd(learning_rate=rate), unroll_length)
    centres = toy.inner_batches["centre"].numpy()
    weights = np.exp(toy.eta[0]) / np.exp(toy.eta[0]).sum()
    theta, slope = float(toy.state.theta[0]), np.zeros(2)
    for centre in centres:
        mean = weights @ centre
        theta = (1 - rate) * theta + rate * mean
        slope = (1 - rate) * slope + rate * weights * (centre - mean)
    miss = theta - float(toy.outer_batch["centre"])
    outer_loss, gradient, state, metrics = toy.estimate(estimator)
    np.testing.assert_allclose(outer_loss, miss**2 / 2, rtol=1e-10)
    np.testing.assert_allclose(gradient[0], miss * slope, rtol=1e-10)
    np.testing.assert_allclose(state.theta[0], theta, rtol=1e-10)
    np.testing.assert_allclose(metrics["scores"], np.tile(toy.eta[0], (unroll_length, 1)))
    np.testing.assert_allclose(
        metrics["inner_losses"][0], (float(toy.state.theta[0]) - centres[0]) ** 2 / 2
    )
    np.testing.assert_allclose(
        metrics["effective_sample_size"], np.full(unroll_length, 1 / (weights**2).sum())
    )


@exact
def test_all_estimators_agree(estimator, toy_problem):
    toy = toy_problem("mlp", FULL_ADAMW, 5, age=3)
    expected = toy.estimate(NestedTape())
    found = toy.estimate(estimator)
    tf.nest.map_structure(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12),
        list(expected),
        list(found),
    )


@exact
@pytest.mark.parametrize("optimizer", [SGD, MOMENTUM, ADAM, ADAMW])
def test_the_meta_gradient_favours_clean_examples(estimator, optimizer, float64):
    """A score for each example: a step down the meta-gradient raises those of clean ones.

    Linear regression; targets of the corrupted half belong to other inputs.
    """
    rng = np.random.default_rng(0)
    truth = np.array([1.0, -2.0, 0.5])
    x = rng.normal(size=(2, 16, 3))
    targets = x @ truth
    clean = np.arange(16) < 8
    targets[:, ~clean] = rng.permutation(targets[:, ~clean], axis=1) * -1
    outer = rng.normal(size=(64, 3))

    def score(eta, batch):
        return tf.gather(eta[0], batch["index"])

    def inner_loss(theta, non_trainable, batch):
        return tf.square(tf.linalg.matvec(batch["x"], theta[0]) - batch["y"]), non_trainable

    def outer_loss(theta, non_trainable, batch):
        return tf.reduce_mean(inner_loss(theta, non_trainable, batch)[0])

    theta = [tf.zeros(3, tf.float64)]
    slots = optimizer.init(theta)
    if "v" in slots:  # from zero, Adam's first updates are signs, which scores hardly move
        slots["v"] = [tf.ones(3, tf.float64)]
    _, gradient, _, _ = estimator(
        MetaProblem(score, inner_loss, outer_loss, optimizer),
        InnerState(theta, [], slots, tf.constant(5000)),
        [tf.zeros(32, tf.float64)],
        {
            "x": tf.constant(x),
            "y": tf.constant(targets),
            "index": tf.reshape(tf.range(32), (2, 16)),
        },
        {"x": tf.constant(outer), "y": tf.constant(outer @ truth)},
    )
    rise = -gradient[0].numpy().reshape(2, 16)
    assert rise[:, clean].mean() > 0 > rise[:, ~clean].mean()
    pairs = rise[:, clean, None] > rise[:, None, ~clean]
    assert pairs.mean() > 0.8, pairs.mean()  # area under the curve, batch by batch


@exact
def test_the_meta_gradient_favours_clean_text(estimator, toy_problem):
    """Token rows that count upwards against random ones, the outer rows counting upwards."""
    toy = toy_problem("language_model", adam(learning_rate=0.02), 2)
    rng = np.random.default_rng(0)
    counting = (rng.integers(0, 8, (2, 16, 1)) + np.arange(6)) % 8 + 1
    batches = counting.copy()
    batches[:, 8:] = rng.integers(1, 9, (2, 8, 6))
    problem = MetaProblem(
        lambda eta, batch: tf.gather(eta[0], batch["index"]),
        toy.problem.inner_loss,
        toy.problem.outer_loss,
        toy.problem.optimizer,
    )
    _, gradient, _, _ = estimator(
        problem,
        toy.state,
        [tf.zeros(32, tf.float64)],
        {
            "tokens": tf.constant(batches, tf.int32),
            "index": tf.reshape(tf.range(32), (2, 16)),
        },
        {"tokens": tf.constant(counting[0], tf.int32)},
    )
    rise = -gradient[0].numpy().reshape(2, 16)
    assert rise[:, :8].mean() > 0 > rise[:, 8:].mean()
    pairs = rise[:, :8, None] > rise[:, None, 8:]
    assert pairs.mean() > 0.8, pairs.mean()


@exact
def test_compiled_equals_uncompiled(estimator, toy_problem):
    """XLA writes gradients of slices as ops that TensorFlow registers no gradient for."""
    toy = toy_problem("language_model", FULL_ADAMW, 2, age=1)

    @tf.function(jit_compile=True)
    def compiled(state, eta, inner_batches, outer_batch):
        return estimator(toy.problem, InnerState(*state), eta, inner_batches, outer_batch)

    expected = toy.estimate(estimator)
    found = compiled(tuple(toy.state), toy.eta, toy.inner_batches, toy.outer_batch)
    for a, b in zip(tf.nest.flatten(expected), tf.nest.flatten(found)):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-11)


@exact
@pytest.mark.parametrize("optimizer", [SGD, CLIPPED_SGD, NESTEROV, ADAM, CLIPPED_ADAM, FULL_ADAMW])
def test_zero_gradients_give_a_finite_meta_gradient(estimator, optimizer, float64):
    """One parameter is never used, another's gradient is exactly 0 at the first update."""

    def inner_loss(theta, non_trainable, batch):
        return tf.square(theta[0] * batch["x"]) + 0 * theta[1], non_trainable

    def outer_loss(theta, non_trainable, batch):
        return tf.reduce_mean(tf.square(theta[0] - 1) + tf.square(theta[1] - 1))

    theta = [tf.constant(0.0, tf.float64), tf.constant(0.5, tf.float64)]
    _, gradient, state, _ = estimator(
        MetaProblem(lambda eta, batch: eta[0] * batch["x"], inner_loss, outer_loss, optimizer),
        InnerState(theta, [], optimizer.init(theta), tf.constant(0)),
        [tf.constant(0.3, tf.float64)],
        {"x": tf.constant([[1.0, 2.0], [3.0, 4.0]], tf.float64)},
        {"x": tf.constant([1.0], tf.float64)},
    )
    assert float(gradient[0]) == 0.0
    assert all(np.isfinite(leaf).all() for leaf in state.theta)


@exact
@pytest.mark.parametrize("toy", ["mlp", "language_model"])
def test_a_batch_of_one_has_no_meta_gradient(estimator, toy, toy_problem):
    """The softmax over one example is 1 whatever its score: the gradient is exactly 0."""
    toy = toy_problem(toy, ADAM, 2)
    toy.inner_batches = {name: value[:, :1] for name, value in toy.inner_batches.items()}
    _, gradient, _, metrics = toy.estimate(estimator)
    assert all(not leaf.numpy().any() for leaf in gradient)
    assert metrics["effective_sample_size"].numpy().tolist() == [1.0, 1.0]
    assert metrics["weight_entropy"].numpy().tolist() == [0.0, 0.0]


@exact
def test_rows_of_padding_are_harmless(estimator, toy_problem, assert_matches_central_differences):
    toy = toy_problem("language_model", ADAM, 2)
    for batch in (toy.inner_batches, toy.outer_batch):
        tokens = batch["tokens"].numpy()
        tokens[..., 0, :] = 0
        batch["tokens"] = tf.constant(tokens)
    _, gradient, state, metrics = toy.estimate(estimator)
    assert all(np.isfinite(leaf).all() for leaf in [*gradient, *state.theta])
    assert metrics["inner_losses"].numpy()[:, 0].tolist() == [0.0, 0.0]
    assert_matches_central_differences(toy, gradient)


@exact
def test_random_state_moves_on_through_the_unroll(estimator, toy_problem):
    """Dropout draws anew at each update, and the new state carries where it stands."""
    toy = toy_problem("mlp_with_dropout", SGD, 2)
    _, _, state, _ = toy.estimate(estimator)
    before = np.concatenate([np.ravel(leaf) for leaf in toy.state.non_trainable])
    after = np.concatenate([np.ravel(leaf) for leaf in state.non_trainable])
    assert (before != after).any()
