"""The check of the weights' theory: its figures on made weights, and a short run of it."""

import check_noise_weights as check
import numpy as np
import pytest


@pytest.fixture
def random():
    return np.random.default_rng(0)


def test_slopes_are_those_within_batches(random):
    """Batches of more noise that also have larger constants: across them the sign is another."""
    log_noise = random.normal(size=(50, 8)) + np.arange(50)[:, None]
    log_weights = -1.5 * log_noise + 4 * np.arange(50)[:, None]
    assert np.polyfit(log_noise.ravel(), log_weights.ravel(), 1)[0] > 2
    found = check.within_batches(log_weights, log_noise, random)
    assert found["slope"] == pytest.approx(-1.5)
    assert found["slope_95"] == pytest.approx([-1.5, -1.5])
    assert found["correlation"] == pytest.approx(-1)


def test_the_interval_is_that_of_the_slope(random):
    """Against the textbook's error of a slope, s / sqrt(sum of squares)."""
    log_noise = random.normal(size=(400, 16))
    found = check.within_batches(
        -log_noise + random.normal(size=log_noise.shape), log_noise, random
    )
    low, high = found["slope_95"]
    assert low < found["slope"] < high and low < -1 < high
    assert high - low == pytest.approx(2 * 1.96 / np.sqrt(400 * 15), rel=0.15)
    assert found["correlation"] == pytest.approx(-np.sqrt(0.5), abs=0.02)


@pytest.mark.parametrize("noise", ["targets", "inputs"])
def test_best_weights_of_members_that_interpolate(noise, random):
    """Inverse variances where the mean of the noise is 0; less than those where it is not."""
    case = check.Case(noise, check.sgd(4.0))
    points = check.clean_points(case, random)
    theta = np.linalg.lstsq(points.x, points.y)[0]
    assert points.gradients(theta, points.x, points.y) == pytest.approx(0, abs=1e-12)
    levels = check.at_levels(case, points, theta, random)
    best = check.best_weights(4.0, points, [(theta, levels)])
    assert best.mean() == pytest.approx(1, abs=1e-3)
    if noise == "targets":
        assert best * check.LEVELS**2 / check.LEVELS[0] ** 2 == pytest.approx(best[0], rel=0.1)
        assert levels.noise == pytest.approx(4 * check.LEVELS**2, rel=0.1)
    else:
        assert np.all(best[1:13] / best[0] < 1.1 * (check.LEVELS[0] / check.LEVELS[1:13]) ** 2)
        assert best[-1] < 0.1 * best[0] * (check.LEVELS[0] / check.LEVELS[-1]) ** 2


def test_means_of_gradients_are_those_of_copies(random):
    """The bias that noise in inputs brings is worked out by hand in the program."""
    case = check.CASES["inputs"]
    points = check.clean_points(case, random)
    theta = random.normal(size=case.width)
    levels = check.at_levels(case, points, theta, random, draws=1)
    _, x, y = points.copies("inputs", np.full(100000, check.LEVELS[-1]), random)
    drawn = points.gradients(theta, x, y).mean(axis=0)
    clean = points.gradients(theta, points.x, points.y).mean(axis=0)
    assert np.linalg.norm(levels.means[-1] - clean) > 2
    assert np.linalg.norm(levels.means[-1] - drawn) < 0.2


def test_a_short_run_weighs_noise_down():
    case = check.CASES["targets"]
    _, *sets = check.data(case, 0)
    trainer = check.learn(case, 0, sets, 150, rate=3e-2)
    scores, log_noise = check.measured(trainer.rater, sets[0], 0)
    found = check.within_batches(scores, log_noise, np.random.default_rng(0))
    assert found["slope_95"][1] < -1.2
    assert found["correlation"] < -0.8  # -0.89; -0.94 and -0.99 by other seeds
