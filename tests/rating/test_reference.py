import json
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import DataError
from dr_keras.rating.reference import ReferenceDistribution, has_drifted, kolmogorov_smirnov

finite = st.floats(-1e6, 1e6, width=32)


def test_percentiles_of_a_known_distribution():
    reference = ReferenceDistribution(np.array([0, 10, 20, 40], np.float32))
    scores = [-5, 0, 5, 10, 30, 40, 41, np.inf, -np.inf, np.nan]
    expected = np.array([0, 0, 0.5, 1, 2.5, 3, 3, 3, 0, 0]) / 3
    np.testing.assert_allclose(reference.percentile(scores), expected, atol=1e-7)


def test_equal_scores_share_the_middle_of_their_stretch():
    reference = ReferenceDistribution(np.array([0, 1, 1, 1, 4], np.float32))
    np.testing.assert_allclose(reference.percentile([0, 1, 2.5, 4]), [0, 0.5, 0.875, 1])
    constant = ReferenceDistribution.from_scores(np.full(50, 3.0))
    assert constant.percentile([2.9, 3.0, 3.1]).tolist() == [0.0, 0.5, 1.0]


def test_from_scores_gives_uniform_percentiles_on_its_own_sample():
    scores = np.random.default_rng(0).normal(size=5000) ** 3
    reference = ReferenceDistribution.from_scores(scores)
    assert reference.sample_size == 5000 and reference.quantiles.shape == (1001,)
    percentiles = reference.percentile(scores)
    np.testing.assert_allclose(percentiles, scores.argsort().argsort() / 4999, atol=2e-3)
    assert percentiles.mean() == pytest.approx(0.5, abs=1e-3)


def test_scores_that_are_not_finite_do_not_enter_the_distribution():
    reference = ReferenceDistribution.from_scores([1.0, np.nan, 3.0, np.inf], quantiles=3)
    assert reference.quantiles.tolist() == [1.0, 2.0, 3.0]
    assert reference.sample_size == 2


@settings(deadline=None, max_examples=60)
@given(st.lists(finite, min_size=1, max_size=30), st.lists(finite, max_size=30), st.integers(2, 40))
def test_tensor_and_array_agree_and_stay_in_order(sample, scores, quantiles):
    reference = ReferenceDistribution.from_scores(sample, quantiles=quantiles)
    scores = np.sort(np.array(scores + sample + [np.inf, -np.inf], np.float32))
    array = reference.percentile(scores)
    np.testing.assert_array_equal(array, reference.percentile(tf.constant(scores)).numpy())
    assert np.all((array >= 0) & (array <= 1)) and np.all(np.diff(array) >= -1e-6)


@pytest.mark.parametrize("sample", [[0, 2], [0, 1.5, 2, 1e9], [1, 1.25, 3], [1, 1.25, 1e38]])
@pytest.mark.parametrize("quantiles", [2, 3, 7])
def test_tensor_and_array_agree_where_numbers_fall_below_the_smallest(sample, quantiles):
    smallest = np.finfo(np.float32).tiny
    reference = ReferenceDistribution.from_scores(np.array(sample) * smallest, quantiles=quantiles)
    scores = np.linspace(-1, 4, 41, dtype=np.float32) * smallest
    scores = np.append(scores, np.float32([1, 2, np.inf, -np.inf, np.nan]))
    array = reference.percentile(scores)
    np.testing.assert_array_equal(array, reference.percentile(tf.constant(scores)).numpy())
    assert np.all((array >= 0) & (array <= 1))


def test_the_tensor_version_runs_in_a_graph_and_keeps_static_shapes():
    reference = ReferenceDistribution.from_scores(np.arange(100.0))
    graph = tf.function(reference.percentile, input_signature=[tf.TensorSpec([None, 2])])
    scores = np.array([[0.0, np.nan], [49.5, 200.0]], np.float32)
    assert graph.get_concrete_function().output_shapes == tf.TensorShape([None, 2])
    np.testing.assert_array_equal(graph(scores).numpy(), reference.percentile(scores))


