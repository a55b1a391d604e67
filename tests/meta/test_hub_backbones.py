"""keras_hub's backbones as inner models: their meta-gradient through two updates is exact."""

import pytest
import tensorflow as tf

from dr_keras.meta.estimators import NestedTape
from dr_keras.meta.optimizers import sgd
from dr_keras.models.hub_models import hub_language_model

_SIZE = {"num_layers": 1, "hidden_dim": 4, "intermediate_dim": 5, "dropout": 0.0}
_GROUPED = {**_SIZE, "num_query_heads": 2, "num_key_value_heads": 1}
_LEARNED = {**_SIZE, "num_heads": 2, "max_sequence_length": 6}
BACKBONES = {
    "LlamaBackbone": _GROUPED,
    "GPT2Backbone": _LEARNED,
    "OPTBackbone": _LEARNED,
    "QwenBackbone": _GROUPED,
    "MistralBackbone": _GROUPED,
    "GemmaBackbone": {**_GROUPED, "head_dim": 4},
    "Phi3Backbone": _GROUPED,
    "BloomBackbone": {**_SIZE, "num_heads": 2},
    "GPTNeoXBackbone": _LEARNED,
}
# Some normalise in float32 whatever the policy.
ROUGH = {"LlamaBackbone", "QwenBackbone", "MistralBackbone", "GemmaBackbone", "Phi3Backbone"}


def directional(toy, gradient, step=1e-3):
    """(|g|, the derivative of the outer loss along g by central differences)."""
    length = float(tf.linalg.global_norm(gradient))

    def loss(along):
        return float(toy.outer_loss([e + along * g / length for e, g in zip(toy.eta, gradient)]))

    return length, (loss(step) - loss(-step)) / (2 * step)


first, *others = BACKBONES


@pytest.mark.parametrize(
    "name", [first, *(pytest.param(n, marks=pytest.mark.long) for n in others)]
)
def test_the_meta_gradient_is_exact(name, toy_problem):
    def model(vocabulary, length):
        return hub_language_model(vocabulary, length, name, BACKBONES[name])

    toy = toy_problem(toy_problem.of_text(model), sgd(learning_rate=0.5))
    _, gradient, _, _ = toy.estimate(NestedTape())
    length, found = directional(toy, gradient)
    assert length > 1e-5
    assert found == pytest.approx(length, rel=2e-2 if name in ROUGH else 1e-4)
