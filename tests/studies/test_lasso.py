"""What of a score features are found to explain."""

import json

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.studies.lasso import explain_scores
import gin


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


def test_coefficients_are_those_of_the_lasso():
    """With two features z-scored, the optimality conditions give both in closed form."""
    rng = np.random.default_rng(5)
    a = rng.normal(size=200)
    features = {"a": a, "b": 0.6 * a + rng.normal(size=200)}
    scores = 2 * a + features["b"] + rng.normal(size=200)
    x = np.stack([(v - v.mean()) / v.std() for v in features.values()], axis=1)
    y = (scores - scores.mean()) / scores.std()
    for penalty in (0.03, 0.2):
        found = explain_scores(scores, features, penalty=penalty)
        w = np.linalg.solve(x.T @ x / 200, x.T @ y / 200 - penalty)  # both are positive
        assert list(found["coefficients"].values()) == pytest.approx(sorted(w)[::-1], abs=1e-6)


def test_the_papers_penalty_is_taken_where_it_is_bound():
    scores, features = made_up()
    gin.parse_config("explain_scores.penalty = 0.03\nexplain_scores.folds = 10")
    found = explain_scores(scores, features)
    assert found["penalty"] == 0.03 and found["folds"] == 10
    (at,) = [entry for entry in found["path"] if entry[0] == 0.03]
    assert found["r2"] == at[1] and found["selected"] == at[2]
    penalties = [entry[0] for entry in found["path"]]
    assert len(penalties) == 41 and penalties == sorted(penalties, reverse=True)
    with pytest.raises(ConfigurationError, match="penalty is 0: it must be above 0"):
        explain_scores(scores, features, penalty=0)


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
