"""n-gram features and the classifier, against sums worked out by hand."""

import inspect
import math

import numpy as np
import pool
import pytest

from dr_keras.baselines.classifier import classifier_arm, cross_classifier_scores, fit_logistic
from dr_keras.baselines.ngrams import NgramFeatures, SparseRows
from dr_keras.baselines.selection import folds_of
from dr_keras.errors import ConfigurationError, DataError
import gin


def dense(rows: SparseRows) -> np.ndarray:
    table = np.zeros(rows.shape)
    np.add.at(table, (rows.row, rows.column), rows.value)
    return table


def sparse(table) -> SparseRows:
    table = np.asarray(table, float)
    row, column = np.nonzero(table)
    return SparseRows(row, column, table[row, column], table.shape)


def test_counts_are_logged_and_rows_have_length_one():
    features = dense(NgramFeatures(orders=(1,))(["The cat, the hat", "", "the"]))
    logs = [math.log(3), *[math.log(2)] * 3]  # the: twice; cat hat and the comma: once
    expected = np.sort(np.array(logs) / np.linalg.norm(logs))
    assert np.allclose(np.sort(features[0][features[0] > 0]), expected)
    assert not features[1].any()
    assert features[2].max() == 1 and features[0].argmax() == features[2].argmax()


def test_ngrams_tell_order_and_units():
    words = NgramFeatures(orders=(2,))
    first, second = dense(words(["dog bites man", "man bites dog"]))
    assert first @ second == 0 and np.count_nonzero(first) == 2
    unigrams = dense(NgramFeatures(orders=(1,))(["dog bites man", "man bites dog"]))
    assert unigrams[0] @ unigrams[1] == pytest.approx(1)
    one, other = dense(NgramFeatures("bytes", (3,))(["abcd", "xbcd"]))
    assert np.count_nonzero(one) == 2 and one @ other == pytest.approx(0.5)  # bcd in both
    assert NgramFeatures(buckets=7)(["many different words in few buckets"]).column.max() < 7
    with pytest.raises(ConfigurationError, match="unit is 'letters'"):
        NgramFeatures("letters")
    with pytest.raises(ConfigurationError, match="must be numbers from 1"):
        NgramFeatures(orders=(0,))


def test_products():
    table = np.array([[1.0, 0, 2], [0, 0, 0], [0, 3, 0]])
    rows = sparse(table)
    assert rows.times(np.array([1.0, 2, 3])).tolist() == [7, 0, 6]
    assert rows.transposed_times(np.array([1.0, 2, 3])).tolist() == [1, 9, 2]
    assert np.array_equal(dense(rows.take(np.array([True, False, True]))), table[[0, 2]])


def test_one_feature_has_a_solution_in_closed_form():
    # x = 1 in 3 of 4 positives and in 1 of 4 negatives: log-odds ratio of a 2 x 2 table
    x = np.array([[1], [1], [1], [0], [1], [0], [0], [0]])
    model = fit_logistic(sparse(x), np.arange(8) < 4, 0.0, steps=5000, tolerance=1e-9)
    assert model.bias == pytest.approx(math.log(1 / 3), abs=1e-6)
    assert model.weights[0] == pytest.approx(math.log(9), abs=1e-6)
    # classes are balanced: the same negatives twice over change nothing
    twice = np.concatenate([x, x[4:]])
    again = fit_logistic(sparse(twice), np.arange(12) < 4, 0.0, steps=5000, tolerance=1e-9)
    assert again.weights[0] == pytest.approx(math.log(9), abs=1e-6)


def test_fit_is_at_a_minimum():
    rng = np.random.default_rng(0)
    table = rng.normal(size=(60, 5))
    table /= np.linalg.norm(table, axis=1, keepdims=True)
    positive = rng.random(60) < 0.5
    model = fit_logistic(sparse(table), positive, 0.01, steps=5000, tolerance=1e-8)
    assert model.gradient <= 1e-8

    def loss(weights, bias):
        logits = table @ weights + bias
        losses = np.logaddexp(0, np.where(positive, -logits, logits))
        balanced = (losses[positive].mean() + losses[~positive].mean()) / 2
        return balanced + 0.005 * weights @ weights

    least = loss(model.weights, model.bias)
    for _ in range(20):
        assert loss(model.weights + rng.normal(size=5) * 1e-2, model.bias + 1e-3) > least
    with pytest.raises(DataError, match="not 60 of one and 0 of the other"):
        fit_logistic(sparse(table), np.ones(60, bool))


def texts(words, count, rng):
    return [" ".join(rng.choice(words, 8)) for _ in range(count)]


