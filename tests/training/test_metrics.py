import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy import stats

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.training import metrics

few_values = st.floats(-3, 3).map(lambda x: round(x, 1))  # Rounded, so that ties occur.
pairs = st.lists(st.tuples(few_values, st.booleans()), min_size=2, max_size=25)


def brute_force_auc(scores, positive):
    wins = [
        1.0 if a > b else 0.5 if a == b else 0.0
        for a, p in zip(scores, positive)
        if p
        for b, q in zip(scores, positive)
        if not q
    ]
    return sum(wins) / len(wins) if wins else math.nan


@settings(max_examples=150, deadline=None)
@given(pairs)
def test_auc_is_the_share_of_pairs_in_the_right_order(rows):
    scores, positive = zip(*rows)
    expected = brute_force_auc(scores, positive)
    found = metrics.area_under_curve(scores, positive)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def brute_force_rank(values, value):
    below = sum(v < value for v in values)
    same = sum(v == value for v in values)
    return below + (same + 1) / 2


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(few_values, few_values), min_size=2, max_size=20))
def test_spearman_is_the_correlation_of_average_ranks(rows):
    x, y = zip(*rows)
    a = np.array([brute_force_rank(x, v) for v in x])
    b = np.array([brute_force_rank(y, v) for v in y])
    found = metrics.spearman(x, y)
    if len(set(x)) == 1 or len(set(y)) == 1:
        assert math.isnan(found)
    else:
        np.testing.assert_allclose(found, np.corrcoef(a, b)[0, 1], rtol=0, atol=1e-12)


def test_spearman_is_that_of_scipy():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 80), rng.normal(size=80)
    assert metrics.spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_known_values():
    assert metrics.area_under_curve([1, 2, 3, 4], [False, False, True, True]) == 1.0
    assert metrics.area_under_curve([5, 5, 5], [True, False, True]) == 0.5
    assert metrics.area_under_curve([-np.inf, 0, np.inf], [False, False, True]) == 1.0
    assert metrics.spearman([1, 2, 3], [10, 100, 1000]) == pytest.approx(1.0)
    assert metrics.spearman([-np.inf, 0, 1], [3, 2, 1]) == pytest.approx(-1.0)
    assert metrics.pearson([0, 1, 2], [1, 3, 5]) == pytest.approx(1.0)
    assert metrics.pearson([0, 1e-200, 2e-200], [1, 3, 5]) == pytest.approx(1.0)
    assert math.isnan(metrics.pearson([1], [2]))
    assert math.isnan(metrics.area_under_curve([1, 2], [True, True]))


def test_nan_scores_and_unequal_lengths_are_errors():
    with pytest.raises(NonFiniteError, match="1 of 3 values are NaN"):
        metrics.area_under_curve([1, np.nan, 2], [True, False, True])
    with pytest.raises(ConfigurationError, match="x has 2 values but y has 3"):
        metrics.spearman([1, 2], [1, 2, 3])
    with pytest.raises(NonFiniteError, match="finite"):
        metrics.pearson([np.inf, 1], [1, 2])
    with pytest.raises(ConfigurationError, match="one dimension"):
        metrics.spearman([[1, 2]], [[1, 2]])


def test_rater_quality_by_kind_and_pooled():
    scores = np.array([3.0, 2.0, 1.5, 1.0, 2.5, 0.0, 9.0])
    levels = np.array([0.0, 0.0, 0.1, 0.5, 0.3, 0.9, np.nan])
    kinds = ["clean", None, "a", "a", "b", "b", "b"]
    quality = metrics.rater_quality(scores, levels, kinds, 0.2)
    # Of level 0.2 or more: 1.0, 2.5, 0.0 against 3.0 and 2.0; only 2.5 beats 2.0.
    assert quality["auc"] == pytest.approx(5 / 6)
    assert quality["auc_all"] == pytest.approx(7 / 8)
    assert quality["spearman"] == pytest.approx(metrics.spearman([1.5, 1, 2.5, 0], [1, 5, 3, 9]))
    assert (quality["clean"], quality["damaged"], quality["level_unknown"]) == (2, 4, 1)
    assert quality["by_damage"]["a"]["damaged_from_minimum_level"] == 1
    assert quality["by_damage"]["b"]["auc"] == pytest.approx(3 / 4)
    assert quality["by_damage"]["b"]["spearman"] == pytest.approx(-1.0)
    assert "reason" not in quality


def test_rater_quality_without_damage_says_why():
    quality = metrics.rater_quality([1.0, 2.0], [0.0, np.nan], [None, None])
    assert quality["auc"] is quality["auc_all"] is quality["spearman"] is None
    assert "needs both clean and damaged" in quality["reason"]
    with pytest.raises(NonFiniteError):
        metrics.rater_quality([np.nan], [0.0], ["clean"])


def test_regression_is_the_least_squares_line():
    rng = np.random.default_rng(0)
    x = rng.uniform(size=200)
    y = 2.0 - 3.0 * x + 0.1 * rng.normal(size=200)
    line = metrics.regression(x, y)
    slope, intercept = np.polyfit(x, y, 1)
    assert line["slope"] == pytest.approx(slope) and line["intercept"] == pytest.approx(intercept)
    assert line["pearson"] == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert line["spearman"] == metrics.spearman(x, y)
    alike = metrics.regression(np.ones(5), np.arange(5.0))
    assert all(np.isnan(value) for value in alike.values())
