"""The causal language model: shapes, causality, files, dtypes."""

import keras
import numpy as np
import pytest

from dr_keras.models import layers
from dr_keras.models.text_models import language_model

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


@pytest.mark.parametrize("positions", layers.POSITIONS)
def test_the_order_of_earlier_tokens_counts(randomised, positions):
    model = randomised(
        language_model(VOCABULARY, LENGTH, width=8, layer_count=1, heads=2, positions=positions)
    )
    logits = model({"tokens": np.array([[1, 2, 3, 4, 5, 6], [2, 1, 3, 4, 5, 6]], np.int32)})
    # From the third position on both rows saw the same tokens and end in the same one.
    differences = np.abs(logits[0] - logits[1]).max(axis=-1)
    assert (differences > 1e-4).all()


def test_learned_positions_are_absolute_and_rotary_ones_relative(randomised):
    tokens = {"tokens": np.full((1, LENGTH), 3, np.int32)}
    found = {}
    for positions in layers.POSITIONS:
        model = randomised(language_model(VOCABULARY, LENGTH, width=8, positions=positions))
        found[positions] = np.abs(np.diff(model(tokens).numpy()[0], axis=0)).max(axis=1)
    assert found["learned"].min() > 1e-4
    assert found["rotary"].max() < 1e-5  # nothing but equal tokens at every distance


def test_rotary_attention_is_that_of_its_formula(float64):
    """One block against NumPy: queries and keys as complex numbers turned by angles."""
    width, heads, length = 8, 2, LENGTH
    block = layers.RotaryDecoder(
        sequence_length=length,
        intermediate_dim=16,
        num_heads=heads,
        normalize_first=True,
        activation="linear",
        name="block",
    )
    block.build((None, length, width))
    rng = np.random.default_rng(0)
    for variable in block.trainable_variables:
        variable.assign(rng.normal(size=variable.shape))
    hidden = rng.normal(size=(1, length, width))
    w = {v.path.split("block/")[-1]: v.numpy() for v in block.trainable_variables}

    def normalised(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * w[f"{name}/gamma"] + w[f"{name}/beta"]

    def projected(x, name):
        layer = f"self_attention/{name}"
        return np.einsum("bsw,whd->bshd", x, w[f"{layer}/kernel"]) + w[f"{layer}/bias"]

    def turned(x):
        half = x.shape[-1] // 2
        frequencies = 10_000.0 ** (-np.arange(half) / half)
        angles = np.arange(length)[:, None] * frequencies
        complex_ = (x[..., :half] + 1j * x[..., half:]) * np.exp(1j * angles)[None, :, None]
        return np.concatenate([complex_.real, complex_.imag], -1)

    inner = normalised(hidden, "self_attention_layer_norm")
    query, key, value = (projected(inner, name) for name in ("query", "key", "value"))
    scores = np.einsum("bqhd,bkhd->bhqk", turned(query), turned(key)) / np.sqrt(width // heads)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    shares /= shares.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", shares, value)
    output = "self_attention/attention_output"
    after = hidden + np.einsum("bshd,hdw->bsw", mixed, w[f"{output}/kernel"]) + w[f"{output}/bias"]
    inner = normalised(after, "feedforward_layer_norm")
    for layer in ("feedforward_intermediate_dense", "feedforward_output_dense"):
        inner = inner @ w[f"{layer}/kernel"] + w[f"{layer}/bias"]
    np.testing.assert_allclose(block(hidden).numpy(), after + inner, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"positions": "sine"}, "positions is 'sine'.*rotary"),
        ({"width": 6, "heads": 2}, "width 6 / heads 2 = 3 is odd"),
    ],
)
def test_positions_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        language_model(VOCABULARY, LENGTH, **arguments)


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
    embedding = next(v for v in model.trainable_variables if "embedding" in v.path)
    embedding.assign(embedding + 1e-11 * np.arange(embedding.shape[-1]))
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
