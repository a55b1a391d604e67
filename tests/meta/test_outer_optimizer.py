"""The outer Adam: one for each member, averaged updates, clip, decay and warm-up."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta.optimizers import OuterAdam, cosine_rate


def constants(*values):
    return [tf.constant(value, tf.float64) for value in values]


def test_directions_follow_adam_member_by_member():
    optimizer = OuterAdam(clip_norm=None, beta_1=0.8, beta_2=0.9, epsilon=1e-3)
    slots, m, v = optimizer.init(constants([0.0, 0.0])), np.zeros(2), np.zeros(2)
    for count, g in enumerate(np.array([[1.0, -2.0], [0.5, 3.0], [0.0, 0.0]])):
        direction, slots = optimizer.member_update(constants(g), slots, tf.constant(count))
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g**2
        m_hat, v_hat = m / (1 - 0.8 ** (count + 1)), v / (1 - 0.9 ** (count + 1))
        np.testing.assert_allclose(direction[0], m_hat / (np.sqrt(v_hat) + 1e-3), rtol=1e-12)


def test_the_scale_of_a_members_gradient_does_not_matter():
    """Young members have large meta-gradients: with one Adam each they have the same say."""
    optimizer = OuterAdam(clip_norm=None)
    small, _ = optimizer.member_update(constants([1e-3]), optimizer.init(constants([0.0])), 0)
    large, _ = optimizer.member_update(constants([1e3]), optimizer.init(constants([0.0])), 0)
    np.testing.assert_allclose(small[0], large[0], rtol=1e-4)


def test_clipping_comes_before_adam():
    optimizer = OuterAdam(clip_norm=0.5)
    gradient = constants([3.0], [4.0])
    _, slots = optimizer.member_update(gradient, optimizer.init(gradient), tf.constant(0))
    np.testing.assert_allclose([leaf.numpy()[0] for leaf in slots["m"]], [0.03, 0.04])
    np.testing.assert_allclose([leaf.numpy()[0] for leaf in slots["v"]], [9e-5, 16e-5])


def test_zero_meta_gradients_move_nothing():
    optimizer = OuterAdam(weight_decay=0.0)
    direction, _ = optimizer.member_update(
        constants([0.0]), optimizer.init(constants([0.0])), tf.constant(0)
    )
    assert direction[0].numpy().tolist() == [0.0]
    assert optimizer.apply(constants([2.0]), direction, tf.constant(5))[0].numpy() == [2.0]


def test_weight_decay_is_decoupled():
    """It is scaled by the learning rate and goes round Adam's normalisation."""
    optimizer = OuterAdam(learning_rate=0.1, warmup=0, weight_decay=0.5)
    eta = optimizer.apply(constants([2.0]), constants([3.0]), tf.constant(0))
    assert eta[0].numpy()[0] == pytest.approx(2.0 - 0.1 * (3.0 + 0.5 * 2.0), rel=1e-14)


def test_warm_up_is_linear_in_meta_steps():
    optimizer = OuterAdam(learning_rate=1.0, warmup=100)
    rates = [float(optimizer.rate(tf.constant(step), tf.float64)) for step in (0, 49, 99, 5000)]
    assert rates == pytest.approx([0.01, 0.5, 1.0, 1.0])


def test_a_schedule_replaces_the_number_and_its_warm_up():
    optimizer = OuterAdam(learning_rate=cosine_rate(1.0, 10, final_fraction=0.0), warmup=100)
    rates = [float(optimizer.rate(tf.constant(step), tf.float64)) for step in (0, 5, 10)]
    assert rates == pytest.approx([1.0, 0.5, 0.0], abs=1e-12)


def test_the_trainer_averages_the_members_updates(regression_trainer, regression_sets):
    """One meta-step by hand: eta - rate * (mean of the members' Adam directions + decay * eta)."""
    directions = []
    member_update = OuterAdam.member_update

    class Recorded(OuterAdam):
        def member_update(self, gradient, slots, count):
            direction, slots = member_update(self, gradient, slots, count)
            tf.py_function(lambda *d: directions.append([x.numpy() for x in d]), direction, [])
            return direction, slots

    outer_optimizer = Recorded(learning_rate=0.05, warmup=0, clip_norm=0.5, weight_decay=0.3)
    trainer = regression_trainer(population_size=3, outer_optimizer=outer_optimizer)
    eta = [v.numpy() for v in trainer.rater.trainable_variables]
    trainer.fit(*regression_sets, meta_steps=1)
    assert len(directions) == 3
    for index, variable in enumerate(trainer.rater.trainable_variables):
        mean = np.mean([direction[index] for direction in directions], axis=0)
        expected = eta[index] - 0.05 * (mean + 0.3 * eta[index])
        np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-5, atol=1e-6)
    # The members disagree, so that averaging is not the same as taking one of them.
    assert np.abs(directions[0][0] - directions[1][0]).max() > 1e-3


def test_defaults_are_the_papers():
    assert dataclasses.asdict(OuterAdam()) == {
        "learning_rate": 1e-3,  # not published
        "warmup": 100, "clip_norm": 0.01, "weight_decay": 0.1,
        "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8,
    }  # fmt: skip
