"""A rater of sources: its scores, what it refuses, and its place among Keras models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models.source_rater import check_sources, source_rater, sources_of


def rater_with(scores):
    rater = source_rater([f"s{n}" for n in range(len(scores))])
    rater.trainable_variables[0].assign(np.reshape(scores, (-1, 1)))
    return rater


def test_scores_are_the_table_and_their_gradient_is_dense():
    rater = rater_with([1.0, -2.0, 3.0])
    numbers = tf.constant([3, 1, 1, 0, 2, 9])
    with tf.GradientTape() as tape:
        scores = rater({"source": numbers})
        total = tf.reduce_sum(scores)
    assert scores.numpy().tolist() == [3.0, 1.0, 1.0, 0.0, -2.0, 0.0]  # no source, no score
    gradient = tape.gradient(total, rater.trainable_variables[0])
    assert isinstance(gradient, tf.Tensor) and gradient.numpy().ravel().tolist() == [2.0, 1.0, 1.0]


def test_it_is_saved_with_its_names(tmp_path):
    rater = rater_with([1.0, -2.0])
    rater.save(tmp_path / "rater.keras")
    loaded = keras.models.load_model(tmp_path / "rater.keras")
    assert sources_of(loaded) == ("s0", "s1")
    assert loaded({"source": np.array([2])}).numpy() == pytest.approx([-2.0])


def test_what_is_refused():
    for names in [(), ["a", "a"], "news"]:
        with pytest.raises(
            ConfigurationError, match="source_rater.sources is .* each of them once"
        ):
            source_rater(names)
    other = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    with pytest.raises(ConfigurationError, match="does not score sources: .*@source_rater"):
        sources_of(other)
    check_sources(other, {}, [], "any")
    rater, features = rater_with([0.0, 0.0]), {"source": np.array([1, 0, 2, 3])}
    with pytest.raises(DataError, match="'pool' has 2 examples of .* 'blogs': it knows s0, s1"):
        check_sources(rater, features, ["s0", "wikis", "s1", "blogs"], "pool")
