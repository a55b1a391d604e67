import pickle

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import rules
from dr_keras.rating.example_ids import uniform_hash
from dr_keras.rating.fractions import keep_probability
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide

N = 20_000
IDS = [f"document/{n}" for n in range(N)]
SCORES = np.random.default_rng(0).normal(size=N).astype(np.float32)


def test_the_hash_is_uniform_and_depends_on_seed_and_id_alone():
    draws = uniform_hash(IDS, 1)
    assert draws.min() >= 0 and draws.max() < 1
    counts = np.histogram(draws, bins=20, range=(0, 1))[0]
    assert np.all(np.abs(counts - N / 20) < 5 * np.sqrt(N / 20))
    np.testing.assert_array_equal(uniform_hash(IDS[::-1], 1)[::-1], draws)
    assert abs(np.corrcoef(draws, uniform_hash(IDS, 2))[0, 1]) < 0.03
    graph = tf.function(lambda ids: uniform_hash(ids, 1))
    np.testing.assert_array_equal(graph(tf.constant(IDS[:50])), draws[:50])


def test_the_hash_never_changes():
    # a filtered corpus must come out alike after an upgrade
    assert uniform_hash(["a", "ü"], 7).tolist() == PINNED
    assert uniform_hash(["a"], -1).shape == (1,)


PINNED = [0.259539441348011, 0.5156591866387926]


@pytest.mark.parametrize("discard_fraction, batch_size", [(0.5, 64), (0.9, 8), (0.1, 32)])
def test_keep_probability_keeps_the_share_and_prefers_high_scores(discard_fraction, batch_size):
    decisions = decide(IDS, SCORES, discard_fraction, batch_size, seed=3)
    assert decisions.keep.mean() == pytest.approx(1 - discard_fraction, abs=0.015)
    decile = np.minimum((decisions.percentile * 10).astype(int), 9)
    for d in range(10):
        expected = decisions.probability[decile == d].mean()
        assert decisions.keep[decile == d].mean() == pytest.approx(expected, abs=0.05)
    assert decisions.keep[decile == 9].mean() > decisions.keep[decile == 0].mean() + 0.5


def test_decisions_do_not_depend_on_company_when_the_reference_is_given():
    reference = ReferenceDistribution.from_scores(SCORES)
    whole = decide(IDS, SCORES, 0.5, reference=reference)
    some = np.arange(0, N, 7)
    part = decide([IDS[n] for n in some], SCORES[some], 0.5, reference=reference)
    np.testing.assert_array_equal(part.keep, whole.keep[some])


def test_threshold_keeps_the_best():
    decisions = decide(IDS, SCORES, 0.3, method="threshold")
    assert decisions.keep.mean() == pytest.approx(0.7, abs=2e-3)
    assert SCORES[decisions.keep].min() >= SCORES[~decisions.keep].max()
    assert set(decisions.probability) == {0.0, 1.0}


@pytest.mark.parametrize("method", ["keep_probability", "threshold"])
def test_scores_that_are_not_numbers_go_first_unless_nothing_goes(method):
    scores = np.array([np.nan, 1, 2, 3], np.float32)
    assert not decide("abcd", scores, 0.5, method=method).keep[0]
    assert decide("abcd", scores, 0, method=method).keep.all()


def test_bad_settings_are_refused():
    with pytest.raises(ConfigurationError, match="method is 'best': choose one of keep_prob"):
        decide(IDS, SCORES, 0.5, method="best")
    with pytest.raises(ConfigurationError, match="discard_fraction is 1.2"):
        decide(IDS, SCORES, 1.2, method="threshold")
    with pytest.raises(DataError, match="None of the 2 scores is finite"):
        decide(["a", "b"], [np.nan, np.nan], 0.5)


def test_probabilities_are_those_of_the_formula():
    decisions = decide(IDS[:100], SCORES[:100], 0.5, 16)
    expected = keep_probability(decisions.percentile, 16, 32).numpy()
    np.testing.assert_array_equal(decisions.probability, expected)


