"""All arms behind one call."""

import itertools

import numpy as np
import pool
import pytest

from dr_keras.baselines.arms import ARMS, SCORERS, Baselines
from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import kept_count, select_by_score
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.studies.arm_streams import DESCRIPTIONS
import gin

calls = []


def fake_perplexity(candidates, outer, seed):
    calls.append(seed)
    return Scores(candidates.examples.features["tokens"][:, 0].astype(float), 30.0, 2.0, {"n": 1})


# What trains models has tests of its own.
TRAINED = ("perplexity", "conditional_loss", "reference_loss", "rho", "influence")
FAKES = dict.fromkeys(TRAINED, fake_perplexity)


def study(**settings):
    examples = pool.windows(20)
    examples.labels["level"] = np.arange(40.0) / 40
    gin.bind_parameter("source_weights.table", {"a": 1.0, "b": 2.0})
    settings = {"rater_scores": np.arange(40.0), "more_scorers": FAKES} | settings
    outer = window_candidates(pool.windows(6, seed=1))
    return Baselines(window_candidates(examples), outer, **settings)


def test_all_arms_keep_as_much():
    found = study()
    for arm, fraction in itertools.product(ARMS, [0.1, 0.5, 0.75]):
        chosen = found.select(arm, fraction, seed=2)
        assert chosen.arm == arm
        kept = 40 if arm == "unfiltered" else kept_count(40, fraction)
        assert chosen.kept.sum() == kept == len(chosen.examples()), arm
        assert chosen.budget()["unique_tokens"] == 7 * kept


def test_every_scorer_is_an_arm_that_reports_describe():
    found = study()
    scored = {found.scored_by(arm) for arm in ARMS}
    assert scored - {"rater", None} == set(SCORERS)
    assert set(ARMS) <= set(DESCRIPTIONS)


def test_arms_keep_what_they_are_called_after():
    found = study()
    assert found.select("rater", 0.5).rows.tolist() == list(range(20, 40))
    assert found.select("rater_inverted", 0.5).rows.tolist() == list(range(20))
    assert found.select("least_damaged", 0.5).rows.tolist() == list(range(20))
    rater = found.select("rater", 0.5).budget()["by_source"]
    assert found.select("random_as_rater", 0.5).budget()["by_source"] == rater
    first = found.candidates.examples.features["tokens"][:, 0]
    low, high = (first[found.select(f"perplexity_{k}", 0.5).rows] for k in ("lowest", "highest"))
    assert low.max() <= high.min()
    c4, gopher = (found.select(f"heuristics_{k}", 0.5).facts["by_rule"] for k in ("c4", "gopher"))
    assert {name.split("_")[0] for name in c4} == {"c4"}
    assert {**c4, **gopher} == found.select("heuristics", 0.5).facts["by_rule"]


def test_least_damaged_needs_to_know():
    found = Baselines(window_candidates(pool.windows(20)))
    with pytest.raises(ConfigurationError, match="needs a corpus whose damage is known"):
        found.select("least_damaged", 0.5)


def test_a_document_gets_the_mean_of_its_windows():
    examples = pool.windows(3, each=2)
    examples.features["tokens"][1, 4:] = 0  # three targets instead of seven
    scores = np.array([1.0, 11, 4, 4, 0, 8])
    found = Baselines(joined_candidates(examples), rater_scores=scores)
    assert found.rater_scores.tolist() == [4.0, 4.0, 4.0]


def test_scores_outlive_the_process_and_nothing_else_is_taken_for_them(tmp_path):
    def found(**settings):
        return study(cache_dir=tmp_path, **settings).scores("perplexity")

    calls.clear()
    first, again = found(), found()
    assert np.array_equal(again.values, first.values) and calls == [0]
    assert (again.training_flops, again.forward_flops, again.facts) == (30.0, 2.0, {"n": 1})
    found(seed=5)
    assert calls == [0, 5]
    gin.bind_parameter("cross_perplexity.folds", 3)
    found()
    assert calls == [0, 5, 0]
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:50])  # damaged: scored again
    assert np.array_equal(found().values, first.values) and len(calls) == 4


def test_a_scorer_of_ones_own_is_an_arm():
    def by_length(candidates, outer, seed):
        return Scores(candidates.tokens * 1.0 - np.arange(len(candidates)), facts={"unit": "token"})

    found = study(more_scorers=FAKES | {"shortest": by_length})
    chosen = found.select("shortest", 0.5)
    assert chosen.arm == "shortest" and chosen.rows.tolist() == list(range(20))
    assert chosen.budget()["shortest"] == {"unit": "token"}
    named = ("shortest", "rater", "random_as_rater", "perplexity_middle", "random", "heuristics")
    assert [found.scored_by(arm) for arm in named] == [
        "shortest", "rater", "rater", "perplexity", None, None
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match="there is no scorer 'shortests'.*'shortest'"):
        found.scores("shortests")


def test_arms_of_ones_own_and_missing_pieces():
    def longest(found, fraction, seed):
        return select_by_score("longest", found.candidates, found.candidates.tokens, fraction)

    found = study(more_arms={"longest": longest})
    assert found.select("longest", 0.5).arm == "longest" and "rater" in found.arms
    with pytest.raises(ConfigurationError, match="there is no arm 'perplexity'.*perplexity_"):
        found.select("perplexity", 0.5)
    without = Baselines(found.candidates)
    with pytest.raises(ConfigurationError, match="needs the scores of a rater"):
        without.select("rater", 0.5)
    with pytest.raises(ConfigurationError, match="what the outer part looks like: give outer"):
        without.select("classifier", 0.5)
    with pytest.raises(DataError, match="reads windows of tokens"):
        Baselines(pool.candidates(4)).select("perplexity_lowest", 0.5)
    gin.parse_config("heuristics.rules = ['c4_lorem_ipsum']")
    with pytest.raises(ConfigurationError, match="leaves no rule of gopher"):
        study().select("heuristics_gopher", 0.5)
