import math

import numpy as np
import pytest

from dr_keras.rating.drift import has_drifted, kolmogorov_smirnov
from dr_keras.rating.reference import ReferenceDistribution

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