def test_defaults_are_a_batch_of_64_and_seed_0():
    found = decide(IDS[:300], SCORES[:300], 0.5)
    told = decide(IDS[:300], SCORES[:300], 0.5, batch_size=64, seed=0, method="keep_probability")
    np.testing.assert_array_equal(found.probability, told.probability)
    np.testing.assert_array_equal(found.keep, told.keep)
    for other in (dict(batch_size=63), dict(batch_size=65), dict(seed=1)):
        differs = decide(IDS[:300], SCORES[:300], 0.5, **other)
        assert (differs.probability != found.probability).any() or (
            differs.keep != found.keep
        ).any()


def test_ids_that_are_not_unicode_have_a_draw():
    assert uniform_hash(["\ud800", b"?", "?"], 1).tolist() == [uniform_hash(["?"], 1)[0]] * 3
    assert uniform_hash([17, "17"], 1).tolist() == [uniform_hash(["17"], 1)[0]] * 2


def test_what_has_no_chance_is_dropped_even_by_the_lowest_draw(monkeypatch):
    monkeypatch.setattr(rules, "uniform_hash", lambda ids, seed: np.zeros(len(ids)))
    rated = rules.Rated(["a", "b", "c"], [np.nan, 0.0, 0.5])
    keep, probability = rules.keep_probability(rated, rules.Amount(0.5, 8))
    assert keep.tolist() == [False, False, True] and probability[:2].tolist() == [0, 0]


def test_another_rule_is_a_function_under_a_name(monkeypatch):
    monkeypatch.setattr(rules, "RULES", dict(rules.RULES))

    @rules.discard_rule(lambda amount: 0.75)
    def upper_quarter(rated, amount):
        return rules.certain(rated.percentile > 0.75)

    found = decide(IDS, SCORES, 0.5, method="upper_quarter")
    assert found.keep.sum() == pytest.approx(N / 4, rel=0.01)
    np.testing.assert_array_equal(found.keep, found.percentile > 0.75)
    with pytest.raises(ConfigurationError, match="threshold, gumbel_top_k, upper_q"):
        decide(IDS, SCORES, 0.5, method="best")


@pytest.mark.parametrize("name", rules.RULES)
def test_a_rule_decides_alike_in_a_graph_and_expects_what_it_drops(name):
    rule, amount = rules.find_rule(name), rules.Amount(0.3, 16, seed=3)
    percentile = ReferenceDistribution.from_scores(SCORES).percentile(SCORES)
    keep, probability = rule.decide(rules.Rated(IDS, percentile), amount)
    graph = tf.function(lambda ids, p: rule.decide(rules.Rated(ids, p), amount))
    for ours, theirs in zip((keep, probability), graph(tf.constant(IDS), percentile)):
        np.testing.assert_array_equal(ours, theirs)
    assert probability.dtype == np.float64
    reference = ReferenceDistribution.from_scores(SCORES)
    elsewhere = pickle.loads(pickle.dumps(rules.Deciding(rule.decide, amount, reference)))
    np.testing.assert_array_equal(elsewhere(IDS, SCORES).keep, keep)
    assert 1 - keep.mean() == pytest.approx(rule.expected(amount), abs=0.01)


@pytest.mark.parametrize("count", [0, 1, 3, 6])
def test_the_best_of_a_batch_as_arrays_and_as_tensors(count):
    scores = np.array([1, 5, np.nan, 5, -np.inf, 2], np.float32)
    best = [1, 3, 5, 0, 2, 4]  # of equal scores the earlier, NaN as minus infinity
    found = rules.split_best(scores, count, 6)
    assert [part.tolist() for part in found] == [sorted(best[:count]), sorted(best[count:])]
    graph = tf.function(lambda s: rules.split_best(s, count, 6), jit_compile=True)
    assert [part.numpy().tolist() for part in graph(scores)] == [part.tolist() for part in found]
