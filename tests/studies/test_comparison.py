from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError, NonFiniteError
from dr_keras.studies import comparison
from dr_keras.studies.verdict import judge, too_small_for_verdict

CURVE = [(0, 5.0), (10, 3.0), (20, 2.0), (30, 2.5)]


@pytest.mark.parametrize(
    "target, expected", [(4.0, 5.0), (3.0, 10.0), (2.5, 15.0), (6.0, 0.0), (1.9, None)]
)
def test_steps_to_reach_interpolates_the_first_crossing(target, expected):
    assert comparison.steps_to_reach(target, CURVE) == expected


@given(st.lists(st.floats(0.1, 9), min_size=2, max_size=9), st.floats(0.1, 9))
def test_steps_to_reach_lies_between_the_evaluations_around_it(losses, target):
    curve = [(7 * k, loss) for k, loss in enumerate(losses)]
    found = comparison.steps_to_reach(target, curve)
    if found is None:
        assert min(losses) > target
    else:
        k = next(k for k, loss in enumerate(losses) if loss <= target)
        assert max(7 * (k - 1), 0) <= found <= 7 * k


def arms(**finals):
    curves = {
        name: {seed: [(0, 5.0), (100, value)] for seed, value in enumerate(values)}
        for name, values in finals.items()
    }
    return comparison.compare(curves, {name: {"unique_tokens": 1} for name in curves})


def test_compare_gives_means_spreads_and_shares():
    found = arms(unfiltered=[3.0, 3.2, 3.4], rater=[2.2, 2.4, 2.6], random=[3.3, 3.5, 3.7])
    unfiltered, rater = found["unfiltered"], found["rater"]
    assert unfiltered["final"]["mean"] == pytest.approx(3.2)
    assert unfiltered["final"]["spread"] == pytest.approx(0.2)
    assert unfiltered["match"]["share"] == 1.0
    assert rater["unique_tokens"] == 1
    # From 5.0 to 2.4 in 100 steps: 3.2 is met at 1.8 / 2.6 of them.
    assert rater["match"]["steps"] == pytest.approx(100 * 1.8 / 2.6)
    assert rater["match"]["share_by_seed"]["0"] == pytest.approx(1.8 / 2.8)
    assert rater["against"]["unfiltered"]["difference"] == pytest.approx(-0.8)
    assert rater["against"]["unfiltered"]["margin"] == pytest.approx(0.4)
    assert rater["against"]["unfiltered"]["outcome"] == "better"
    assert found["random"]["match"]["steps"] is None
    assert "never reached 3.2" in found["random"]["match"]["reason"]
    assert found["random"]["against"]["unfiltered"]["outcome"] == "undecided"  # 0.3 < 0.4
    assert found["random"]["against"]["rater"]["outcome"] == "worse"


def test_one_seed_gives_no_verdict():
    found = arms(unfiltered=[3.0], rater=[1.0])
    assert found["rater"]["final"]["spread"] is None
    verdict = judge(found)
    assert verdict["outcome"] == "undecided"
    assert "at least two seeds" in verdict["text"]


def test_bad_curves_are_refused():
    with pytest.raises(ConfigurationError, match="not among the arms"):
        comparison.compare({"rater": {0: CURVE}})
    with pytest.raises(ConfigurationError, match="empty"):
        comparison.compare({"unfiltered": {0: []}})
    with pytest.raises(ConfigurationError, match="do not rise"):
        comparison.steps_to_reach(1.0, [(1, 2.0), (1, 1.0)])
    with pytest.raises(NonFiniteError, match="rater.*step 10"):
        comparison.compare({"unfiltered": {0: CURVE}, "rater": {0: [(0, 1.0), (10, np.nan)]}})
    with pytest.raises(ConfigurationError, match="different steps"):
        comparison.compare({"unfiltered": {0: CURVE}, "rater": {0: CURVE[:-1]}})
    with pytest.raises(ConfigurationError, match="seeds 0 and 1"):
        comparison.compare({"unfiltered": {0: CURVE, 1: CURVE[:-1]}})


@pytest.mark.parametrize(
    "finals, outcome, words",
    [
        (dict(unfiltered=[3, 3.1], random=[3.1, 3.2], rater=[2, 2.1]), "better", "of the steps"),
        (dict(unfiltered=[3, 3.1], random=[3.1, 3.2], rater=[4, 4.1]), "worse", "never reached"),
        (dict(unfiltered=[3, 3.1], random=[2, 2.1], rater=[2, 2.1]), "undecided", "to random"),
        (dict(unfiltered=[3, 3.1], random=[1, 1.1], rater=[2, 2.1]), "worse", "than random"),
    ],
)
def test_verdict(finals, outcome, words):
    verdict = judge(arms(**finals))
    assert verdict["outcome"] == outcome
    assert words in verdict["text"]
    assert "rater" in verdict["figures"]


def test_too_small_overrides_any_figure():
    found = arms(unfiltered=[3, 3.1], rater=[2, 2.1])
    why = too_small_for_verdict(train_examples=100, test_tokens=500, steps=400, batch_size=32)
    assert "500 tokens" in why and "100 training examples" in why and "128 times" in why
    verdict = judge(found, too_small=why)
    assert verdict["outcome"] == "too_small"
    assert verdict["text"].startswith("This corpus is too small for a verdict: the test part")
    assert too_small_for_verdict(10_000, 50_000, steps=400, batch_size=32) is None
    with pytest.raises(ConfigurationError, match="without the arms"):
        judge(found, candidate="perplexity")
