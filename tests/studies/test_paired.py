import math

import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.studies.paired import compared, difference, false_calls, summary


def test_the_spread_is_by_n_minus_1():
    # of 1, 2 and 6: mean 3, squares of the distances 4 + 1 + 9
    found = summary({3: 1.0, 0: 2.0, 7: 6.0}, higher_is_better=True)
    assert found.mean == 3.0 and found.spread == pytest.approx(math.sqrt(14 / 2))
    assert found.by_seed == {"3": 1.0, "0": 2.0, "7": 6.0}
    assert found.higher_is_better and found.reason is None
    assert summary({0: 1.0, 1: 2.0}).spread == pytest.approx(math.sqrt(0.5))


def test_one_seed_has_no_spread_and_says_so():
    found = summary({4: 2.5})
    assert (found.mean, found.spread, found.by_seed) == (2.5, None, {"4": 2.5})
    assert found.reason == "one seed has no spread" and found.higher_is_better is None


def test_a_difference_by_hand_is_paired_by_seed():
    a, b = summary({0: 1.0, 1: 2.0, 2: 6.0}), summary({2: 7.0, 1: 4.0, 0: 1.5, 9: 100.0})
    found = difference(a, b)
    # -0.5, -2 and -1: mean -7/6, squares of the distances 4/9, 25/36 and 1/36; seed 9 has no pair
    assert found.difference == pytest.approx(-7 / 6) and found.pairs == 3
    error = math.sqrt((4 / 9 + 25 / 36 + 1 / 36) / 2 / 3)
    assert found.standard_error == pytest.approx(error)
    assert found.outcome == "better" and found.shown(2) == "-1.17 ± 0.44"
    # By means alone b would be 25 worse, and by the sum of both spreads nothing could be said.
    back = difference(b, a)
    assert back.outcome == "worse" and back.difference == -found.difference
    assert back.shown(2) == "+1.17 ± 0.44"


@pytest.mark.parametrize("scale, outcome", [(1.99, "undecided"), (2.01, "better")])
def test_two_standard_errors_are_the_limit(scale, outcome):
    noise = np.array([-1.0, 0.0, 1.0])  # standard deviation 1, of the mean 1 / sqrt(3)
    gaps = noise - scale / math.sqrt(3)
    found = difference(summary(dict(enumerate(gaps + 5))), summary(dict.fromkeys(range(3), 5.0)))
    assert found.outcome == outcome


def test_the_same_gap_in_every_seed_is_sure_and_no_gap_is_nothing():
    a, b = summary({0: 1.0, 1: 3.0, 2: 2.0}), summary({0: 1.5, 1: 3.5, 2: 2.5})
    assert difference(a, b).standard_error == 0 and difference(a, b).outcome == "better"
    assert difference(a, a).outcome == "undecided"


@pytest.mark.parametrize("seeds, error", [([0], None), ([0, 1], 0.0)])
def test_with_fewer_than_three_seeds_nothing_is_said(seeds, error):
    found = difference(summary(dict.fromkeys(seeds, 1.0)), summary(dict.fromkeys(seeds, 9.0)))
    assert (found.difference, found.standard_error, found.outcome) == (-8.0, error, "undecided")
    assert found.reason == "a verdict needs at least 3 seeds that both arms have"
    with pytest.raises(ConfigurationError, match="seeds 0 and 1 cannot be compared"):
        difference(summary({0: 1.0}), summary({1: 1.0}))


@pytest.mark.parametrize("higher, outcome", [(True, "better"), (False, "worse"), (None, "worse")])
def test_the_same_figures_are_better_or_worse_by_which_way_is_up(higher, outcome):
    figures = {name: {s: m + s / 10 for s in range(3)} for name, m in (("mine", 5), ("other", 1))}
    found = compared(figures, higher, ["other", "absent"])
    assert found["other"].against == {}
    assert list(found["mine"].against) == ["other"]
    assert found["mine"].against["other"].outcome == outcome
    assert found["mine"].against["other"].difference == pytest.approx(4.0)
    assert list(compared(figures, higher)["other"].against) == ["mine"]
    assert list(compared(figures, higher, [], "other")["other"].against) == ["mine"]


@pytest.mark.parametrize("pairs, share", [(3, 0.1835), (5, 0.1161), (2, 0.0)])
def test_how_often_chance_calls_a_winner(pairs, share):
    assert false_calls(pairs) == pytest.approx(share, abs=1e-4)
    gaps = np.random.default_rng(0).normal(size=(4000, pairs))
    zeros = summary(dict.fromkeys(range(pairs), 0.0))
    outcomes = [difference(summary(dict(enumerate(g))), zeros).outcome for g in gaps]
    called = [outcomes.count("better") / 4000, outcomes.count("worse") / 4000]
    assert called == pytest.approx([share / 2, share / 2], abs=0.015)
