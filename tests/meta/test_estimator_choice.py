"""The estimator of a trainer that names none, and what is said of loops over convolutions."""

import keras
import pytest
import tensorflow as tf

from dr_keras.meta.estimators import FirstOrder, MixedMode, NestedTape
from dr_keras.meta.estimators.choice import estimator_for, has_convolutions


def model(*layers):
    """A model with the layers one level down, as a backbone has them."""
    inside = keras.Sequential([keras.Input((6, 6, 1)), *layers], name="body")
    return keras.Sequential([keras.Input((6, 6, 1)), inside, keras.layers.Flatten()], name="net")


@pytest.fixture(scope="module")
def nets():
    return {True: model(keras.layers.SeparableConv2D(2, 3)), False: model(keras.layers.Dense(2))}


def test_nobody_named_one(nets, caplog):
    for convolutional, net in nets.items():
        assert has_convolutions(net) == convolutional
        assert isinstance(estimator_for(None, net, True), NestedTape)
    assert not caplog.records


@pytest.mark.parametrize("kind", [MixedMode, FirstOrder, NestedTape])
def test_loops_over_convolutions_are_told_of_on_a_cpu_under_xla_alone(
    nets, caplog, kind, monkeypatch
):
    estimator = kind()

    def said(net, jit_compile=True):
        caplog.clear()
        assert estimator_for(estimator, net, jit_compile) is estimator
        return [record.getMessage() for record in caplog.records]

    if kind is NestedTape:
        assert not said(nets[True])
        return
    (line,) = said(nets[True])
    assert "'net' has convolutions" in line and f"a meta-step by {kind.__name__} takes" in line
    assert "MetaTrainer.estimator" in line and "@NestedTape()" in line
    assert not said(nets[False]) and not said(nets[True], jit_compile=False)
    there = [tf.config.PhysicalDevice("GPU:0", "GPU")]
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda *kind: there)
    assert not said(nets[True])
