import numpy as np
import pytest
import study

from dr_keras.report import page
from dr_keras.report.sections.arms import as_text
from dr_keras.studies import findings
from dr_keras.studies.within_sources import mean_ranking, ranking, spread_by_source

NAMES = np.repeat(["law", "chat"], 40)
LEVELS = np.tile(np.repeat([0.0, 0.5], 20), 2)


def test_a_ranking_by_hand():
    # law: every clean example above every damaged one; chat: the other way round.
    scores = np.concatenate([10 - LEVELS[:40], LEVELS[40:]])
    found = ranking(scores, NAMES, LEVELS)
    assert (found["law"]["auc"], found["chat"]["auc"]) == (1.0, 0.0)
    assert "spearman" not in found["law"]  # all damaged alike
    means = mean_ranking(found)
    assert (means["auc"], means["auc_sources"], means["spearman"]) == (0.5, 2, None)
    levels = np.where(LEVELS > 0, np.linspace(0.3, 0.9, 80), 0.0)
    assert mean_ranking(ranking(-levels, NAMES, levels))["spearman"] == pytest.approx(-1.0)
    assert mean_ranking(ranking(-levels, NAMES, levels))["auc"] == 1.0


def test_sources_alone_are_no_ranking_within_them():
    scores = np.where(NAMES == "law", 1.0, 0.0)
    levels = np.where(NAMES == "law", 0.0, 0.5)  # whole sources damaged
    quality = findings.quality(scores, levels, ["x"] * 80, "here", NAMES)
    assert quality.auc == 1.0 and quality.within_sources.auc is None
    assert quality.within_sources.reason == "fewer than 10 examples of a kind in every source"
    levels[:10] = 0.5  # and a few in the other one: chance within it
    quality = findings.quality(scores, levels, ["x"] * 80, "here", NAMES)
    assert quality.auc > 0.7
    assert (quality.within_sources.auc, quality.within_sources.auc_sources) == (0.5, 1)
    assert findings.quality(scores, levels, ["x"] * 80, "here", ["a"] * 80).within_sources is None


def test_the_spread_by_hand():
    scores = np.concatenate([np.tile([1.0, 3.0], 20), np.tile([-2.0, -6.0], 20)])
    found = spread_by_source(scores, NAMES)
    # means 2 and -4, deviations 1 and 2
    assert found["between"] == pytest.approx(3.0) and found["within"] == pytest.approx(2.5**0.5)
    assert found["spread"] == pytest.approx((9 + 2.5) ** 0.5)
    assert found["by_source"]["law"] == pytest.approx({"examples": 40, "mean": 3.0, "spread": 1.0})
    assert found["warnings"] == []
    assert spread_by_source(scores, ["a"] * 80) == {}


@pytest.mark.parametrize(
    "law, chat, words",
    [
        (0.01, 0.01, "of the scores' variance lies between sources: the rater chooses sources"),
        (0.01, 3.0, "within these sources scores hardly differ: law"),
    ],
)
def test_little_spread_within_sources_is_warned_of(law, chat, words):
    noise = np.random.default_rng(0).normal(size=80)
    scores = np.where(NAMES == "law", 2 + law * noise, -2 + chat * noise)
    (warning,) = spread_by_source(scores, NAMES)["warnings"]
    assert words in warning
    (flat,) = spread_by_source(0.001 * noise, NAMES)["warnings"]
    assert flat.startswith("all scores are nearly the same (standard deviation 0.00")


def test_it_is_on_the_page_and_on_the_terminal():
    scores = np.random.default_rng(0).normal(size=80) - 4 * LEVELS
    found = findings.of_scores(scores, NAMES, LEVELS, ["bad"] * 80)
    results = study.results(findings=found)
    quality = findings.quality(scores, LEVELS, ["bad"] * 80, "here", NAMES)
    rater = {"parameters": 1, "fingerprint": "f", "quality": quality}
    results = study.results(findings=found, rater=rater)
    within = quality.within_sources.auc
    html = page.render(results, sections=["answer", "sources"])
    assert f"with AUC {quality.auc:.3f} ({within:.3f} within sources)" in html
    assert "Standard deviation of scores" in html and ">law<" in html
    assert as_text(results).endswith(f"; within sources AUC {within:.3f}, mean of 2")
    assert "Within sources" not in page.render(study.results(), sections=["sources"])
