"""Losses by example and by token against plain NumPy, and the tokens that they count."""

import functools

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.losses import (
    checked_counts,
    classification_loss,
    counted_by,
    counts_of,
    huber_loss,
    next_token_loss,
    next_token_sums,
    quantile_loss,
    squared_error,
    token_loss,
)
import gin


def reference(logits: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum of -log p(next token) over real next tokens, and their number, row by row."""
    sums, counts = np.zeros(len(tokens)), np.zeros(len(tokens))
    for row, ids in enumerate(tokens):
        for position in range(len(ids) - 1):
            target = ids[position + 1]
            if target == 0:
                continue
            values = logits[row, position]
            top = values.max()
            sums[row] += top + np.log(np.exp(values - top).sum()) - values[target]
            counts[row] += 1
    return sums, counts


def test_of_conversations_responses_count_alone():
    """As if every other target were none, in both kinds of loss and in what evaluation adds up."""
    rng = np.random.default_rng(3)
    tokens = rng.integers(1, 9, (4, 6)).astype(np.int32)
    tokens[1, 4:] = 0
    responses = rng.random((4, 6)) < 0.5
    responses[2] = [True] + [False] * 5  # the first token is never predicted
    logits = rng.normal(scale=2, size=(4, 6, 9))
    losses = token_loss(tf.constant(logits), {"tokens": tokens}).numpy()
    asked = responses & (tokens != 0) & (np.arange(6) > 0)
    for mask in (responses, responses.astype(np.float32)):
        batch = {"tokens": tokens, "responses": mask}
        np.testing.assert_array_equal(token_loss(tf.constant(logits), batch), losses * asked)
        np.testing.assert_array_equal(counts_of(token_loss, batch), asked)
        sums, counts = next_token_sums(tf.constant(logits), batch)
        np.testing.assert_allclose(sums, (losses * asked).sum(axis=1), rtol=1e-12)
        np.testing.assert_array_equal(counts, asked.sum(axis=1))
        np.testing.assert_array_equal(counts_of(next_token_loss, batch), asked.sum(axis=1))
        assert float(next_token_loss(tf.constant(logits), batch)[2]) == 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 7), st.integers(2, 9))
def test_next_token_loss_equals_numpy(seed, batch, length, vocabulary):
    rng = np.random.default_rng(seed)
    tokens = np.zeros((batch, length), np.int32)
    for row in range(batch):
        real = rng.integers(0, length + 1)  # from padding only to no padding
        tokens[row, :real] = rng.integers(1, vocabulary, real)
    logits = rng.normal(scale=4, size=(batch, length, vocabulary))
    sums, counts = reference(logits, tokens)
    loss = next_token_loss(tf.constant(logits), {"tokens": tf.constant(tokens)})
    np.testing.assert_allclose(loss, sums / np.maximum(counts, 1), rtol=1e-12, atol=1e-12)
    found_sums, found_counts = next_token_sums(tf.constant(logits), {"tokens": tokens})
    np.testing.assert_allclose(found_sums, sums, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(found_counts, counts)
    np.testing.assert_array_equal(counts_of(next_token_loss, {"tokens": tokens}), counts)
    assert_is_by_token(token_loss(tf.constant(logits), {"tokens": tokens}), tokens, sums)


def assert_is_by_token(losses, tokens, sums):
    """Losses [B, S] that add up to `sums`, and are 0 where no token is predicted."""
    predicted = (tokens != 0) & (np.arange(tokens.shape[1]) > 0)
    np.testing.assert_array_equal(counts_of(token_loss, {"tokens": tokens}), predicted)
    np.testing.assert_allclose(np.sum(losses, axis=1), sums, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(losses != 0, predicted)


def test_rows_without_a_target_have_no_loss_and_no_gradient():
    tokens = np.array([[0, 0, 0], [5, 0, 0], [5, 3, 0]], np.int32)
    logits = tf.Variable(np.random.default_rng(0).normal(size=(3, 3, 6)))
    with tf.GradientTape() as tape:
        loss = next_token_loss(logits, {"tokens": tokens})
    gradient = tape.gradient(loss, logits).numpy()
    assert loss.numpy()[:2].tolist() == [0.0, 0.0] and loss.numpy()[2] > 0
    assert not gradient[:2].any()
    # One target, the token 3 after position 0: no other position has a gradient.
    assert gradient[2, 0].any() and not gradient[2, 1:].any()


def test_the_first_token_is_never_a_target():
    """The shift is a roll, so the first token comes round: it must not count."""
    logits = tf.constant(np.random.default_rng(1).normal(size=(1, 3, 6)))
    losses = [
        next_token_loss(logits, {"tokens": np.array([[first, 2, 4]], np.int32)}).numpy()[0]
        for first in (1, 2, 5)
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_loss_keeps_the_dtype_of_the_logits(dtype):
    loss = next_token_loss(tf.zeros((2, 3, 4), dtype), {"tokens": np.ones((2, 3), np.int32)})
    np.testing.assert_allclose(loss, np.log(4.0) * np.ones(2), rtol=1e-6)
    assert loss.dtype == dtype


def test_large_logits_do_not_overflow():
    logits = np.zeros((1, 2, 3), np.float32)
    logits[0, 0] = [0, 1e4, -1e4]
    loss = next_token_loss(tf.constant(logits), {"tokens": np.array([[1, 2]], np.int32)})
    assert loss.numpy()[0] == pytest.approx(2e4)


def test_classification_loss_and_squared_error_equal_numpy():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(5, 3)), rng.integers(0, 3, 5)
    expected = np.log(np.exp(logits).sum(1)) - logits[np.arange(5), labels]
    np.testing.assert_allclose(
        classification_loss(tf.constant(logits), {"label": tf.constant(labels)}), expected
    )
    outputs, targets = rng.normal(size=(5, 1)), rng.normal(size=5)
    for shape in ((5, 1), (5,)):
        loss = squared_error(tf.constant(outputs.reshape(shape)), {"target": tf.constant(targets)})
        np.testing.assert_allclose(loss, (outputs[:, 0] - targets) ** 2)


def test_a_token_has_the_loss_of_what_was_expected_before_it():
    """Also from hidden states and an unembedding, some positions at a time."""
    rng = np.random.default_rng(0)
    tokens = np.array([[3, 1, 4, 2], [2, 2, 0, 0]], np.int32)
    hidden, table = rng.normal(size=(2, 4, 3)), rng.normal(size=(5, 3))
    logits = hidden @ table.T
    log_probabilities = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = np.zeros((2, 4))
    for row, position in ((0, 1), (0, 2), (0, 3), (1, 1)):
        expected[row, position] = -log_probabilities[row, position - 1, tokens[row, position]]
    outputs = {"hidden": tf.constant(hidden), "unembedding": tf.constant(table)}
    for made, chunk in ((tf.constant(logits), 256), (outputs, 256), (outputs, 2)):
        losses = token_loss(made, {"tokens": tf.constant(tokens)}, chunk=chunk)
        np.testing.assert_allclose(losses, expected, rtol=1e-12)
    with pytest.raises(ValueError, match="chunk is 0"):
        token_loss(outputs, {"tokens": tokens}, chunk=0)


def test_a_tokens_loss_moves_the_logits_before_it_alone():
    logits = tf.Variable(np.random.default_rng(0).normal(size=(1, 4, 6)))
    with tf.GradientTape() as tape:
        loss = token_loss(logits, {"tokens": np.array([[1, 2, 3, 0]], np.int32)})[0, 2]
    moved = tape.gradient(loss, logits).numpy().any(axis=-1)
    assert moved.tolist() == [[False, True, False, False]]


@pytest.mark.parametrize("chunk", [None, 2])
def test_second_derivatives_of_token_losses_in_compiled_programs(chunk):
    """Reverse over reverse and forward over reverse, as estimators take them."""
    rng = np.random.default_rng(0)
    tokens = tf.constant([[3, 1, 4, 2], [2, 2, 0, 0]], tf.int32)
    weights, table = tf.constant(rng.normal(size=(2, 4))), tf.constant(rng.normal(size=(5, 3)))
    point, direction = tf.constant(rng.normal(size=(2, 2, 4, 3)))

    def gradient(hidden):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            logits = tf.matmul(hidden, table, transpose_b=True)
            outputs = {"hidden": hidden, "unembedding": table} if chunk else logits
            weighted = weights * token_loss(outputs, {"tokens": tokens}, chunk=chunk or 1)
            loss = tf.reduce_sum(tf.tanh(weighted))
        return tape.gradient(loss, hidden)

    @tf.function(jit_compile=True, autograph=False)
    def products(hidden):
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            along = tf.reduce_sum(gradient(hidden) * direction)
        with tf.autodiff.ForwardAccumulator(hidden, direction) as accumulator:
            first = gradient(hidden)
        return tape.gradient(along, hidden), accumulator.jvp(first)

    step = 1e-5 * direction
    expected = (gradient(point + step) - gradient(point - step)) / 2e-5
    assert np.abs(expected).max() > 0.01
    for product in products(point):
        np.testing.assert_allclose(product, expected, rtol=1e-6, atol=1e-8)


def test_counts_are_found_however_gin_hands_a_loss_on():
    @gin.configurable(module="test_losses")
    def losses_of_a_run(losses=()):
        return losses

    @gin.configurable(module="test_losses")
    @counted_by(lambda batch: 2.0 * tf.ones([3]))
    def users_loss(outputs, batch):
        return outputs

    @functools.wraps(users_loss)
    def wrapped(*arguments):
        return users_loss(*arguments)

    gin.parse_config(
        """
        losses_of_a_run.losses = [
            @next_token_loss, @far/next_token_loss, @users_loss, @far/users_loss
        ]
        far/next_token_loss.chunk = 8
        """
    )
    tokens = np.array([[5, 3, 0], [1, 2, 3], [0, 0, 0]], np.int32)
    whole, scoped, users, scoped_users = losses_of_a_run()
    for loss in (whole, scoped, functools.partial(functools.partial(scoped, chunk=3))):
        counts = counts_of(loss, {"tokens": tokens}, tf.float64)
        assert counts.dtype == tf.float64 and counts.numpy().tolist() == [1, 2, 0]
    for loss in (users, scoped_users, wrapped, functools.partial(wrapped)):
        assert counts_of(loss, {"tokens": tokens}).numpy().tolist() == [2, 2, 2]
    for loss in (squared_error, lambda outputs, batch: outputs):
        assert counts_of(loss, {"tokens": tokens}).numpy().tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("shape", "counts", "said"),
    [
        ((), None, r"users gives values of shape \(\): it must give one loss an example, \[B\]"),
        ((2, 3), None, r"users gives values of shape \(2, 3\), and counts of shape \(2,\)"),
        ((2,), (2, 3), r"of shape \(2,\), and counts of shape \(2, 3\) .*counted_by"),
    ],
)
def test_values_and_counts_of_other_shapes_are_refused(shape, counts, said):
    def users(outputs, batch):
        raise NotImplementedError

    if counts:
        counted_by(lambda batch: tf.ones(counts))(users)
    with pytest.raises(ConfigurationError, match=said):
        checked_counts(users, tf.zeros(shape), {"x": tf.zeros([2, 4])})


def test_losses_of_tables_equal_numpy():
    outputs, targets = np.array([0.0, 1.0, 5.0, -4.0]), np.array([0.5, 1.0, 2.0, 0.0])
    batch = {"target": tf.constant(targets)}
    for shape in ((4,), (4, 1)):
        given = tf.constant(outputs.reshape(shape))
        # 0.5^2 / 2; nothing; 2 * (3 - 1); 2 * (4 - 1)
        np.testing.assert_allclose(huber_loss(given, batch, delta=2.0), [0.125, 0, 4, 6])
        # too low by 0.5 and 4, too high by 3
        np.testing.assert_allclose(quantile_loss(given, batch, 0.9), [0.45, 0, 0.3, 3.6])


def test_the_quantile_loss_is_least_at_the_quantile():
    targets = tf.constant(np.random.default_rng(0).exponential(size=2001))
    guesses = np.linspace(0, 4, 401)
    losses = [
        tf.reduce_mean(quantile_loss(tf.fill([2001], guess), {"target": targets}, 0.8))
        for guess in guesses
    ]
    best = guesses[int(np.argmin(losses))]
    assert best == pytest.approx(np.quantile(targets, 0.8), abs=0.02)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (functools.partial(huber_loss, delta=0.0), "huber_loss.delta is 0.0"),
        (functools.partial(quantile_loss, quantile=1.0), "quantile_loss.quantile is 1.0"),
    ],
)
def test_settings_out_of_range_are_refused(loss, said):
    with pytest.raises(ConfigurationError, match=said):
        loss(tf.zeros([2]), {"target": tf.zeros([2])})
