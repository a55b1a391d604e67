"""Language models of keras_hub's backbones: how they are named, and what is refused."""

import keras_hub
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.hub_models import hub_language_model

LLAMA = {
    "num_layers": 1, "hidden_dim": 4, "intermediate_dim": 5, "num_query_heads": 2,
    "num_key_value_heads": 1,
}  # fmt: skip
BERT = {"num_layers": 1, "hidden_dim": 4, "intermediate_dim": 5, "num_heads": 2}


def test_padding_and_later_tokens_change_nothing():
    model = hub_language_model(11, 5, "LlamaBackbone", LLAMA)
    assert model.output_shape == (None, 5, 11)
    logits = model({"tokens": tf.constant([[3, 4, 5, 0, 0], [3, 4, 9, 8, 7]])}).numpy()
    np.testing.assert_allclose(logits[0, :2], logits[1, :2], rtol=1e-5)
    assert not np.allclose(logits[0, 2], logits[1, 2])


def test_a_preset_on_disk_brings_its_weights(tmp_path):
    backbone = keras_hub.models.LlamaBackbone(vocabulary_size=11, **LLAMA)
    backbone.save_to_preset(str(tmp_path / "preset"))
    model = hub_language_model(9, 5, preset=str(tmp_path / "preset"))
    assert model.output_shape == (None, 5, 11)
    for ours, theirs in zip(model.weights, backbone.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ConfigurationError, match="vocabulary of 11 and the tokenizer one of 12"):
        hub_language_model(12, 5, preset=str(tmp_path / "preset"))


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({}, "a backbone, such as .* or a preset"),
        ({"backbone": "LlamaBackbone", "preset": "x"}, "and not both"),
        ({"backbone": "LlamaTokenizer"}, "no backbone 'LlamaTokenizer'.*LlamaBackbone"),
        ({"backbone": "LlamaBackbone", "settings": {"layers": 1}}, "do not suit.*num_layers"),
        ({"backbone": "BertBackbone", "settings": BERT}, "it reads .*segment_ids"),
        ({"backbone": "DistilBertBackbone", "settings": BERT}, "see those that come after"),
        ({"preset": "no/such/folder"}, "no/such/folder cannot be loaded.*there is no folder"),
    ],
)
def test_what_is_no_language_model(arguments, said):
    with pytest.raises(ConfigurationError, match=said):
        hub_language_model(11, 5, **arguments)
