"""n-gram features and the classifier, against sums worked out by hand."""

import inspect
import math

import numpy as np
import pool
import pytest
from scipy import sparse

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.classifier import NgramFeatures, cross_classifier_scores, fit_logistic
from dr_keras.baselines.selection import folds_of
from dr_keras.errors import ConfigurationError, DataError
import gin


def test_counts_are_logged_and_rows_have_length_one():
    features = NgramFeatures(orders=(1,))(["The cat, the hat", "", "the"]).toarray()
    logs = [math.log(3), *[math.log(2)] * 3]  # the: twice; cat hat and the comma: once
    expected = np.sort(np.array(logs) / np.linalg.norm(logs))
    assert np.allclose(np.sort(features[0][features[0] > 0]), expected)
    assert not features[1].any()
    assert features[2].max() == 1 and features[0].argmax() == features[2].argmax()


def test_ngrams_tell_order_and_units():
    words = NgramFeatures(orders=(2,))
    first, second = words(["dog bites man", "man bites dog"]).toarray()
    assert first @ second == 0 and np.count_nonzero(first) == 2
    unigrams = NgramFeatures(orders=(1,))(["dog bites man", "man bites dog"]).toarray()
    assert unigrams[0] @ unigrams[1] == pytest.approx(1)
    one, other = NgramFeatures("bytes", (3,))(["abcd", "xbcd"]).toarray()
    assert np.count_nonzero(one) == 2 and one @ other == pytest.approx(0.5)  # bcd in both
    assert NgramFeatures(buckets=7)(["many different words in few buckets"]).shape == (1, 7)
    # what UTF-8 cannot hold is a question mark, as everywhere
    for unit in ("words", "bytes"):
        odd, marked = NgramFeatures(unit)(["a\ud800b", "a?b"]).toarray()
        assert np.array_equal(odd, marked)
    with pytest.raises(ConfigurationError, match="unit is 'letters'"):
        NgramFeatures("letters")
    with pytest.raises(ConfigurationError, match="must be numbers from 1"):
        NgramFeatures(orders=(0,))


def test_one_feature_has_a_solution_in_closed_form():
    # x = 1 in 3 of 4 positives and in 1 of 4 negatives: log-odds ratio of a 2 x 2 table
    x = np.array([[1], [1], [1], [0], [1], [0], [0], [0]])
    model = fit_logistic(sparse.csr_matrix(x), np.arange(8) < 4, 0.0, steps=5000, tolerance=1e-9)
    assert model.intercept_[0] == pytest.approx(math.log(1 / 3), abs=1e-6)
    assert model.coef_[0, 0] == pytest.approx(math.log(9), abs=1e-6)
    # classes are balanced: the same negatives twice over change nothing
    twice = np.concatenate([x, x[4:]])
    again = fit_logistic(
        sparse.csr_matrix(twice), np.arange(12) < 4, 0.0, steps=5000, tolerance=1e-9
    )
    assert again.coef_[0, 0] == pytest.approx(math.log(9), abs=1e-6)


def test_fit_is_at_a_minimum():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 5))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    positive = rng.random(60) < 0.5
    model = fit_logistic(sparse.csr_matrix(table), positive, 0.01, steps=5000, tolerance=1e-8)

    def loss(weights, bias):
        logits = table @ weights + bias
        losses = np.logaddexp(0, np.where(positive, -logits, logits))
        balanced = (losses[positive].mean() + losses[~positive].mean()) / 2
        return balanced + 0.005 * weights @ weights

    weights, bias = model.coef_[0], model.intercept_[0]
    least = loss(weights, bias)
    for _ in range(20):
        assert loss(weights + rng.normal(size=5) * 1e-2, bias + 1e-3) > least
    slopes = [
        (loss(weights + step, bias) - loss(weights - step, bias)) / 2e-4
        for step in 1e-4 * np.eye(5)
    ]
    assert np.abs(slopes).max() < 1e-6
    with pytest.raises(DataError, match="not 60 of one and 0 of the other"):
        fit_logistic(sparse.csr_matrix(table), np.ones(60, bool))


def texts(words, count, rng):
    return [" ".join(rng.choice(words, 8)) for _ in range(count)]


