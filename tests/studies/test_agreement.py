"""Whether two raters choose the same: worked out by hand, and against SciPy."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from dr_keras.studies.agreement import agreement

RNG = np.random.default_rng(0)


def test_what_both_keep_by_hand():
    teacher = np.arange(10.0)
    student = np.array([0, 1, 2, 3, 4, 9, 8, 7, 6, 5.0])
    found = agreement(student, teacher, ["a"] * 10, fractions=(0.5, 0.75, "0.9"))
    kept = [(one["discarded"], one["kept"], one["share"]) for one in found["kept_by_both"]]
    # the best half are the same; of the best three, 9 8 7 and 5 6 7, one is; of the best, none
    assert kept == [(0.5, 5, 1.0), (0.75, 3, pytest.approx(1 / 3)), (0.9, 1, 0.0)]
    assert [one["chance"] for one in found["kept_by_both"]] == [0.5, 0.3, 0.1]
    assert found["rank_correlation"] == pytest.approx(spearmanr(student, teacher)[0])


def test_correlations_by_source_and_their_mean():
    sources = np.array(["big"] * 60 + ["small"] * 40 + ["tiny"] * 5)
    teacher = RNG.normal(size=105)
    student = np.where(sources == "big", teacher, -teacher) + 10 * (sources == "tiny")
    found = agreement(student, teacher, sources)
    by_source = found["by_source"]
    assert list(by_source) == ["big", "small", "tiny"]
    correlations = [one["rank_correlation"] for one in by_source.values()]
    assert correlations == [pytest.approx(1), pytest.approx(-1), None]
    assert found["within_sources"] == {"rank_correlation": pytest.approx(0), "sources": 2}
    ranks = teacher.argsort().argsort() / 104
    for name, one in by_source.items():
        assert one["windows"] == (sources == name).sum()
        assert one["teacher"] == pytest.approx(ranks[sources == name].mean())
    assert by_source["tiny"]["student"] == pytest.approx((100 + 104) / 2 / 104)


def test_one_source_has_nothing_within_and_is_said():
    scores = RNG.normal(size=50)
    found = agreement(scores, scores, ["a"] * 50)
    within = found["within_sources"]
    assert within["rank_correlation"] is None and within["reason"] == "all windows have one source"
    assert found["warnings"] == [] and "by_damage" not in found
    few = agreement(scores, scores, np.arange(50) % 5)["within_sources"]
    assert "no source has 30 windows" in few["reason"]


def test_by_kind_of_damage_where_two_are_known():
    damage = np.array([None, "noise"] * 40, object)
    teacher = RNG.normal(size=80) - 2 * (damage == "noise")
    found = agreement(teacher**3, teacher, ["a"] * 80, damage)
    assert list(found["by_damage"]) == ["noise", "none known"]
    assert all(one["rank_correlation"] == pytest.approx(1) for one in found["by_damage"].values())
    assert found["by_damage"]["noise"]["teacher"] < found["by_damage"]["none known"]["teacher"]
    assert "by_damage" not in agreement(teacher, teacher, ["a"] * 80, np.full(80, None))


def test_a_student_that_only_sorts_sources_is_named():
    sources = np.repeat(["a", "b", "c"], 100)
    level = np.repeat([0.0, 3.0, 6.0], 100)
    teacher = level + RNG.normal(size=300)
    found = agreement(level + 0.5 * RNG.normal(size=300), teacher, sources)
    assert found["rank_correlation"] > 0.8
    assert len(found["warnings"]) == 1 and "mostly sorts sources" in found["warnings"][0]
    flat = agreement(level + 1e-3 * RNG.normal(size=300), teacher, sources)
    assert any("lies between sources" in sentence for sentence in flat["warnings"])
    assert agreement(teacher, teacher, sources)["warnings"] == []
