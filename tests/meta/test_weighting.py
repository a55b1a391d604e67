"""Weightings and combinations against NumPy, and what they are for."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.combinations import weighted_mean, worst
from dr_keras.meta.weighting import example_softmax, masked_mean, share_kept, token_softmax
from dr_keras.models.rater_scores import mean_of_tokens

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(3, 5))
COUNTS = np.array([[0, 1, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], float)


def softmax(values):
    raised = np.exp(values - np.max(values))
    return raised / raised.sum()


def weights_of(weighting, scores, counts):
    return weighting(tf.constant(scores), tf.constant(counts)).numpy()


def test_equal_scores_give_every_token_the_same_weight():
    """With `count_tokens` the weighted loss is the batch's loss per token, whatever the lengths."""
    counts = np.array([1.0, 4.0, 0.0, 10.0])
    means = RNG.normal(size=4) ** 2
    weights = weights_of(example_softmax(count_tokens=True), np.full(4, 3.0), counts)
    assert weights @ means == pytest.approx((counts * means).sum() / counts.sum())
    uniform = weights_of(example_softmax(), np.full(4, 3.0), counts)
    assert uniform.tolist() == [0.25] * 4


def test_counted_tokens_are_the_softmax_over_tokens_that_share_their_examples_score():
    scores, counts = RNG.normal(size=3), np.array([2.0, 5.0, 1.0])
    by_token = softmax(np.repeat(scores / 0.5, counts.astype(int)))
    found = weights_of(example_softmax(0.5, count_tokens=True), scores, counts)
    np.testing.assert_allclose(found, [by_token[:2].sum(), by_token[2:7].sum(), by_token[7]])
    # Full windows, as the paper's are: nothing changes.
    full = weights_of(example_softmax(0.5, count_tokens=True), scores, np.full(3, 7.0))
    np.testing.assert_allclose(full, softmax(scores / 0.5))


@pytest.mark.parametrize("count_tokens", [False, True])
def test_a_floor_keeps_a_part_of_every_examples_weight(count_tokens):
    counts = np.array([2.0, 5.0, 1.0])
    equal = counts / 8 if count_tokens else np.full(3, 1 / 3)
    weighting = example_softmax(0.5, count_tokens, floor=0.2)
    found = weights_of(weighting, np.array([0.0, 1.0, 100.0]), counts)
    np.testing.assert_allclose(found, 0.2 * equal + 0.8 * np.array([0, 0, 1]), atol=1e-12)
    free = weights_of(example_softmax(0.5, count_tokens), SCORES[0, :3], counts)
    found = weights_of(weighting, SCORES[0, :3], counts)
    np.testing.assert_allclose(found, 0.8 * free + 0.2 * equal)


def test_the_share_kept_is_that_of_a_choice_and_falls_with_differences_alone():
    equal = np.full(8, 1 / 8)
    for kept in (1, 3, 8):
        weights = np.where(np.arange(8) < kept, 1 / kept, 0)
        assert share_kept(tf.constant(weights), tf.constant(equal)).numpy() == pytest.approx(
            kept / 8
        )
    counts = np.array([2.0, 5.0, 1.0])  # of tokens the share of the tokens: here 7 of 8
    found = share_kept(tf.constant([2 / 7, 5 / 7, 0.0]), tf.constant(counts / 8, tf.float32))
    assert found.numpy() == pytest.approx(7 / 8)
    weights = softmax(RNG.normal(size=8))
    found = share_kept(tf.constant(weights), tf.constant(equal)).numpy()
    assert found == pytest.approx(1 / (8 * np.square(weights).sum()))
    nothing = tf.zeros([3])
    with tf.GradientTape() as tape:
        tape.watch(nothing)
        share = share_kept(nothing, nothing)
    assert share.numpy() == 1.0 and not tape.gradient(share, nothing).numpy().any()