def test_outer_text_is_known_from_training_text():
    rng = np.random.default_rng(0)
    wanted, other = ["lake", "river", "sea", "rain"], ["lake", "stone", "sand", "dust"]
    pool_texts = texts(wanted, 40, rng) + texts(other, 120, rng)
    found = pool.candidates(160, pool_texts)
    outer = pool.candidates(40, texts(wanted, 40, rng))
    result = cross_classifier_scores(found, outer)
    chosen = Baselines(found, outer).select("classifier", 0.75)
    assert len(chosen.ids & {f"d{k}" for k in range(40)}) >= 36
    assert result.facts["held_out_auc"] > 0.8  # the pool holds wanted text, too: not 1
    assert chosen.budget()["classifier"] == result.facts
    # scores come from the other fold's texts alone: a candidate's own text does not teach its model
    pool_texts[0] = "of other words altogether"
    again = cross_classifier_scores(pool.candidates(160, pool_texts), outer)
    fold = folds_of(found.documents, 2, 0)
    same = again.values == result.values
    assert same[fold == fold[0]].sum() == same[fold == fold[0]].size - 1 and not same[0]
    assert not same[fold != fold[0]].any()


def test_same_text_on_both_sides_cannot_be_told_apart():
    rng = np.random.default_rng(1)
    words = [f"w{k}" for k in range(30)]
    found, outer = (pool.candidates(200, texts(words, 200, rng)) for _ in range(2))
    assert 0.4 < cross_classifier_scores(found, outer).facts["held_out_auc"] < 0.6


@pytest.mark.parametrize("folds", [2, 3])
def test_no_classifier_scores_what_it_learned(folds):
    """Where every text has a feature of its own, all that a model can know of is what it saw."""

    def own_feature(texts):
        columns = np.array([int(text) for text in texts])
        ones = np.ones(len(texts))
        return sparse.csr_matrix((ones, (np.arange(len(texts)), columns)), (len(texts), 90))

    found = pool.candidates(60, [str(n) for n in range(60)])
    outer = pool.candidates(30, [str(n) for n in range(60, 90)])
    result = cross_classifier_scores(found, outer, own_feature, folds)
    fold = folds_of(found.documents, folds, 0)
    for number in range(folds):  # nothing but the bias of one model
        assert len(set(result.values[fold == number].tolist())) == 1
    assert result.facts["held_out_auc"] == pytest.approx(0.5)


def test_the_held_out_chance_and_the_facts_by_hand():
    def one_feature(texts):
        return sparse.csr_matrix([[float(bool(text))] for text in texts])

    # every outer text has the feature, and 15 of 40 candidates have it as strongly
    texts = ["y"] * 15 + [""] * 25
    found = pool.candidates(40, texts)
    result = cross_classifier_scores(found, pool.candidates(20, ["y"] * 20), one_feature)
    fold = folds_of(found.documents, 2, 0)
    has = np.array([bool(text) for text in texts])
    # the chance is 1 against those without the feature, and one half where they are alike
    expected = [1 - has[fold == n].mean() / 2 for n in (0, 1)]
    assert result.facts["held_out_auc"] == pytest.approx(np.mean(expected), abs=1e-12)
    facts = result.facts
    assert (facts["folds"], facts["penalty"], facts["buckets"]) == (2, 1e-4, 1)
    assert facts["outer_examples"] == 20
    assert set(facts) == {
        "held_out_auc", "folds", "penalty", "buckets", "outer_examples", "steps"
    }  # fmt: skip
    assert all(1 < steps < 300 for steps in facts["steps"])  # done, and not at once


def test_settings_where_none_are_bound():
    """Published figures go by them."""

    def defaults(function):
        found = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in found if p.default is not p.empty}

    assert defaults(fit_logistic) == {"penalty": 1e-4, "steps": 300, "tolerance": 1e-4}
    assert defaults(cross_classifier_scores) == {
        "features": None, "folds": 2, "penalty": 1e-4, "steps": 300, "seed": 0
    }  # fmt: skip


def test_buckets_are_bound_by_gin():
    gin.parse_config("NgramFeatures.buckets = 64\ncross_classifier_scores.folds = 3")
    found = cross_classifier_scores(pool.candidates(12), pool.candidates(6))
    assert found.facts["buckets"] == 64 and found.facts["folds"] == 3
