from decimal import Decimal
from fractions import Fraction
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.rating import fractions
from dr_keras.rating.fractions import keep_probability, oversized_batch


@pytest.mark.parametrize(
    "batch_size, discard_fraction, expected",
    [
        (64, 0.5, 128),
        (64, 0.0, 64),
        (64, 0, 64),
        (10, 0.9, 100),  # floats: 10 / (1 - 0.9) = 100.00000000000001, ceil 101
        (1, 0.9, 10),
        (9, 0.1, 10),
        (7, 0.3, 10),  # floats: 7 / 0.7 = 10.000000000000002
        (128, 0.75, 512),
        (128, 0.1, 143),
        (3, "0.25", 4),
        (3, Decimal("0.25"), 4),
        (2, Fraction(1, 3), 3),
        (9, np.float32(0.1), 10),
        (np.int64(9), 0.1, 10),
        (1, 1e-5, 2),
    ],
)
def test_oversized_batch_is_the_exact_ceiling(batch_size, discard_fraction, expected):
    assert fractions.oversized_batch(batch_size, discard_fraction) == expected


@given(st.integers(1, 10_000), st.integers(0, 999))
def test_oversized_batch_brackets_the_fraction(batch_size, thousandths):
    oversized = fractions.oversized_batch(batch_size, thousandths / 1000)
    kept_per_mille = 1000 - thousandths
    assert oversized * kept_per_mille >= 1000 * batch_size
    assert (oversized - 1) * kept_per_mille < 1000 * batch_size


def test_achieved_fraction_is_what_the_batch_really_drops():
    assert fractions.achieved_fraction(128, 0.1) == pytest.approx(1 - 128 / 143, abs=1e-15)
    assert fractions.achieved_fraction(64, 0.5) == 0.5
    assert fractions.achieved_fraction(64, 0) == 0.0


@pytest.mark.parametrize(
    "bad", [1, 1.0, -0.1, 1.5, float("nan"), float("inf"), "half", None, True, "1/0"]
)
def test_a_fraction_outside_its_range_is_refused(bad):
    with pytest.raises(ConfigurationError, match="discard_fraction is .*from 0"):
        fractions.oversized_batch(64, bad)


@pytest.mark.parametrize("bad", [0, -3, 2.5, True])
def test_a_batch_size_that_is_no_count_is_refused(bad):
    with pytest.raises(ConfigurationError, match="batch_size is .*at least 1"):
        fractions.oversized_batch(bad, 0.5)


SIZES = [(64, 128), (64, 65), (1, 10), (9, 10), (128, 512), (128, 143), (1, 2)]


def binomial_sum(p, batch_size, oversized):
    """P[Binomial(B_up - 1, 1 - p) <= B - 1] by its definition."""
    n = oversized - 1
    return math.fsum(
        math.comb(n, k) * (1 - p) ** k * p ** (n - k) for k in range(min(batch_size, n + 1))
    )


@pytest.mark.parametrize("batch_size, oversized", SIZES)
def test_equals_the_binomial_sum(batch_size, oversized):
    p = np.linspace(0.0, 1.0, 101)
    expected = [binomial_sum(x, batch_size, oversized) for x in p]
    actual = keep_probability(p, batch_size, oversized).numpy()
    np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)
    assert actual[0] == 0.0 and actual[-1] == 1.0
    assert np.all(np.diff(actual) >= 0)


@pytest.mark.parametrize("batch_size, oversized", SIZES)
def test_its_mean_over_percentiles_is_the_share_kept(batch_size, oversized):
    p = (np.arange(20_000) + 0.5) / 20_000
    mean = keep_probability(p, batch_size, oversized).numpy().mean()
    assert mean == pytest.approx(batch_size / oversized, abs=1e-6)


@pytest.mark.parametrize("batch_size, discard_fraction", [(16, 0.5), (8, 0.75), (32, 0.1)])
def test_agrees_with_simulated_batch_top_k(batch_size, discard_fraction):
    oversized = oversized_batch(batch_size, discard_fraction)
    rng = np.random.default_rng(7)
    percentiles = rng.uniform(size=(40_000, oversized))  # scores are percentiles here
    threshold = np.sort(percentiles, axis=1)[:, oversized - batch_size]
    # examples of one batch share its threshold; one of each batch are independent draws
    percentiles = percentiles[:, 0]
    kept = percentiles >= threshold
    expected = keep_probability(percentiles, batch_size, oversized).numpy()
    decile = np.minimum((percentiles * 10).astype(int), 9)
    for d in range(10):
        mean = expected[decile == d].mean()
        variance = (expected * (1 - expected))[decile == d].sum() / (decile == d).sum() ** 2
        assert abs(kept[decile == d].mean() - mean) <= 4 * np.sqrt(variance) + 1e-3


def test_discarding_nothing_keeps_everything_whatever_the_score():
    assert keep_probability([0.0, 0.5, float("nan")], 8, 8).numpy().tolist() == [1, 1, 1]


def test_no_score_means_never_kept_and_rounding_beyond_the_ends_is_harmless():
    p = tf.constant([float("nan"), -1e-7, 1.0 + 1e-6], tf.float32)
    assert keep_probability(p, 8, 16).numpy().tolist() == [0, 0, 1]


def test_runs_in_a_graph_and_keeps_the_shape():
    graph = tf.function(
        lambda p: keep_probability(p, 8, 16), input_signature=[tf.TensorSpec([None, 2], tf.float32)]
    )
    assert graph([[0.5, 1.0]]).numpy() == pytest.approx(np.array([[0.5, 1.0]]), abs=1e-12)


@pytest.mark.parametrize("batch_size, oversized", [(0, 4), (8, 7)])
def test_impossible_sizes_are_refused(batch_size, oversized):
    with pytest.raises(ConfigurationError, match="1 <= batch_size <= oversized"):
        keep_probability(0.5, batch_size, oversized)
