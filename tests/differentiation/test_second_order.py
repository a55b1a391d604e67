"""Second derivatives of normalisation layers, which TensorFlow's moments get wrong."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.differentiation.second_order import exact_moments

LAYERS = {
    "layer": lambda: keras.layers.LayerNormalization(),
    "layer_two_axes": lambda: keras.layers.LayerNormalization(axis=(1, 2)),
    "group": lambda: keras.layers.GroupNormalization(2),
    "batch": lambda: keras.layers.BatchNormalization(),
    "rms": lambda: keras.layers.RMSNormalization(),
    "unit": lambda: keras.layers.UnitNormalization(),
}


@pytest.mark.parametrize("name", LAYERS)
def test_hessian_vector_products_match_differences_of_gradients(name, float64):
    rng = np.random.default_rng(0)
    layer = LAYERS[name]()
    x, way, outer = (tf.constant(rng.normal(size=(4, 5, 6))) for _ in range(3))
    layer(x)

    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with exact_moments():
                loss = tf.reduce_sum(outer * layer(x, **training))
        return tape.gradient(loss, x)

    training = {"training": True} if name == "batch" else {}
    with tf.GradientTape() as tape:
        tape.watch(x)
        along = tf.reduce_sum(gradient(x) * way)
    found = tape.gradient(along, x).numpy()
    step = 1e-3
    values = [gradient(x + k * step * way).numpy() for k in (-2, -1, 1, 2)]
    expected = (values[0] - 8 * values[1] + 8 * values[2] - values[3]) / (12 * step)
    assert np.linalg.norm(found - expected) < 1e-7 * np.linalg.norm(expected)


@pytest.mark.parametrize("axes, keepdims", [([-1], True), ([0, 2], False), ([0, 1, 2], True)])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_the_values_are_those_of_tensorflow(axes, keepdims, dtype):
    x = tf.constant(np.random.default_rng(0).normal(3, 2, (4, 5, 6)), dtype)
    expected = tf.nn.moments(x, axes, keepdims=keepdims)
    with exact_moments():
        found = tf.nn.moments(x, axes, keepdims=keepdims)
    for a, b in zip(expected, found):
        assert a.dtype == b.dtype and a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_the_function_is_put_back_by_the_last_one_out():
    before = tf.nn.moments
    with pytest.raises(RuntimeError, match="inside"), exact_moments():
        with exact_moments():
            assert tf.nn.moments is not before
        assert tf.nn.moments is not before
        raise RuntimeError("inside")
    assert tf.nn.moments is before
