"""Means and spreads over seeds in the evidence, against sums worked out by hand."""

import math

import pytest

from dr_keras.studies.evidence_results import add_outcomes, summary


def test_the_spread_is_by_n_minus_1():
    # of 1, 2 and 6: mean 3, squares of the distances 4 + 1 + 9
    found = summary({3: 1.0, 0: 2.0, 7: 6.0}, higher_is_better=True)
    assert found == {
        "mean": 3.0,
        "spread": pytest.approx(math.sqrt(14 / 2)),
        "by_seed": {"3": 1.0, "0": 2.0, "7": 6.0},
        "higher_is_better": True,
    }
    assert summary({0: 1.0, 1: 2.0})["spread"] == pytest.approx(math.sqrt(0.5))


def test_one_seed_has_no_spread_and_says_so():
    assert summary({4: 2.5}) == {
        "mean": 2.5, "spread": None, "by_seed": {"4": 2.5}, "reason": "one seed has no spread"
    }  # fmt: skip


@pytest.mark.parametrize("higher, outcome", [(True, "better"), (False, "worse"), (None, "worse")])
def test_the_same_figures_are_better_or_worse_by_which_way_is_up(higher, outcome):
    figures = {"mine": {0: 5.0, 1: 5.2}, "other": {0: 1.0, 1: 1.2}}
    found = {arm: summary(by_seed, higher) for arm, by_seed in figures.items()}
    add_outcomes(found, ["other", "absent"])
    assert found["other"]["against"] == {}
    assert list(found["mine"]["against"]) == ["other"]
    against = found["mine"]["against"]["other"]
    assert against["outcome"] == outcome and against["difference"] == pytest.approx(4.0)
    # both spreads together
    assert against["margin"] == pytest.approx(2 * math.sqrt(0.02))
