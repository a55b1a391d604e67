"""The choice of what is trained on, by itself."""

import numpy as np
import tensorflow as tf

from dr_keras.meta.optimizers import sgd
from dr_keras.meta.problem import InnerState, MetaProblem
from dr_keras.training.curated.steps import Choice

DRAWS = 400


def test_a_sample_is_drawn_by_the_softmax_of_the_scores():
    scores = tf.math.log([1.0, 2.0, 3.0, 4.0])
    problem = MetaProblem(lambda eta, batch: batch["x"], None, None, sgd(0.1))

    def chosen(size, seed, age):
        state = InnerState([], [], {}, age)
        return Choice(size, 4, False, sampled=True, seed=seed)(problem, [], state, {"x": scores})

    def rows(size, seed=0):
        draws = tf.function(
            lambda: tf.map_fn(lambda age: chosen(size, seed, age).rows, tf.range(DRAWS))
        )
        return draws().numpy()

    first = np.bincount(rows(1)[:, 0], minlength=4) / DRAWS
    expected = np.array([0.1, 0.2, 0.3, 0.4])
    errors = np.sqrt(expected * (1 - expected) / DRAWS)
    assert np.all(np.abs(first - expected) < 4 * errors)
    three = rows(3)
    assert np.all(np.diff(three) > 0)  # without replacement, ascending
    # what is left out is the one drawn last: rarely the likeliest
    left_out = 6 - three.sum(axis=1)
    assert np.mean(left_out == 0) > 4 * np.mean(left_out == 3) > 0
    assert np.array_equal(three, rows(3)) and not np.array_equal(three, rows(3, seed=1))
    np.testing.assert_allclose(chosen(2, 0, tf.constant(0)).weights, [0.5, 0.5])
