"""The causal language model: shapes, causality, files, dtypes."""

import keras
import numpy as np
import pytest

from dr_keras.models.language_model import language_model

VOCABULARY, LENGTH = 11, 6


@pytest.fixture
def model(randomised):
    return randomised(language_model(VOCABULARY, LENGTH, width=8, layer_count=2, heads=2))


def some_tokens(seed: int = 0, rows: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, VOCABULARY, (rows, LENGTH)).astype(np.int32)


def test_logits_are_float32_for_every_position(model):
    logits = model({"tokens": some_tokens()})
    assert logits.shape == (3, LENGTH, VOCABULARY) and logits.dtype == "float32"
    assert np.isfinite(logits).all()


@pytest.mark.parametrize("changed", range(LENGTH))
def test_a_token_changes_its_own_and_later_logits_only(model, changed):
    tokens = some_tokens()
    other = tokens.copy()
    other[:, changed] = tokens[:, changed] % (VOCABULARY - 1) + 1
    before = model({"tokens": tokens}).numpy()
    after = model({"tokens": other}).numpy()
    np.testing.assert_array_equal(before[:, :changed], after[:, :changed])
    differences = np.abs(before - after).max(axis=(0, 2))
    assert (differences[changed:] > 1e-4).all()


def test_positions_count(model):
    logits = model({"tokens": np.full((1, LENGTH), 3, np.int32)}).numpy()[0]
    assert np.abs(np.diff(logits, axis=0)).max(axis=1).min() > 1e-4


def test_rows_do_not_see_each_other(model):
    tokens = some_tokens()
    together = model({"tokens": tokens}).numpy()
    alone = np.concatenate([model({"tokens": row[None]}).numpy() for row in tokens])
    np.testing.assert_allclose(together, alone, rtol=1e-5, atol=1e-5)


def test_fresh_logits_are_close_to_uniform():
    model = language_model(VOCABULARY, LENGTH, width=16, layer_count=1, heads=2)
    logits = model({"tokens": some_tokens()}).numpy()
    log_normaliser = np.log(np.exp(logits).sum(-1))
    assert np.abs(log_normaliser - np.log(VOCABULARY)).max() < 0.1


def test_the_model_survives_a_file(model, tmp_path):
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    tokens = {"tokens": some_tokens()}
    np.testing.assert_array_equal(model(tokens), loaded(tokens))


def test_float64_reaches_the_logits(float64, randomised):
    model = randomised(language_model(VOCABULARY, LENGTH, width=8, layer_count=1, heads=2))
    assert {v.dtype for v in model.trainable_variables} == {"float64"}
    tokens = some_tokens()
    before = model({"tokens": tokens})
    assert before.dtype == "float64"
    # A difference far below float32's resolution is seen at the output.
    position = next(v for v in model.trainable_variables if "position" in v.path)
    position.assign(position + 1e-11)
    change = np.abs(model({"tokens": tokens}).numpy() - before.numpy())
    assert 0 < change.max() < 1e-8


def test_half_precision_still_gives_float32_logits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = language_model(VOCABULARY, LENGTH, width=8, layer_count=1, heads=2)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model({"tokens": some_tokens()}).dtype == "float32"


def test_dropout_acts_in_training_only():
    model = language_model(VOCABULARY, LENGTH, width=8, layer_count=1, heads=2, dropout=0.5)
    tokens = {"tokens": some_tokens()}
    np.testing.assert_array_equal(model(tokens), model(tokens))
    assert np.abs(model(tokens, training=True) - model(tokens, training=True)).max() > 1e-4


@pytest.mark.parametrize("width, heads", [(8, 3), (8, 0), (0, 1)])
def test_heads_must_divide_the_width(width, heads):
    with pytest.raises(ValueError, match=f"language_model: width {width} must be a multiple of"):
        language_model(VOCABULARY, LENGTH, width=width, heads=heads)
