"""Per-example losses against plain NumPy."""

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.models.losses import (
    classification_loss,
    next_token_loss,
    next_token_sums,
    squared_error,
)


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
