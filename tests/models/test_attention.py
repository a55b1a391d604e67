"""Rotary positions replace a private method of keras_hub's attention: what if that changes?"""

import inspect

import keras
import keras_hub
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.models import layers

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
