"""Layers: attention and positions, and blocks that are run again for every derivative."""

import inspect

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.population import initial_values
from dr_keras.models import layers
from dr_keras.models.losses import next_token_loss
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.precompile.setup import build_abstract
from dr_keras.training.trainers import LanguageModelTrainer

INSTALLED = f"keras {keras.__version__} and keras-hub {keras_hub.__version__}"
KINDS = [layers.RotaryEncoder, layers.RotaryDecoder]


def built(kind):
    block = kind(sequence_length=4, intermediate_dim=4, num_heads=1, normalize_first=True)
    block.build((None, 4, 2))
    return block


def attention_of(kind):
    """The class whose method a block replaces."""
    return type(built(kind)._self_attention_layer)


@pytest.mark.parametrize("kind", KINDS)
def test_the_installed_versions_have_what_is_replaced(kind):
    """Read this first where a new keras or keras-hub makes others fail."""
    plain = kind.__bases__[-1](intermediate_dim=4, num_heads=1)
    plain.build((None, 4, 2))
    method = getattr(getattr(plain, "_self_attention_layer", None), "_compute_attention", None)
    assert method is not None, f"{INSTALLED}: {kind} has nothing to replace"
    names = list(inspect.signature(method).parameters)[:5]
    wanted = ["query", "key", "value", "attention_mask", "training"]
    assert names == wanted, f"{INSTALLED}: _compute_attention takes {names}"


@pytest.mark.parametrize("kind", KINDS)
def test_a_forward_pass_asks_the_replaced_method_once(kind):
    block = built(kind)
    hidden = np.ones((1, 4, 2), np.float32)
    for calls in (1, 2):
        block(hidden)
        found = block._self_attention_layer._compute_attention.calls
        assert found == calls, f"{INSTALLED}: {found} calls in {calls} passes"


@pytest.mark.parametrize("kind", KINDS)
def test_arguments_of_a_call_keep_their_names(kind):
    inherited = inspect.signature(kind.__bases__[-1].call)
    assert inspect.signature(kind.call) == inherited


def test_a_method_that_is_gone_is_an_error_of_building(monkeypatch):
    monkeypatch.delattr(keras.layers.MultiHeadAttention, "_compute_attention")
    message = f"{INSTALLED}, with which RotaryEncoder has no _self_attention_layer._compute_att"
    with pytest.raises(ConfigurationError, match=message):
        built(layers.RotaryEncoder)


