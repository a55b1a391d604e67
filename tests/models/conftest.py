"""Fixtures of the model tests."""

import keras
import numpy as np
import pytest


@pytest.fixture
def randomised():
    """Gives every weight of a model a random value, so that no zero hides an effect."""

    def randomise(model: keras.Model, seed: int = 0, deviation: float = 0.5) -> keras.Model:
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(scale=deviation, size=variable.shape))
        return model

    return randomise
