"""Gumbel top-K: chances against simulation, its two limits, and nested choices."""

from fractions import Fraction
import statistics

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.rating import gumbel
from dr_keras.rating.rules import decide

N = 400
PERCENTILE = (np.arange(N) + 0.5) / N
NORMAL = np.array([statistics.NormalDist().inv_cdf(p) for p in PERCENTILE])


@pytest.mark.parametrize("fraction, temperature", [("0.5", 1.0), ("0.9", 0.5), ("0.25", 2.0)])
def test_chances_are_those_of_sampling_without_replacement(fraction, temperature):
    kept = N - int(N * float(fraction))
    draws = np.random.default_rng(0).gumbel(size=(3000, N)) + NORMAL / temperature
    chosen = np.argpartition(-draws, kept, axis=1)[:, :kept]
    simulated = np.bincount(chosen.ravel(), minlength=N) / len(draws)
    chance = gumbel.keep_probability(PERCENTILE, Fraction(fraction), temperature).numpy()
    assert chance.mean() == pytest.approx(1 - float(fraction), abs=2e-3)
    # by neighbours, or 400 binomial errors are what is looked at
    simulated, chance = simulated.reshape(20, 20).mean(1), chance.reshape(20, 20).mean(1)
    np.testing.assert_allclose(chance, simulated, atol=0.008)


def test_a_cold_draw_is_a_threshold_and_a_hot_one_random():
    cold = gumbel.keep_probability(PERCENTILE, Fraction("0.3"), 1e-3).numpy()
    far = abs(PERCENTILE - 0.3) > 0.01
    np.testing.assert_allclose(cold[far], PERCENTILE[far] > 0.3, atol=1e-6)
    hot = gumbel.keep_probability(PERCENTILE, Fraction("0.3"), 1e4).numpy()
    np.testing.assert_allclose(hot, 0.7, atol=1e-3)
    # without scores, kappa is the f-quantile of the Gumbel distribution itself
    assert gumbel.kth_key(Fraction("0.3"), 1e9) == pytest.approx(-np.log(-np.log(0.3)), abs=1e-6)


def test_the_ends_are_certain_and_nothing_dropped_is_nothing_dropped():
    ends = [0.0, np.nan, 1.0]
    assert gumbel.keep_probability(ends, Fraction("0.1"), 3.0).numpy().tolist() == [0, 0, 1]
    assert gumbel.keep_probability(ends, Fraction(0), 3.0).numpy().tolist() == [1, 1, 1]


def test_choices_depend_on_id_and_score_alone_and_are_nested():
    ids = [f"d{n}" for n in range(5000)]
    scores = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    at = {
        f: decide(ids, scores, f, method="gumbel_top_k", temperature=0.7, seed=2).keep
        for f in ("0.5", "0.8")
    }
    assert at["0.5"][at["0.8"]].all()
    assert scores[at["0.8"]].mean() > scores[at["0.5"]].mean() > 0.3
    turned = decide(ids[::-1], scores[::-1], 0.5, method="gumbel_top_k", temperature=0.7, seed=2)
    np.testing.assert_array_equal(turned.keep[::-1], at["0.5"])


def test_a_temperature_is_above_zero_and_of_a_rule_that_has_one():
    with pytest.raises(ConfigurationError, match="temperature is 0: give a number above 0"):
        decide(["a"], [1.0], 0.5, method="gumbel_top_k", temperature=0)
    with pytest.raises(ConfigurationError, match="'threshold' has none.*one .gumbel_top_k"):
        decide(["a"], [1.0], 0.5, method="threshold", temperature=1.0)
