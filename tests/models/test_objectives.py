"""Objectives against NumPy: sums and counts, parts that add up, derivatives, what is refused."""

import functools

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.losses import (
    classification_loss,
    next_token_loss,
    quantile_loss,
    squared_error,
    token_loss,
)
from dr_keras.models.objectives import (
    bind,
    choice_error,
    choice_loss,
    error_rate,
    mean_loss,
    smooth_accuracy,
)
import gin

VOCABULARY = 6


class Bigrams:
    """A language model that looks at one token: logits are rows of a table; or chunks of them."""

    def __init__(self, chunked=False):
        self.table = tf.Variable(np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)))
        self.chunked = chunked

    def __call__(self, batch):
        rows = tf.gather(self.table, batch["tokens"])
        unembedding = tf.eye(VOCABULARY, dtype=tf.float64)
        return {"hidden": rows, "unembedding": unembedding} if self.chunked else rows

    def log_probability(self, row, position):
        """Of the token at `position` of a row, given the one before."""
        logits = self.table.numpy()[row[position - 1]]
        return logits[row[position]] - np.log(np.exp(logits).sum())


TEXTS = {"tokens": np.array([[1, 2, 3, 4, 5], [3, 3, 0, 0, 0], [5, 1, 2, 0, 0]], np.int32)}
LENGTHS = np.array([4, 1, 2])


def surprises():
    """Negative log-probabilities of the real next tokens, row by row."""
    model = Bigrams()
    return [
        np.array([-model.log_probability(row, place) for place in range(1, length + 1)])
        for row, length in zip(TEXTS["tokens"], LENGTHS)
    ]


def value(terms):
    return float(tf.reduce_sum(terms.sums) / tf.reduce_sum(terms.counts))


@pytest.mark.parametrize("chunked", [False, True])
def test_the_mean_loss_is_by_example_or_by_token(chunked):
    model, parts = Bigrams(chunked), surprises()
    by_example = np.mean([part.mean() for part in parts])
    by_token = np.concatenate(parts).mean()
    assert abs(by_example - by_token) > 1e-3
    assert value(mean_loss(next_token_loss)(model, TEXTS)) == pytest.approx(by_example)
    for counting in (mean_loss(next_token_loss, count_tokens=True), mean_loss(token_loss)):
        terms = counting(model, TEXTS)
        assert value(terms) == pytest.approx(by_token)
        assert terms.counts.numpy().tolist() == LENGTHS.tolist()


@pytest.mark.parametrize("chunked", [False, True])
def test_smooth_accuracy_of_text_is_the_mean_probability_of_anything_else(chunked):
    expected = np.mean(1 - np.exp(-np.concatenate(surprises())))
    assert value(smooth_accuracy()(Bigrams(chunked), TEXTS)) == pytest.approx(expected)


def test_smooth_accuracy_of_images_is_by_example():
    logits = np.random.default_rng(1).normal(size=(4, 3))
    label = np.array([0, 2, 1, 1])
    chance = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    terms = smooth_accuracy()(lambda batch: tf.constant(logits), {"label": label})
    np.testing.assert_allclose(terms.sums, 1 - chance[np.arange(4), label])
    assert value(terms) == pytest.approx(1 - chance[np.arange(4), label].mean())


def questions():
    """Two questions: three choices of unlike lengths, and two of the three."""
    choices = np.zeros((2, 3, 5), np.int32)
    answers = np.zeros((2, 3, 5), np.float32)
    for item, choice, prompt, answer in (
        (0, 0, [1, 2], [3]),
        (0, 1, [1, 2], [4, 5]),
        (0, 2, [1, 2], [5, 1, 1]),
        (1, 0, [4], [2, 2]),
        (1, 2, [4], [3]),
    ):
        row = prompt + answer
        choices[item, choice, : len(row)] = row
        answers[item, choice, len(prompt) : len(row)] = 1
    return {"choices": choices, "answers": answers, "gold": np.array([2, 0], np.int32)}


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("per_token", [False, True])
def test_the_choice_loss_is_the_cross_entropy_of_the_pick(per_token, chunked):
    batch, model = questions(), Bigrams(chunked)
    expected = []
    for choices, answers, gold in zip(*(batch[k] for k in ("choices", "answers", "gold"))):
        likelihoods = {}
        for number, (row, asked) in enumerate(zip(choices, answers)):
            if asked.any():
                parts = [model.log_probability(row, place) for place in np.flatnonzero(asked)]
                likelihoods[number] = np.mean(parts) if per_token else np.sum(parts)
        scaled = {number: likelihood / 0.7 for number, likelihood in likelihoods.items()}
        expected.append(np.log(sum(np.exp(list(scaled.values())))) - scaled[gold])
    objective = choice_loss(per_token=per_token, temperature=0.7)
    terms = objective(model, batch)
    np.testing.assert_allclose(terms.sums, expected)
    as_truth = {**batch, "answers": batch["answers"] > 0}
    np.testing.assert_allclose(objective(model, as_truth).sums, expected)


def test_descending_the_choice_loss_picks_the_right_choice():
    model, batch = Bigrams(), questions()
    for _ in range(60):
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(choice_loss()(model, batch).sums)
        model.table.assign_sub(tape.gradient(loss, model.table))
    assert float(loss) < 0.05


LABELLED = {"label": np.array([0, 2]), "x": np.array([[1.0, 2.0], [0.5, -1.0]])}


