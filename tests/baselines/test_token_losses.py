"""What tokens lose, and scores that come with it: their means are those of windows."""

import functools

import numpy as np
import pool
import pytest

from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.conditional_loss import conditional_loss
from dr_keras.baselines.scores import cached
from dr_keras.baselines.token_losses import token_nats
from dr_keras.baselines.tuned_model import tuned_model
from dr_keras.data.examples import ExampleSet
from dr_keras.models.text_models import language_model
from dr_keras.training.trainers import LanguageModelTrainer


def window_set(rows, name):
    ids = pool.strings([f"{name}{k}#0" for k in range(len(rows))])
    return ExampleSet({"tokens": np.array(rows, np.int32)}, ids, ids, ids)


def test_scores_by_token_have_the_scores_of_windows_as_their_means(tmp_path):
    rows = np.random.default_rng(0).integers(1, 6, (7, 5))
    rows[3, 3:] = 0
    train, outer = window_set(rows, "t"), window_set(np.full((4, 5), 2), "o")
    model = functools.partial(language_model, 6, 5, width=4, layer_count=1, heads=1)
    trainer = functools.partial(
        LanguageModelTrainer, steps=2, batch_size=4, warmup_steps=0, jit_compile=False
    )
    score = functools.partial(
        conditional_loss, window_candidates(train), window_candidates(outer),
        functools.partial(trainer, model), trainer,
    )  # fmt: skip
    plain = score()
    assert plain.tokens is None is plain.weights
    found = cached(tmp_path, "teacher", ("key",), lambda: score(by_token=True))
    np.testing.assert_allclose(found.values, plain.values, rtol=0, atol=1e-6)
    assert (found.forward_flops, found.facts) == (plain.forward_flops, pytest.approx(plain.facts))
    real = (rows > 0) & (np.arange(5) > 0)
    np.testing.assert_array_equal(np.isfinite(found.tokens), real)
    np.testing.assert_allclose(np.nanmean(found.tokens, axis=1), plain.values, atol=1e-3)
    # The weights are those of the tuned model: with them it loses what was taken off.
    tuned = model()
    weights = [found.weights[weight.path] for weight in tuned.weights]
    before = tuned.get_weights()
    after = token_nats(tuned, weights, train, 4)
    assert after.shape == (7, 5) and np.nanmean(after) < np.log(6) + 0.5
    for kept, value in zip(tuned.get_weights(), before):
        np.testing.assert_array_equal(kept, value)
    again = cached(tmp_path, "teacher", ("key",), lambda: 1 / 0)
    np.testing.assert_array_equal(again.tokens, found.tokens)
    assert again.weights.keys() == found.weights.keys()
    for name, value in found.weights.items():
        np.testing.assert_array_equal(again.weights[name], value)
    # `tuned_model` trains the same model, and reads no window
    alone = tuned_model(*score.args)
    assert np.isnan(alone.values).all() and alone.training_flops == plain.training_flops
    for name, value in found.weights.items():
        np.testing.assert_array_equal(alone.weights[name], value)
