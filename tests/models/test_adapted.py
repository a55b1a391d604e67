"""Models of which little is trained: what that is, what training changes, what is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.adapted import adapted_model
from dr_keras.models.hub_models import hub_language_model
from dr_keras.models.losses import next_token_loss
from dr_keras.models.model_parts import parts_of, share_trained
from dr_keras.models.text_models import language_model

TOKENS = {"tokens": tf.constant([[3, 4, 5, 6, 0], [7, 1, 2, 0, 0]])}


def base(**arguments):
    return language_model(11, 5, width=4, layer_count=2, heads=2, **arguments)


@pytest.fixture
def trained_base(tmp_path):
    """(a model with values of its own, the folder where a run left its weights)."""
    model = base()
    rng = np.random.default_rng(0)
    for variable in model.weights:
        variable.assign(rng.normal(size=variable.shape))
    model.save_weights(tmp_path / "final.weights.h5")
    return model, tmp_path


def test_training_begins_at_the_base_and_changes_the_updates_alone(trained_base):
    model, folder = trained_base
    low_rank = adapted_model(base, str(folder), rank=3)
    np.testing.assert_array_equal(low_rank(TOKENS), model(TOKENS))
    # Two blocks with a query and a value of [4, 2, 2] each: A [4, 2, 3], B [3, 2].
    assert {tuple(v.shape) for v in low_rank.trainable_variables} == {(4, 2, 3), (3, 2)}
    assert sum(v.numpy().size for v in low_rank.trainable_variables) == 4 * (24 + 6)
    assert all(parts_of(low_rank).is_frozen)
    before = [v.numpy() for v in low_rank.non_trainable_variables]
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(next_token_loss(low_rank(TOKENS), TOKENS))
    gradients = tape.gradient(loss, [v.value for v in low_rank.trainable_variables])
    keras.optimizers.SGD(0.1).apply(gradients, low_rank.trainable_variables)
    after = tf.reduce_mean(next_token_loss(low_rank(TOKENS), TOKENS))
    assert float(after) < float(loss)
    for old, new in zip(before, low_rank.non_trainable_variables):
        np.testing.assert_array_equal(old, new)


def test_a_head_alone(trained_base):
    head = adapted_model(base, str(trained_base[1]), rank=None, trained=["final_norm"])
    assert [v.path for v in head.trainable_variables] == ["final_norm/gamma", "final_norm/beta"]


def test_what_is_trained_is_said(trained_base):
    model = adapted_model(base, str(trained_base[1]), rank=2, layers="query", alpha=4)
    whole = sum(v.numpy().size for v in model.weights)
    assert share_trained(model) == (
        f"40 of {whole} parameters trained ({40 / whole:.2%}), in updates of rank 2 to 2 kernels"
    )
    assert share_trained(base()) == ""


def test_backbones_of_keras_hub():
    settings = {
        "num_layers": 1, "hidden_dim": 4, "intermediate_dim": 5, "num_query_heads": 2,
        "num_key_value_heads": 1,
    }  # fmt: skip
    model = adapted_model(lambda: hub_language_model(11, 5, "LlamaBackbone", settings), None, 2)
    assert len(model.trainable_variables) == 4


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"rank": 0}, "rank is 0"),
        ({"rank": None}, "nothing to train"),
        ({"layers": ["quary"]}, "layers names 'quary'.*final_norm.*query"),
        ({"layers": ["final_norm"]}, "'final_norm' .LayerNormalization. takes no low-rank"),
        ({"trained": "head"}, "trained names 'head'"),
        ({"model": lambda: base(recompute_blocks=True)}, "recompute_blocks = False"),
        ({"weights": "nowhere"}, "adapted_model.weights: there is no file .*nowhere"),
    ],
)
def test_what_cannot_be(arguments, said):
    with pytest.raises(ConfigurationError, match=said):
        adapted_model(**{"model": base, "weights": None, **arguments})


def test_weights_of_another_model(trained_base):
    with pytest.raises(ConfigurationError, match="adapted_model.weights: .*does not fit"):
        adapted_model(lambda: language_model(11, 5, width=8), str(trained_base[1]))
