"""Conditional, reference and reducible loss, with models that are counts of tokens."""

import functools

import numpy as np
import pool
import pytest
from unigrams import Unigrams, model

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.conditional_loss import conditional_loss
from dr_keras.baselines.reference_loss import reference_loss
from dr_keras.baselines.rho import rho
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.metrics import area_under_curve
import gin


def window_set(rows, name="d"):
    """Windows of documents of two; the first token of a window is no target."""
    ids = pool.strings([f"{name}{k // 2}#{k % 2}" for k in range(len(rows))])
    names = pool.strings(["s"] * len(rows))
    return ExampleSet({"tokens": np.array(rows, np.int32)}, ids, names, names)


# Targets of the train part: 1 five times, 2 twice, 3 twice. Of the outer part: 3 six times.
TRAIN = [[4, 1, 1, 1], [4, 1, 1, 2], [4, 2, 3, 3], [4, 0, 0, 0]]
OUTER = [[4, 3, 3, 3], [4, 3, 3, 3]]
SPEND = 10 * 2 * 3 * (2 * 4 * 5 * 5)  # steps, batch, passes, F: a product of [4, 5] and [5, 5]


@pytest.fixture
def parts():
    return window_candidates(window_set(TRAIN)), window_candidates(window_set(OUTER, "o"))


def nats(counts, window):
    """Mean over the targets of -log of their share, each of five tokens counted once more."""
    share = (np.array(counts) + 1) / (sum(counts) + 5)
    return float(np.mean([-np.log(share[token]) for token in window[1:] if token]))


@pytest.fixture
def built():
    """What was built, in order: (trainers, tuners)."""
    return [], []


@pytest.fixture
def builders(built):
    def build(kind, **settings):
        built[kind].append(Unigrams(**settings))
        return built[kind][-1]

    return functools.partial(build, 0), functools.partial(build, 1, steps=4)


def test_conditional_loss_is_what_tuning_saves(parts, builders, built):
    found = conditional_loss(*parts, *builders)
    prior, tuned = [0, 5, 2, 2, 0], [0, 5, 2, 8, 0]
    expected = [nats(prior, window) - nats(tuned, window) for window in TRAIN[:3]]
    assert np.allclose(found.values[:3], expected) and np.isnan(found.values[3])
    assert found.values[2] > 0 > found.values[0]
    # trained on the train part, then from there on the outer part
    (trainer,), (tuner,) = built
    assert [len(data) for data in trainer.trained_on] == [4]
    assert [len(data) for data in tuner.trained_on] == [2]
    assert found.training_flops == SPEND * 14 / 10 and found.forward_flops == 2 * 2 * 4 * 25
    assert found.facts == {
        "nats_before": pytest.approx(np.mean([nats(prior, w) for w in TRAIN[:3]])),
        "nats_after": pytest.approx(np.mean([nats(tuned, w) for w in TRAIN[:3]])),
        "outer_nats_before": pytest.approx(nats(prior, OUTER[0])),
        "outer_nats_after": pytest.approx(nats(tuned, OUTER[0])),
        "outer_examples": 2,
    }


def test_reference_loss_and_rho_and_one_prior_for_all(parts, builders, built):
    conditional_loss(*parts, *builders)
    reference, reducible = reference_loss(*parts, *builders), rho(*parts, builders[0])
    prior, tuned, alone = [0, 5, 2, 2, 0], [0, 5, 2, 8, 0], [0, 0, 0, 6, 0]
    assert np.allclose(reference.values[:3], [-nats(tuned, window) for window in TRAIN[:3]])
    expected = [nats(prior, window) - nats(alone, window) for window in TRAIN[:3]]
    assert np.allclose(reducible.values[:3], expected)
    trained = [len(trainer.trained_on) for trainers in built for trainer in trainers]
    assert trained == [1, 0, 1, 1, 0]  # prior, nothing, the outer part's; tuned, nothing
    # each is said to cost what it would cost alone
    assert (reference.training_flops, reference.forward_flops) == (SPEND * 14 / 10, 200)
    assert (reducible.training_flops, reducible.forward_flops) == (2 * SPEND, 400)
    # another seed is another model, and so are other settings
    rho(*parts, builders[0], seed=1)
    rho(*parts, lambda: builders[0](steps=20))
    assert [len(trainer.trained_on) for trainer in built[0][3:]] == [2, 2]


def test_a_document_has_the_mean_over_its_tokens(builders):
    examples = window_set(TRAIN)
    outer = window_candidates(window_set(OUTER, "o"))
    by_window = conditional_loss(window_candidates(examples), outer, *builders).values
    found = conditional_loss(joined_candidates(examples), outer, *builders).values
    assert np.allclose(found, [by_window[:2].mean(), by_window[2]])


def test_what_is_missing_or_too_little_is_said(parts, builders):
    with pytest.raises(ConfigurationError, match="'rho' scores by what the outer part looks like"):
        rho(parts[0], None, builders[0])
    with pytest.raises(DataError, match="'conditional_loss' reads windows of tokens"):
        conditional_loss(pool.candidates(4), parts[1], *builders)
    few = window_candidates(window_set(OUTER[:1], "o"))
    with pytest.raises(DataError, match="outer part, 1 examples, in batches of 2:.*the tuner of"):
        conditional_loss(parts[0], few, *builders)


def test_text_like_the_outer_part_is_kept_by_networks():
    gin.parse_config("""
        LanguageModelTrainer.jit_compile = False
        LanguageModelTrainer.evaluation_batch_size = 80
        LanguageModelTrainer.learning_rate = 0.1
        scorer/LanguageModelTrainer.steps = 40
        conditional_loss.trainer = @scorer/LanguageModelTrainer
        conditional_loss.tuner = @tuning_trainer
        tuning_trainer.steps = 20
        tuning_trainer.learning_rate = 0.05
    """)
    gin.bind_parameter("scorer/LanguageModelTrainer.model_fn", lambda: model(20, 8))
    train, outer = pool.windows(40), pool.windows(20, seed=1)
    for examples, up in ((train, 20), (outer, 40)):  # a quarter of the pool counts up
        tokens, ways = examples.features["tokens"], np.where(np.arange(len(examples)) < up, 1, -1)
        tokens[:] = 1 + (tokens[:, :1] + ways[:, None] * np.arange(8)) % 19
    found = Baselines(window_candidates(train), window_candidates(outer))
    scores = found.scores("conditional_loss")
    assert area_under_curve(scores.values, np.arange(80) < 20) > 0.95
    assert scores.facts["outer_nats_after"] < scores.facts["outer_nats_before"]
    assert found.select("conditional_loss", 0.75).rows.max() < 40
