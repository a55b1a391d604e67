"""Perplexities come from models that did not see the document; the arm keeps one stretch."""

import functools

import numpy as np
import pool
import pytest

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.perplexity import cross_perplexity
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import folds_of
from dr_keras.data.examples import document_ids
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.text_models import language_model
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@pytest.fixture(scope="module")
def trainer():
    model = functools.partial(language_model, 20, 8, width=8, layer_count=1, heads=1)
    return LanguageModelTrainer(
        model,
        steps=40,
        batch_size=8,
        learning_rate=2e-2,
        evaluate_every=40,
        evaluation_batch_size=64,
        jit_compile=False,
    )


class Spy:
    """A trainer that notes what it was trained on."""

    def __init__(self, trainer):
        self.inner, self.trained_on = trainer, []

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def train(self, data, test, seed):
        self.trained_on.append(set(document_ids(data)))
        return self.inner.train(data, test, seed)

    def losses(self, examples):
        assert not self.trained_on[-1] & set(document_ids(examples))
        return self.inner.losses(examples)


def mostly_regular():
    """Windows that count up, and every fifth document of noise."""
    examples = pool.windows(40, each=2)
    tokens = examples.features["tokens"]
    for row in range(len(tokens)):
        if row // 2 % 5:
            tokens[row] = 1 + (tokens[row, 0] + np.arange(8)) % 19
    tokens[3, 1:] = 0  # nothing to predict
    return examples


def test_no_model_scores_what_it_was_trained_on_and_noise_is_surprising(trainer):
    examples, spy = mostly_regular(), Spy(trainer)
    found = cross_perplexity(window_candidates(examples), trainer=lambda: spy, folds=2, seed=3)
    nats = found.values
    assert len(spy.trained_on) == 2 and not spy.trained_on[0] & spy.trained_on[1]
    assert set.union(*spy.trained_on) == set(document_ids(examples))
    assert np.flatnonzero(np.isnan(nats)).tolist() == [3]
    noise = np.arange(len(examples)) // 2 % 5 == 0
    assert np.nanmin(nats[noise]) > np.nanmedian(nats[~noise])
    # the second fold's model is still in the trainer: its figures are per token
    last = folds_of(document_ids(examples), 2, 3) == 1
    sums, counts = trainer.losses(examples.take(last))
    some = counts > 0
    assert np.allclose(nats[last & ~np.isnan(nats)], sums[some] / counts[some])
    assert found.facts == {"nats_per_token": pytest.approx(np.nanmean(nats)), "folds": 2}
    # two models, each 40 steps of 8 windows, three forward passes a window
    assert found.training_flops == 2 * 40 * 8 * 3 * found.forward_flops > 0


def test_a_document_has_the_nats_of_its_tokens(trainer):
    examples = mostly_regular()
    by_window = cross_perplexity(window_candidates(examples), trainer=lambda: trainer).values
    found = cross_perplexity(joined_candidates(examples), trainer=lambda: trainer).values
    assert found[1] == by_window[2]  # its second window predicts nothing
    assert np.allclose(found[2:], by_window[4:].reshape(-1, 2).mean(1))


def test_a_test_curve_needs_an_example(trainer):
    with pytest.raises(ConfigurationError, match="test_size is 0"):
        cross_perplexity(window_candidates(mostly_regular()), trainer=lambda: trainer, test_size=0)


def test_a_weighted_corpus_must_reach_every_fold(trainer):
    examples = pool.windows(20, corpora=["one"] * 38 + ["two"] * 2, weights={"one": 1, "two": 1})
    with pytest.raises(DataError, match=r"All documents of the corpora \['two'\] fall into one"):
        cross_perplexity(window_candidates(examples), trainer=lambda: trainer)


def test_arms_keep_lowest_middle_or_highest():
    def known(candidates, outer, seed):
        return Scores(np.array([4.0, 1.0, 3.0, 2.0]), facts={"nats_per_token": 2.5})

    study = Baselines(
        window_candidates(pool.windows(4, each=1)), more_scorers={"perplexity": known}
    )
    sides = ("lowest", "middle", "highest")
    kept = {side: study.select(f"perplexity_{side}", 0.5) for side in sides}
    assert [kept[side].rows.tolist() for side in sides] == [[1, 3], [2, 3], [0, 2]]
    for side in sides:
        budget = kept[side].budget()
        assert budget["arm"] == f"perplexity_{side}" and budget["keep"] == side
        assert budget["perplexity"] == {"nats_per_token": 2.5}


def test_the_scoring_models_size_is_bound_under_a_scope():
    gin.parse_config("""
        language_model.vocabulary_size = 20
        language_model.sequence_length = 8
        language_model.width = 64
        cross_perplexity.trainer = @scorer/LanguageModelTrainer
        LanguageModelTrainer.batch_size = 4
        LanguageModelTrainer.jit_compile = False
        scorer/LanguageModelTrainer.steps = 2
        scorer/LanguageModelTrainer.model_fn = @scorer/language_model
        scorer/language_model.width = 4
        scorer/language_model.heads = 1
        scorer/language_model.layer_count = 1
    """)
    nats = cross_perplexity(window_candidates(pool.windows(8, each=1)), test_size=2).values
    assert np.isfinite(nats).all() and abs(nats.mean() - np.log(20)) < 0.5
