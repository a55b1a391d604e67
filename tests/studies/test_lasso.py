"""The Lasso against closed forms, and what of a score features are found to explain."""

import json

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.studies.lasso import explain_scores, lasso
import gin


def orthogonal(n, p, rng):
    """Columns that are orthogonal, centred and of mean square 1."""
    columns = np.linalg.qr(np.c_[np.ones(n), rng.normal(size=(n, p))])[0][:, 1:]
    return columns * np.sqrt(n)


def test_orthogonal_columns_give_the_soft_threshold():
    rng = np.random.default_rng(0)
    x = orthogonal(50, 4, rng)
    y = x @ np.array([2.0, -0.5, 0.1, 0.0]) + 0.01 * rng.normal(size=50)
    moment = x.T @ y / 50
    for penalty in (0.0, 0.3, 1.0, 5.0):
        expected = np.sign(moment) * np.maximum(np.abs(moment) - penalty, 0)
        assert np.allclose(lasso(x, y, penalty), expected, atol=1e-9)
    assert np.flatnonzero(lasso(x, y, 0.3)).tolist() == [0, 1]


def test_without_penalty_it_is_least_squares():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(40, 3)) @ np.array([[1, 0.8, 0], [0, 1, 0.5], [0, 0, 1]])
    y = rng.normal(size=40)
    assert np.allclose(lasso(x, y, 0), np.linalg.lstsq(x, y, rcond=None)[0], atol=1e-6)


def test_optimality_conditions_with_correlated_columns():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(60, 6))
    x[:, 1] = x[:, 0] + 0.1 * x[:, 1]
    y = x[:, 0] - x[:, 3] + rng.normal(size=60)
    w = lasso(x, y, 0.2)
    gradient = x.T @ (x @ w - y) / 60
    active = w != 0
    assert active.any() and not active.all()
    assert np.allclose(gradient[active], -0.2 * np.sign(w[active]), atol=1e-6)
    assert (np.abs(gradient[~active]) <= 0.2 + 1e-9).all()


def made_up(n=600, noise=1.0):
    rng = np.random.default_rng(3)
    features = {f"f{k}": rng.normal(size=n) * 10**k for k in range(6)}
    features["constant"] = np.full(n, 7.0)
    scores = 3 * features["f0"] - features["f2"] / 100 * 2 + noise * rng.normal(size=n)
    return scores, features


def test_what_explains_the_score_is_left_in():
    scores, features = made_up()
    found = json.loads(json.dumps(explain_scores(scores, features)))
    # variance 9 + 4 of 14
    assert found["r2_least_squares"] == pytest.approx(13 / 14, abs=0.02)
    assert found["r2"] == pytest.approx(13 / 14, abs=0.03)
    assert found["r2"] <= found["r2_best"]
    assert list(found["coefficients"]) == ["f0", "f2"] and found["selected"] == 2
    # standardised: 3 and 2 over the score's deviation, less the penalty
    assert found["coefficients"]["f0"] == pytest.approx(3 / 14**0.5 - found["penalty"], abs=0.04)
    assert found["coefficients"]["f2"] == pytest.approx(-2 / 14**0.5 + found["penalty"], abs=0.04)
    assert found["left_out"] == ["constant"] and found["examples"] == 600
    assert found["path"][0][2] == 0 and abs(found["path"][0][1]) < 0.02
    scale = explain_scores(scores * 1000 + 5, features)
    assert scale["r2"] == pytest.approx(found["r2"])


def test_noise_is_not_explained():
    _, features = made_up()
    found = explain_scores(np.random.default_rng(9).normal(size=600), features)
    assert found["r2"] < 0.02 and found["selected"] == 0
    assert found["r2_least_squares"] < 0.02  # in the sample it would be about 6 / 600 above 0


def test_copies_of_an_example_in_one_group_do_not_help():
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=(20, 15)), 10, axis=0)
    scores = np.repeat(rng.normal(size=20), 10)
    features = {f"f{k}": x[:, k] for k in range(15)}
    groups = np.repeat(np.arange(20), 10)
    alone = explain_scores(scores, features)["r2_least_squares"]
    assert alone > 0.3 and explain_scores(scores, features, groups)["r2_least_squares"] < 0


def test_nothing_to_explain_and_errors():
    _, features = made_up(30)
    found = explain_scores(np.ones(30), features)
    assert found["r2"] is None and found["reason"] == "all scores are equal"
    assert explain_scores(np.arange(4.0), {"x": np.ones(4)})["reason"] == "no feature varies"
    with pytest.raises(NonFiniteError, match="f1: 1 of 30 values are not finite"):
        features["f1"][3] = np.nan
        explain_scores(np.arange(30.0), features)
    with pytest.raises(ConfigurationError, match="there are 30 scores"):
        explain_scores(np.arange(30.0), {"x": np.ones(4)})
    gin.parse_config("explain_scores.folds = 3")
    scores, features = made_up(60)
    assert explain_scores(scores, features)["folds"] == 3