def test_outer_text_is_known_from_training_text():
    rng = np.random.default_rng(0)
    wanted, other = ["lake", "river", "sea", "rain"], ["lake", "stone", "sand", "dust"]
    pool_texts = texts(wanted, 40, rng) + texts(other, 120, rng)
    found = pool.candidates(160, pool_texts)
    outer = pool.candidates(40, texts(wanted, 40, rng))
    result = cross_classifier_scores(found, outer)
    chosen = classifier_arm(found, result, 0.75)
    assert len(chosen.ids & {f"d{k}" for k in range(40)}) >= 36
    assert result.held_out_auc > 0.8  # the pool holds wanted text, too: not 1
    budget = chosen.budget()
    assert budget["held_out_auc"] == result.held_out_auc
    assert budget["classifier"]["outer_examples"] == 40
    # scores come from the other fold's texts alone: a candidate's own text does not teach its model
    pool_texts[0] = "of other words altogether"
    again = cross_classifier_scores(pool.candidates(160, pool_texts), outer)
    fold = folds_of(found.documents, 2, 0)
    same = again.scores == result.scores
    assert same[fold == fold[0]].sum() == same[fold == fold[0]].size - 1 and not same[0]
    assert not same[fold != fold[0]].any()


def test_same_text_on_both_sides_cannot_be_told_apart():
    rng = np.random.default_rng(1)
    words = [f"w{k}" for k in range(30)]
    found, outer = (pool.candidates(200, texts(words, 200, rng)) for _ in range(2))
    assert 0.4 < cross_classifier_scores(found, outer).held_out_auc < 0.6


@pytest.mark.parametrize("folds", [2, 3])
def test_no_classifier_scores_what_it_learned(folds):
    """Where every text has a feature of its own, all that a model can know of is what it saw."""

    def own_feature(texts):
        columns = np.array([int(text) for text in texts])
        return SparseRows(np.arange(len(texts)), columns, np.ones(len(texts)), (len(texts), 90))

    found = pool.candidates(60, [str(n) for n in range(60)])
    outer = pool.candidates(30, [str(n) for n in range(60, 90)])
    result = cross_classifier_scores(found, outer, own_feature, folds)
    fold = folds_of(found.documents, folds, 0)
    for number in range(folds):  # nothing but the bias of one model
        assert len(set(result.scores[fold == number].tolist())) == 1
    assert result.held_out_auc == pytest.approx(0.5)


def test_the_held_out_chance_and_the_facts_by_hand():
    def one_feature(texts):
        return sparse([[float(bool(text))] for text in texts])

    # every outer text has the feature, and 15 of 40 candidates have it as strongly
    texts = ["y"] * 15 + [""] * 25
    found = pool.candidates(40, texts)
    result = cross_classifier_scores(found, pool.candidates(20, ["y"] * 20), one_feature)
    fold = folds_of(found.documents, 2, 0)
    has = np.array([bool(text) for text in texts])
    # the chance is 1 against those without the feature, and one half where they are alike
    expected = [1 - has[fold == n].mean() / 2 for n in (0, 1)]
    assert result.held_out_auc == pytest.approx(np.mean(expected), abs=1e-12)
    facts = result.facts
    assert (facts["folds"], facts["penalty"], facts["buckets"]) == (2, 1e-4, 1)
    assert facts["outer_examples"] == 20 and set(facts) == {
        "folds", "penalty", "buckets", "outer_examples", "steps", "gradient"
    }  # fmt: skip
    assert all(1 < steps < 300 for steps in facts["steps"])  # done, and not at once
    assert all(0 < gradient <= 1e-4 for gradient in facts["gradient"])


def test_settings_where_none_are_bound():
    """Published figures go by them."""

    def defaults(function):
        found = inspect.signature(function).parameters.values()
        return {p.name: p.default for p in found if p.default is not p.empty}

    assert defaults(fit_logistic) == {"penalty": 1e-4, "steps": 300, "tolerance": 1e-4}
    assert defaults(cross_classifier_scores) == {
        "features": None, "folds": 2, "penalty": 1e-4, "steps": 300, "seed": 0
    }  # fmt: skip
    assert defaults(classifier_arm) == {"seed": 0, "arm": "classifier"}


def test_acceleration_reaches_the_minimum_in_few_steps():
    rng = np.random.default_rng(2)
    table = rng.normal(size=(60, 8)) * np.geomspace(1, 0.05, 8)  # steep in some directions only
    table /= np.linalg.norm(table, axis=1).max()
    positive = table[:, -1] + table[:, -2] > 0
    model = fit_logistic(sparse(table), positive, 1e-4, steps=20_000, tolerance=1e-7)
    assert model.gradient <= 1e-7
    assert model.steps < 1_500  # 723; without acceleration over 20,000


def test_buckets_are_bound_by_gin():
    gin.parse_config("NgramFeatures.buckets = 64\ncross_classifier_scores.folds = 3")
    found = cross_classifier_scores(pool.candidates(12), pool.candidates(6))
    assert found.facts["buckets"] == 64 and found.facts["folds"] == 3
