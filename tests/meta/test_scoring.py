"""Scores of sets: of examples and tokens, with a reference model, and what cannot score alone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta.scoring import Scorer
from dr_keras.models.losses import next_token_loss, squared_error, token_loss
from dr_keras.models.rater_scores import ReferenceLoss, check_can_score, state_read
from dr_keras.models.text_models import language_model, text_rater

S, VOCABULARY = 6, 9


def sets(count=10, **features):
    names = np.array([f"row{k}" for k in range(count)], object)
    return ExampleSet(features, names, names, names)


@pytest.fixture(scope="module")
def windows():
    tokens = np.random.default_rng(0).integers(1, VOCABULARY, (10, S)).astype(np.int32)
    tokens[::3, 4:] = 0
    tokens[5] = 0
    return sets(tokens=tokens)


def rater_of(**options):
    keras.utils.set_random_seed(0)
    rater = text_rater(VOCABULARY, S, width=4, layer_count=1, heads=1, **options)
    kernel = rater.get_layer("score").kernel
    kernel.assign(np.random.default_rng(1).normal(size=kernel.shape))
    return rater


@pytest.fixture(scope="module")
def language():
    keras.utils.set_random_seed(1)
    return language_model(VOCABULARY, S, width=4, layer_count=1, heads=1)


def test_a_token_raters_examples_have_the_mean_of_their_real_tokens(windows):
    rater = rater_of(per_token=True)
    tokens = windows.features["tokens"]
    given = rater({"tokens": tokens}).numpy()
    scorer = Scorer(rater, 4, jit_compile=False)
    np.testing.assert_allclose(scorer.token_scores(windows), given, atol=1e-5)
    lengths = np.maximum((tokens != 0).sum(1), 1)
    scores = scorer(windows)
    np.testing.assert_allclose(scores, (given * (tokens != 0)).sum(1) / lengths, atol=1e-5)
    assert scores[5] == 0 and np.ptp(scores) > 0.1
    assert scorer.token_scores(windows.take([])).shape == (0, S)
    first = Scorer(rater, 4, False, mask=lambda batch: tf.constant([[1.0] + [0.0] * (S - 1)]))
    np.testing.assert_allclose(first(windows), given[:, 0], atol=1e-5)


def test_scores_of_other_sequences_need_a_mask():
    inputs = keras.Input((S,), name="series")
    rater = keras.Model({"series": inputs}, inputs * 2)
    series = sets(series=np.arange(60, dtype=np.float32).reshape(10, S))
    with pytest.raises(ConfigurationError, match=r"features are \['series'\], without 'tokens'"):
        Scorer(rater, jit_compile=False)(series)
    scorer = Scorer(rater, jit_compile=False, mask=lambda batch: tf.ones_like(batch["series"]))
    np.testing.assert_allclose(scorer(series), 2 * series.features["series"].mean(1))
    with pytest.raises(ConfigurationError, match=r"gives scores of shape \(10, 6, 1\)"):
        wide = keras.Model({"series": inputs}, keras.ops.expand_dims(inputs, -1))
        Scorer(wide, 10, jit_compile=False)(series)


def test_a_rater_of_examples_has_no_scores_of_tokens(windows):
    with pytest.raises(ConfigurationError, match="gives one score an example.*per_token = True"):
        Scorer(rater_of(), jit_compile=False).token_scores(windows)


@pytest.mark.parametrize(
    ("loss", "per_token"), [(next_token_loss, False), (token_loss, False), (token_loss, True)]
)
def test_the_reference_models_loss_joins_what_the_rater_reads(windows, language, per_token, loss):
    rater = rater_of(per_token=per_token, features=["reference_loss"])
    batch = {"tokens": tf.constant(windows.features["tokens"])}
    losses = (token_loss if per_token else next_token_loss)(language(batch), batch)
    expected = rater({**batch, "reference_loss": losses}).numpy()
    scorer = Scorer(rater, 4, jit_compile=False, reference=ReferenceLoss(language, loss))
    scores = scorer.token_scores(windows) if per_token else scorer(windows)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    without = rater({**batch, "reference_loss": losses * 0}).numpy()
    assert np.abs(scores - without).max() > 0.1
    # A column of the data that has the name is what the rater reads.
    column = sets(tokens=windows.features["tokens"], reference_loss=np.asarray(losses) * 0)
    assert state_read(rater, column.features) == ()
    scorer = Scorer(rater, 4, jit_compile=False)
    scores = scorer.token_scores(column) if per_token else scorer(column)
    np.testing.assert_allclose(scores, without, atol=1e-5)


def test_losses_by_token_need_a_loss_that_gives_them(windows, language):
    rater = rater_of(per_token=True, features=["reference_loss"])
    reference = ReferenceLoss(language, next_token_loss)
    with pytest.raises(ConfigurationError, match="its loss is by example: use one by token"):
        Scorer(rater, jit_compile=False, reference=reference)(windows)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        (["inner_loss"], r"reads 'inner_loss' of the model that is being trained.*inside training"),
        (["reference_loss", "inner_loss", "age"], r"reads 'inner_loss' and 'age' of the model"),
        (["reference_loss"], r"reads 'reference_loss', the loss under a reference model: give"),
    ],
)
def test_raters_that_read_what_is_not_there_are_refused(windows, features, said):
    rater = rater_of(features=features)
    assert set(state_read(rater)) == set(features)
    with pytest.raises(ConfigurationError, match=said):
        Scorer(rater, jit_compile=False)(windows)
    with pytest.raises(ConfigurationError, match=said):
        check_can_score(rater, windows.features, with_reference=False)


def test_a_rater_that_reads_columns_called_alike_scores_as_any_other():
    inputs = {name: keras.Input((), name=name) for name in ("age", "income")}
    rater = keras.Model(inputs, inputs["age"] * 2 + inputs["income"])
    people = sets(age=np.arange(10, dtype=np.float32), income=np.ones(10, np.float32))
    np.testing.assert_allclose(Scorer(rater, jit_compile=False)(people), 2 * np.arange(10) + 1)


def test_the_reference_of_tables():
    x = keras.Input((2,), name="x")
    reference = ReferenceLoss(keras.Model({"x": x}, keras.ops.sum(x, axis=-1)), squared_error)
    loss = keras.Input((), name="reference_loss")
    rater = keras.Model({"x": x, "reference_loss": loss}, x[:, 0] - loss)
    rows = sets(x=np.ones((10, 2), np.float32), target=np.arange(10, dtype=np.float32))
    scores = Scorer(rater, 4, jit_compile=False, reference=reference)(rows)
    np.testing.assert_allclose(scores, 1 - (2 - np.arange(10.0)) ** 2)