@pytest.mark.parametrize(
    ("objective", "batch"),
    [
        (mean_loss(token_loss), TEXTS),
        (mean_loss(next_token_loss, count_tokens=True), TEXTS),
        (smooth_accuracy(), TEXTS),
        (choice_loss(per_token=True), questions()),
        (smooth_accuracy(), LABELLED),
        (mean_loss(classification_loss), LABELLED),
    ],
)
def test_derivatives_agree_with_differences_and_parts_add_up(objective, batch):
    if "x" in batch:
        table = tf.Variable(np.random.default_rng(0).normal(size=(2, 3)))

        def model(batch):
            return tf.matmul(batch["x"], table)
    else:
        model = Bigrams()
        table = model.table

    def loss():
        terms = objective(model, batch)
        return tf.reduce_sum(terms.sums) / tf.reduce_sum(terms.counts)

    with tf.GradientTape() as tape:
        whole = loss()
    gradient = tf.convert_to_tensor(tape.gradient(whole, table)).numpy()
    direction = np.random.default_rng(2).normal(size=gradient.shape)
    table.assign_add(1e-6 * direction)
    above = loss()
    table.assign_sub(2e-6 * direction)
    difference = (above - loss()) / 2e-6
    table.assign_add(1e-6 * direction)
    assert float(difference) == pytest.approx(np.sum(gradient * direction), rel=1e-6)
    assert np.abs(gradient).max() > 1e-3
    halves = [
        objective(model, {name: values[part] for name, values in batch.items()})
        for part in (slice(None, 1), slice(1, None))
    ]
    sums, counts = (sum(tf.reduce_sum(half[k]) for half in halves) for k in (0, 1))
    assert float(sums / counts) == pytest.approx(float(whole))


def test_the_inner_loss_stands_in_where_no_loss_is_named():
    batch = {"target": tf.constant([1.0, 2.0])}
    outputs = tf.constant([0.0, 0.0])
    bound = bind(mean_loss(), squared_error)
    assert value(bound(lambda batch: outputs, batch)) == pytest.approx(2.5)
    named = bind(mean_loss(functools.partial(quantile_loss, quantile=0.9)), squared_error)
    assert value(named(lambda batch: outputs, batch)) == pytest.approx(1.35)

    def users(model, batch):
        return tf.reduce_max(model(batch))

    assert bind(users, squared_error) is users


def test_objectives_come_from_gin():
    @gin.configurable(module="test_objectives")
    def judged_run(objectives=()):
        return objectives

    gin.parse_config(
        """
        judged_run.objectives = {
            "whole": @mean_loss(), "tail": @tail/mean_loss(), "q": @choice_loss()
        }
        tail/mean_loss.loss = @tail/quantile_loss
        tail/quantile_loss.quantile = 0.9
        choice_loss.per_token = True
        """
    )
    objectives = judged_run()
    batch = {"target": tf.constant([1.0])}
    found = objectives["tail"](lambda batch: tf.constant([0.0]), batch)
    assert value(found) == pytest.approx(0.9)
    assert objectives["whole"].loss is None and objectives["q"].per_token


@pytest.mark.parametrize(
    ("objective", "batch", "said"),
    [
        (mean_loss(), TEXTS, r"mean_loss judges by no loss yet.*bound_to"),
        (
            mean_loss(squared_error, count_tokens=True),
            {"target": tf.zeros([2])},
            "squared_error does not say how many tokens.*counted_by",
        ),
        (
            mean_loss(lambda outputs, batch: tf.reduce_mean(outputs)),
            TEXTS,
            r"values of shape \(\): it must give one loss an example",
        ),
        (choice_loss(), TEXTS, r"the batch has \['tokens'\]: choices is missing"),
        (
            choice_loss(),
            {**questions(), "answers": np.zeros([2, 3, 4], np.float32)},
            r"answers of the same shape; these are \(2, 3, 5\) and \(2, 3, 4\)",
        ),
    ],
)
def test_what_cannot_be_judged_is_refused(objective, batch, said):
    with pytest.raises(ConfigurationError, match=said):
        objective(Bigrams(), batch)


def test_a_temperature_must_be_positive():
    with pytest.raises(ConfigurationError, match="choice_loss.temperature is 0"):
        choice_loss(temperature=0)


@pytest.mark.parametrize("per_token", [False, True])
def test_the_choice_error_counts_the_questions_that_are_missed(per_token):
    """Each choice in its turn is called the right one; the likeliest of those there is no miss."""
    batch, model = questions(), Bigrams()
    best = []
    for choices, answers in zip(batch["choices"], batch["answers"]):
        likelihoods = np.full(3, -np.inf)
        for number, (row, asked) in enumerate(zip(choices, answers)):
            if asked.any():
                parts = [model.log_probability(row, place) for place in np.flatnonzero(asked)]
                likelihoods[number] = np.mean(parts) if per_token else np.sum(parts)
        best.append(likelihoods.argmax())
    for gold in range(3):
        asked = {**batch, "gold": np.full(2, gold, np.int32)}
        terms = choice_error(per_token=per_token)(model, asked)
        assert terms.sums.numpy().tolist() == [float(gold != each) for each in best]
        assert terms.counts.numpy().tolist() == [1, 1]
    with pytest.raises(ConfigurationError, match="choice_error reads the features choices, answ"):
        choice_error()(model, {"tokens": batch["choices"][0]})


def test_the_error_rate_counts_ties_as_misses_and_hides_no_nan():
    logits = np.array([[0.0, 2.0, 1.0], [3.0, 3.0, 0.0], [1.0, 5.0, 2.0], [-1.0, -2.0, -3.0]])
    label = np.array([1, 0, 2, 0])
    terms = error_rate()(lambda batch: tf.constant(logits), {"label": label})
    assert terms.sums.numpy().tolist() == [0, 1, 1, 0] and value(terms) == 0.5
    logits[2, 0] = np.nan
    terms = error_rate()(lambda batch: tf.constant(logits), {"label": label})
    assert np.isnan(value(terms)) and terms.sums.numpy()[[0, 1, 3]].tolist() == [0, 1, 0]