@pytest.mark.parametrize("within", ["batch", "window"])
def test_weights_of_tokens_equal_numpy(within):
    found = weights_of(token_softmax(2.0, within), SCORES, COUNTS)
    real, expected = COUNTS > 0, np.zeros_like(SCORES)
    if within == "batch":
        expected[real] = softmax(SCORES[real] / 2)
    else:
        for row in range(2):  # of the third window nothing is real
            expected[row, real[row]] = softmax(SCORES[row, real[row]] / 2) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert found.sum() == pytest.approx(1.0)


@pytest.mark.parametrize("within", ["batch", "window"])
def test_a_batch_of_nothing_weighs_nothing_and_has_a_gradient(within):
    scores = tf.constant(SCORES)
    with tf.GradientTape() as tape:
        tape.watch(scores)
        weights = token_softmax(within=within)(scores, tf.zeros_like(scores))
    assert not weights.numpy().any() and not tape.gradient(weights, scores).numpy().any()


def test_means_leave_padding_out():
    values, counts = tf.constant(SCORES), tf.constant(COUNTS)
    np.testing.assert_allclose(masked_mean(values, counts), SCORES[COUNTS > 0].mean())
    found = mean_of_tokens(values, counts > 0).numpy()
    np.testing.assert_allclose(found, [SCORES[0, 1:].mean(), SCORES[1, 1:3].mean(), 0.0])


# ---------------------------------------------------------------------------------- combinations


def combined(combination, losses: dict) -> tuple[float, dict]:
    values = {name: tf.constant(loss, tf.float64) for name, loss in losses.items()}
    with tf.GradientTape() as tape:
        tape.watch(values)
        total = combination(values)
    return float(total), {n: float(g) for n, g in tape.gradient(total, values).items()}


def test_the_weighted_mean_and_its_shares():
    losses = {"a": 1.0, "b": 3.0}
    assert combined(weighted_mean(), losses) == (2.0, {"a": 0.5, "b": 0.5})
    total, shares = combined(weighted_mean({"a": 3.0, "b": 1.0}), losses)
    assert total == 1.5 and shares == {"a": 0.75, "b": 0.25}
    assert combined(weighted_mean(), {"a": 2.5}) == (2.5, {"a": 1.0})


def test_the_worst_in_the_limit_and_the_mean_in_the_other():
    losses = {"a": 1.0, "b": 3.0, "c": 2.0}
    assert combined(worst(), losses) == (3.0, {"a": 0.0, "b": 1.0, "c": 0.0})
    near, shares = combined(worst(0.01), losses)
    assert near == pytest.approx(3.0, abs=0.02) and shares["b"] == pytest.approx(1.0)
    assert combined(worst(1e4), losses)[0] == pytest.approx(2.0, abs=1e-3)
    total, shares = combined(worst(0.5), losses)
    values = np.array([1.0, 3.0, 2.0])
    assert total == pytest.approx(0.5 * np.log(np.exp(values / 0.5).mean()))
    np.testing.assert_allclose(list(shares.values()), softmax(values / 0.5))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: example_softmax(0.0), "temperature is 0.0: it must be positive"),
        (lambda: example_softmax(floor=1.0), "floor is 1.0: it must be at least 0 and below 1"),
        (lambda: token_softmax(-1.0), "temperature is -1.0: it must be positive"),
        (lambda: token_softmax(within="row"), "token_softmax.within is 'row': it must be one of"),
        (lambda: worst(-0.1), "worst.temperature is -0.1: it must be 0 or positive"),
        (
            lambda: worst().check(["only"]),
            r"@worst\(\) has the one held-out set only: name several",
        ),
        (
            lambda: weighted_mean({"a": 1.0}).check(["a", "b"]),
            "names the sets a, and the held-out sets are a, b: give each",
        ),
        (lambda: weighted_mean({"a": -1.0}).check(["a"]), "weights must not be negative"),
        (lambda: weighted_mean({"a": 0.0}).check(["a"]), "one must be positive"),
    ],
)
def test_impossible_settings_are_named(make, message):
    with pytest.raises(ConfigurationError, match=message):
        make()