@pytest.mark.parametrize("kind", KINDS)
def test_other_arguments_are_an_error_of_building(kind, monkeypatch):
    def taken_together(self, projections, attention_mask=None, training=None):
        raise AssertionError("must not be reached")

    monkeypatch.setattr(attention_of(kind), "_compute_attention", taken_together)
    message = f"{INSTALLED}, with which {kind.__name__} computes attention from projections"
    with pytest.raises(ConfigurationError, match=message):
        built(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_that_is_not_called_any_more_is_an_error(kind, monkeypatch):
    def passed_by(self, query, value, *others, **named):
        return query

    monkeypatch.setattr(attention_of(kind), "call", passed_by)
    block = built(kind)
    message = f"{INSTALLED}, with which {kind.__name__} does not call _compute_attention"
    with pytest.raises(ConfigurationError, match=message):
        block(np.ones((1, 4, 2), np.float32))


VOCABULARY, LENGTH = 11, 6


def model(layer_count=3, dropout=0.0, **options):
    return language_model(
        VOCABULARY, LENGTH, width=8, layer_count=layer_count, heads=2, dropout=dropout, **options
    )


def rater(layer_count=3, **options):
    return text_rater(VOCABULARY, LENGTH, width=8, layer_count=layer_count, heads=2, **options)


def tokens(rows=4, seed=0):
    rng = np.random.default_rng(seed)
    found = rng.integers(1, VOCABULARY, (rows, LENGTH)).astype(np.int32)
    found[1, 3:] = 0
    return {"tokens": tf.constant(found)}


@pytest.fixture
def with_values_of(stacked_as):
    def copied(source, target):
        for kind in ("trainable_variables", "non_trainable_variables"):
            values = stacked_as(getattr(source, kind), getattr(target, kind))
            for value, variable in zip(values, getattr(target, kind), strict=True):
                variable.assign(value)
        return target

    return copied


def loss_and_gradient(model, batch, chunk=7, training=False):
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(next_token_loss(model(batch, training=training), batch, chunk))
    found = tape.gradient(loss, [v.value for v in model.trainable_variables])
    return [loss, *map(tf.convert_to_tensor, found)]


@pytest.mark.parametrize(
    "options",
    [
        {"recompute_blocks": True},
        {"chunked_logits": True},
        {"recompute_blocks": True, "chunked_logits": True},
    ],
)
def test_values_are_those_of_the_plain_model(options, randomised, with_values_of, stacked_as):
    plain = randomised(model())
    other = with_values_of(plain, model(**options))
    batch = tokens()
    found = loss_and_gradient(other, batch)
    expected = stacked_as(loss_and_gradient(plain, batch), found)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_the_same_seed_makes_the_same_model_with_and_without(stacked_as):
    plain, _ = initial_values(lambda: model(dropout=0.1), 3)
    other, seeds = initial_values(
        lambda: model(dropout=0.1, recompute_blocks=True, chunked_logits=True), 3
    )
    for a, b in zip(stacked_as(plain, other), other, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {tuple(leaf.shape) for leaf in seeds} == {(3, 2)}
    assert len(np.unique(np.concatenate(seeds), axis=0)) > 3  # every block draws on its own


def test_each_weight_is_one_variable_for_all_blocks():
    for constructor, attention in ((model, "self_attention"), (rater, "self_attention_layer")):
        two, three = (constructor(layer_count=count, recompute_blocks=True) for count in (2, 3))
        assert len(two.variables) == len(three.variables)
        assert [v.path for v in two.variables] == [v.path for v in three.variables]
        plain = constructor(layer_count=3)
        assert plain.count_params() == three.count_params()
        paths = {v.path for v in three.variables}
        assert f"blocks/{attention}_query_kernel" in paths


@pytest.mark.parametrize("chunk", [1, 5, 24, 1000])
def test_chunks_of_any_size_give_the_same_losses(chunk, randomised):
    made = randomised(model(chunked_logits=True))
    batch = tokens()
    outputs = made(batch)
    logits = tf.matmul(outputs["hidden"], outputs["unembedding"], transpose_b=True)
    np.testing.assert_allclose(
        next_token_loss(outputs, batch, chunk), next_token_loss(logits, batch), rtol=1e-5
    )


def test_a_chunk_below_one_is_refused():
    made, batch = model(chunked_logits=True), tokens()
    with pytest.raises(ValueError, match="chunk is 0"):
        next_token_loss(made(batch), batch, 0)


def test_dropout_draws_in_every_block_and_moves_on(randomised):
    made = randomised(model(dropout=0.5, recompute_blocks=True))
    batch, seeds = tokens(), [v.numpy() for v in made.non_trainable_variables]
    assert 3 * len(seeds) == len(model(dropout=0.5).non_trainable_variables) > 0
    first, second = (loss_and_gradient(made, batch, training=True)[0] for _ in range(2))
    assert abs(first - second) > 1e-4
    moved = np.concatenate([
        (before != v.numpy()).any(axis=1)
        for before, v in zip(seeds, made.non_trainable_variables)
    ])  # fmt: skip
    assert sum(moved) >= 3 * len(moved) // 4  # those of layers that draw at this rate


def test_dropout_is_that_of_the_plain_model(randomised, with_values_of, stacked_as):
    plain = randomised(model(dropout=0.3))
    other = with_values_of(plain, model(dropout=0.3, recompute_blocks=True))
    batch = tokens()
    found = loss_and_gradient(other, batch, training=True)
    expected = stacked_as(loss_and_gradient(plain, batch, training=True), found)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-6)


def test_a_rater_scores_as_the_plain_one_at_any_length(randomised, with_values_of):
    plain = randomised(rater())
    other = with_values_of(plain, rater(recompute_blocks=True))
    score = tf.function(other, input_signature=[{"tokens": tf.TensorSpec([None, None], "int32")}])
    for width in (LENGTH, LENGTH - 2):
        batch = {"tokens": tokens()["tokens"][:, :width]}
        expected = plain(batch)
        np.testing.assert_allclose(other(batch), expected, rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(score(batch), expected, rtol=2e-4, atol=2e-6)
    assert float(tf.math.reduce_std(expected)) > 1e-3


def test_weights_go_through_a_file(tmp_path, randomised):
    made, other = randomised(rater(recompute_blocks=True)), rater(recompute_blocks=True)
    made.save_weights(tmp_path / "rater.weights.h5")
    other.load_weights(tmp_path / "rater.weights.h5")
    np.testing.assert_array_equal(made(tokens()), other(tokens()))
    with pytest.raises(ValueError):
        rater(layer_count=2, recompute_blocks=True).load_weights(tmp_path / "rater.weights.h5")


@pytest.mark.long
def test_it_trains_in_the_evaluation(example_rows):
    """Keras' fit, compiled: a loss that falls as that of the plain model does."""
    curves = []
    for options in ({}, {"recompute_blocks": True, "chunked_logits": True}):
        trainer = LanguageModelTrainer(
            lambda options=options: model(layer_count=2, **options),
            steps=20,
            batch_size=8,
            learning_rate=1e-2,
            evaluate_every=20,
        )
        curves.append(trainer.train(example_rows, example_rows, 0).curve)
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-3)
    assert curves[0][-1][1] < curves[0][0][1] - 0.3


def test_it_is_built_abstractly():
    plain, other = (
        build_abstract(lambda options=options: model(**options)).count_params()
        for options in ({}, {"recompute_blocks": True, "chunked_logits": True})
    )
    assert plain == other


def test_sixteen_bits_inside_thirty_two_outside(randomised, with_values_of):
    plain = randomised(model())
    other = with_values_of(plain, model(dtype="mixed_bfloat16"))
    assert {v.dtype for v in other.trainable_variables} == {"float32"}
    batch = tokens()
    expected, found = loss_and_gradient(plain, batch), loss_and_gradient(other, batch)
    assert found[0].dtype == tf.float32
    assert float(expected[0]) != float(found[0])  # it does compute in 16 bits
    np.testing.assert_allclose(found[0], expected[0], rtol=2e-2)
    assert other(batch).dtype == "float32"
    names = [layer.compute_dtype for layer in other.layers if layer.name.startswith("block")]
    assert names == ["bfloat16"] * 3
    assert keras.config.dtype_policy().name == "float32"
