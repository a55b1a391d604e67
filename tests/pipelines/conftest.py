"""Raters and helpers that the tests of the pipelines share."""

import keras
import numpy as np
import pytest
import tensorflow as tf


@pytest.fixture
def dense_rater():
    """Scores [x, y] as 2x - y."""
    inputs = keras.Input((2,))
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs)[:, 0])
    model.layers[1].set_weights([np.array([[2.0], [-1.0]], np.float32)])
    return model


@pytest.fixture
def values():
    """A function from a dataset to its elements as lists."""
    return lambda dataset: [element.tolist() for element in dataset.as_numpy_iterator()]


@pytest.fixture
def table():
    """A function from fixed scores to a rater of row numbers."""
    return lambda scores: lambda rows: tf.gather(tf.constant(scores, tf.float32), rows)


@pytest.fixture
def resumes(tmp_path):
    """A function that checks that an iterator stopped after `taken` elements goes on as it would.

    Nothing is known of the first iterator by then but its checkpoint.
    """

    def check(dataset, taken):
        def plain(element):
            return [np.asarray(part).tolist() for part in tf.nest.flatten(element)]

        whole = [plain(element) for element in dataset]
        assert len(whole) > taken
        iterator = iter(dataset)
        for _ in range(taken):
            next(iterator)
        path = tf.train.Checkpoint(iterator=iterator).save(str(tmp_path / "iterator"))
        del iterator
        resumed = iter(dataset)
        tf.train.Checkpoint(iterator=resumed).restore(path)
        assert [plain(element) for element in resumed] == whole[taken:]

    return check
