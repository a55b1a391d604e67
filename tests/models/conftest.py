"""Fixtures of the model tests."""

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet


@pytest.fixture
def randomised():
    """Gives every weight of a model a random value, so that no zero hides an effect."""

    def randomise(model: keras.Model, seed: int = 0, deviation: float = 0.5) -> keras.Model:
        rng = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            variable.assign(rng.normal(scale=deviation, size=variable.shape))
        return model

    return randomise


@pytest.fixture
def example_rows():
    """An ExampleSet of windows of 6 tokens that count upwards, some of them padded."""
    rng = np.random.default_rng(0)
    tokens = (rng.integers(0, 10, (40, 1)) + np.arange(6)) % 10 + 1
    tokens[::5, 3:] = 0
    names = np.array([f"row{k}#0" for k in range(40)], object)
    return ExampleSet({"tokens": tokens.astype(np.int32)}, names, names, names, name="rows")
