"""Fixtures of the model tests."""

import keras
import numpy as np
import pytest


@pytest.fixture
def float64():
    """Models built inside compute in float64; the float type is put back afterwards."""
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(before)


@pytest.fixture
def randomised():
    """Gives every weight of a model a random value, so that no zero hides an effect."""

    def randomise(model: keras.Model, seed: int = 0, deviation: float = 0.5) -> keras.Model:
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(scale=deviation, size=variable.shape))
        return model

    return randomise
