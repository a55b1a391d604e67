"""Errors that TensorFlow and Keras wrapped come out as they were raised."""

import keras
import pytest
import tensorflow as tf

from dr_keras.errors import ArtefactError, ConfigurationError, DataError, as_raised


def raised_by(function):
    with pytest.raises(Exception) as caught:
        function()
    return caught.value


@pytest.mark.parametrize("error", [ConfigurationError, DataError, ArtefactError])
@pytest.mark.parametrize("nested", [False, True])
def test_what_is_raised_while_tracing_is_found_again(error, nested):
    original = error("a setting: make it\n  another one")

    @tf.function
    def inner(x):
        raise original

    @tf.function
    def outer(x):
        return inner(x) + 1

    wrapped = raised_by(lambda: (outer if nested else inner)(tf.constant(1)))
    assert "in user code" in str(wrapped)
    assert as_raised(wrapped) is original


def test_what_is_raised_in_a_layer_is_found_again():
    original = DataError("these windows are too wide")

    class Fussy(keras.layers.Layer):
        def call(self, x):
            raise original

    layer = Fussy()
    wrapped = raised_by(lambda: layer(tf.zeros([2])))
    assert "Exception encountered" in str(wrapped)
    assert as_raised(wrapped) is original
    traced = raised_by(lambda: tf.function(lambda x: layer(x))(tf.zeros([2])))
    assert as_raised(traced) is original


def test_other_errors_stay_what_they_are():
    @tf.function
    def broken(x):
        return x + undefined_name  # noqa: F821

    def while_another_was_handled():
        try:
            raise ConfigurationError("handled long ago")
        except ConfigurationError:
            broken(tf.constant(1))

    wrapped = raised_by(while_another_was_handled)
    assert as_raised(wrapped) is wrapped
    outer = ConfigurationError("with more to say: inner")
    outer.__cause__ = DataError("inner")
    assert as_raised(outer) is outer
