"""A regression whose labels are wrong in half of the examples, and a feature that says which."""

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, objects

WIDTH = 4


class Regression:
    """`train`, an ExampleSet of two sources, `held_out` arrays without wrong labels, and models."""

    def __init__(self, count=96):
        random = np.random.default_rng(5)
        dtype = keras.config.floatx()
        truth = random.normal(size=WIDTH)
        good = random.random(count) < 0.5
        inputs = random.normal(size=(count, WIDTH))
        target = np.where(good, inputs @ truth, -(inputs @ truth))
        self.train = ExampleSet(
            {"x": np.column_stack([inputs, good]).astype(dtype), "label": target.astype(dtype)},
            ids=objects(map(str, range(count))),
            sources=objects(np.where(good, "good", "bad")),
            corpora=objects(["all"] * count),
        )
        held = random.normal(size=(16, WIDTH))
        self.held_out = {
            "x": np.column_stack([held, np.ones(16)]).astype(dtype),
            "label": (held @ truth).astype(dtype),
        }

    def models(self, dropout=0.0, rater_weight=0.0):
        """(model, rater): linear both; the rater reads the last column alone."""
        inputs = keras.Input((WIDTH + 1,), name="x")
        hidden = keras.layers.Dropout(dropout, seed=3)(inputs[:, :WIDTH])
        dense = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros", name="line")
        model = keras.Model(inputs, dense(hidden), name="regression")
        rated = keras.Input((WIDTH + 1,), name="x")
        score = keras.layers.Dense(
            1,
            use_bias=False,
            kernel_initializer=keras.initializers.Constant(rater_weight),
            name="score",
        )
        return model, keras.Model(rated, score(rated[:, WIDTH:]), name="rater")


@pytest.fixture
def regression():
    return Regression()


@pytest.fixture(scope="session")
def make_regression():
    return Regression