def test_json_round_trip_is_exact():
    reference = ReferenceDistribution.from_scores(np.random.default_rng(1).normal(size=333))
    loaded = ReferenceDistribution.from_dict(json.loads(json.dumps(reference.to_dict())))
    np.testing.assert_array_equal(loaded.quantiles, reference.quantiles)
    assert loaded.sample_size == 333


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: ReferenceDistribution.from_scores([]), "None of the 0 scores is finite"),
        (lambda: ReferenceDistribution.from_scores([np.nan]), "None of the 1 scores is finite"),
        (lambda: ReferenceDistribution.from_scores([1.0], quantiles=1), "2 or more quantiles"),
        (lambda: ReferenceDistribution(np.array([1.0])), "at least 2 finite quantiles"),
        (lambda: ReferenceDistribution(np.array([1.0, np.nan])), "at least 2 finite quantiles"),
        (lambda: ReferenceDistribution(np.array([2.0, 1.0])), "decrease"),
        (lambda: ReferenceDistribution.from_dict({}), "not a stored reference"),
    ],
)
def test_what_is_no_distribution_is_refused(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_the_size_of_the_sample_is_unknown_unless_told():
    assert ReferenceDistribution(np.array([0.0, 1.0])).sample_size == 0


@pytest.mark.parametrize("as_given", [np.asarray, tf.constant])
def test_percentiles_between_the_first_and_the_last_two_quantiles(as_given):
    reference = ReferenceDistribution(np.array([0, 4, 5, 13], np.float32))
    scores = as_given(np.array([1, 3, 4.5, 7, 11], np.float32))
    expected = np.array([0.25, 0.75, 1.5, 2.25, 2.75]) / 3
    np.testing.assert_allclose(reference.percentile(scores), expected, atol=1e-6)


UNIFORM = ReferenceDistribution(np.array([0.0, 1.0]), sample_size=10_000)


def test_distances_that_can_be_told_by_hand():
    middles = (np.arange(100) + 0.5) / 100
    assert kolmogorov_smirnov(middles, UNIFORM) == pytest.approx(0.005, abs=1e-6)
    assert kolmogorov_smirnov(middles / 2, UNIFORM) == pytest.approx(0.5, abs=0.01)
    assert kolmogorov_smirnov(middles + 5, UNIFORM) == 1.0
    assert kolmogorov_smirnov([0.3] * 7, UNIFORM) == pytest.approx(0.7)
    assert kolmogorov_smirnov([0.3, math.nan, math.inf], UNIFORM) == pytest.approx(0.7)
    assert math.isnan(kolmogorov_smirnov([math.nan], UNIFORM))


def test_many_equal_scores_are_no_distance():
    scores = np.repeat([1.0, 2.0, 2.5], [500, 300, 200])
    reference = ReferenceDistribution.from_scores(scores)
    assert kolmogorov_smirnov(scores, reference) < 2e-3
    assert kolmogorov_smirnov(np.full(9, 2.0), reference) == pytest.approx(0.5, abs=2e-3)


def test_a_sample_is_as_far_from_its_own_distribution_as_chance_has_it():
    generator = np.random.default_rng(0)
    reference = ReferenceDistribution.from_scores(generator.normal(size=20_000))
    close = kolmogorov_smirnov(generator.normal(size=2_000), reference)
    far = kolmogorov_smirnov(generator.normal(0.5, size=2_000), reference)
    assert close < 0.04
    assert far == pytest.approx(0.1974, abs=0.04)  # 2 Phi(1/4) - 1
    assert not has_drifted(close, 2_000, 20_000, 0.1) and has_drifted(far, 2_000, 20_000, 0.1)


def test_few_scores_say_little():
    assert has_drifted(0.3, 1_000, 1_000, 0.1)
    assert not has_drifted(0.3, 20, 1_000, 0.1)  # chance gives 0.37
    assert not has_drifted(0.3, 1_000, 1_000, 0.35)
    assert has_drifted(0.1, 1_000, 0, 0.0)
    assert not has_drifted(math.nan, 0, 0, 0.0)
