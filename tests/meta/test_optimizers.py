"""Optimizers of both levels against Keras' own and NumPy: values, clip, decay, warm-up, corners."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta import pytrees
from dr_keras.meta.optimizers import (
    OuterAdam,
    adam,
    adamw,
    as_schedule,
    check_own_rates,
    constant_rate,
    cosine_rate,
    momentum,
    sgd,
)

STEPS = 6
SHAPES = [(3, 2), (4,), ()]

# Keras keeps rates and betas in float32, so they are fractions of powers of two here.
BETAS = dict(beta_1=0.875, beta_2=0.9375, epsilon=0.0)

PAIRS = {
    "sgd": (sgd(0.25), lambda: keras.optimizers.SGD(0.25)),
    "clipped_sgd": (sgd(0.25, 0.5), lambda: keras.optimizers.SGD(0.25, global_clipnorm=0.5)),
    "momentum": (momentum(0.125, beta=0.75), lambda: keras.optimizers.SGD(0.125, momentum=0.75)),
    "nesterov": (
        momentum(0.125, beta=0.75, nesterov=True),
        lambda: keras.optimizers.SGD(0.125, momentum=0.75, nesterov=True),
    ),
    # Keras adds its epsilon before the bias correction: equal where there is none.
    "adam": (adam(0.125, epsilon_root=0.0, **BETAS), lambda: keras.optimizers.Adam(0.125, **BETAS)),
    "adamw": (
        adamw(0.125, clip_norm=1.0, epsilon_root=0.0, weight_decay=0.25, **BETAS),
        lambda: keras.optimizers.AdamW(0.125, global_clipnorm=1.0, weight_decay=0.25, **BETAS),
    ),
    "adam_with_cosine": (
        adam(cosine_rate(0.125, 4), epsilon_root=0.0, **BETAS),
        lambda: keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(0.125, 4, alpha=0.1), **BETAS
        ),
    ),
}


def draws(seed: int) -> list:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape) for shape in SHAPES]


@pytest.mark.parametrize("name", PAIRS)
def test_updates_equal_those_of_keras(name, float64):
    ours, theirs = PAIRS[name]
    theirs = theirs()
    variables = [keras.Variable(value) for value in draws(0)]
    theta = [tf.constant(value, tf.float64) for value in draws(0)]
    slots = ours.init(theta)
    for age in range(STEPS):
        gradient = [tf.constant(value, tf.float64) for value in draws(age + 1)]
        theta, slots = ours.update(theta, slots, gradient, tf.constant(age))
        theirs.apply(gradient, variables)
        for mine, yours in zip(theta, variables):
            np.testing.assert_allclose(mine, yours, rtol=1e-6, atol=1e-7)
    moved = np.concatenate([np.ravel(a - b) for a, b in zip(theta, draws(0))])
    assert np.abs(moved).max() > 0.05


def test_both_epsilons_of_adam_follow_the_bias_correction(float64):
    optimizer = adam(0.1, beta_1=0.8, beta_2=0.9, epsilon=0.3, epsilon_root=0.2)
    theta = [tf.constant(1.0, tf.float64)]
    slots = optimizer.init(theta)
    expected, m, v = 1.0, 0.0, 0.0
    for age, g in enumerate([0.5, -1.0, 2.0]):
        theta, slots = optimizer.update(theta, slots, [tf.constant(g, tf.float64)], age)
        m, v = 0.8 * m + 0.2 * g, 0.9 * v + 0.1 * g * g
        m_hat, v_hat = m / (1 - 0.8 ** (age + 1)), v / (1 - 0.9 ** (age + 1))
        expected -= 0.1 * m_hat / (np.sqrt(v_hat + 0.2) + 0.3)
        assert float(theta[0]) == pytest.approx(expected, rel=1e-13)


def test_default_adam_is_close_to_keras():
    """The epsilon inside the root is too small to matter where gradients are not tiny."""
    ours, theirs = adam(0.1), keras.optimizers.Adam(0.1, epsilon=1e-8)
    variable, theta = keras.Variable([1.0, 2.0]), [tf.constant([1.0, 2.0])]
    slots = ours.init(theta)
    for age in range(STEPS):
        gradient = tf.constant([0.5, -1e-3 * (age + 1)])
        theta, slots = ours.update(theta, slots, [gradient], tf.constant(age))
        theirs.apply([gradient], [variable])
    np.testing.assert_allclose(theta[0], variable, rtol=1e-4)


def test_bias_correction_counts_the_age():
    """The first update of a member has length lr whatever the gradient, a late one has not."""
    optimizer = adam(0.1)
    theta = [tf.constant([0.0])]
    first, _ = optimizer.update(theta, optimizer.init(theta), [tf.constant([7.0])], tf.constant(0))
    late, _ = optimizer.update(theta, optimizer.init(theta), [tf.constant([7.0])], tf.constant(999))
    assert float(first[0][0]) == pytest.approx(-0.1, rel=1e-5)
    expected = 0.1 * 0.7 / (1 - 0.9**1000) / np.sqrt(0.049 / (1 - 0.999**1000))
    assert float(late[0][0]) == pytest.approx(-expected, rel=1e-4)


# ------------------------------------------------------------------------------------ clipping


def test_a_long_gradient_is_cut_to_the_limit_and_a_short_one_left_alone(float64):
    tree = [tf.constant(value, tf.float64) for value in draws(0)]
    norm = np.sqrt(sum((leaf.numpy() ** 2).sum() for leaf in tree))
    assert float(pytrees.global_norm(tree)) == pytest.approx(norm, rel=1e-14)
    clipped = pytrees.clip_by_global_norm(tree, norm / 3)
    for leaf, original in zip(clipped, tree):
        np.testing.assert_allclose(leaf, original / 3, rtol=1e-13)
    for limit in (norm * 1.001, None):
        for leaf, original in zip(pytrees.clip_by_global_norm(tree, limit), tree):
            np.testing.assert_array_equal(leaf, original)


def test_the_norm_is_that_of_all_leaves_together():
    clipped = pytrees.clip_by_global_norm([tf.constant([3.0]), tf.constant([4.0])], 1.0)
    np.testing.assert_allclose([leaf.numpy()[0] for leaf in clipped], [0.6, 0.8], rtol=1e-6)


def test_clipping_zero_is_zero_and_can_be_differentiated():
    x = tf.constant([0.0, 0.0])
    with tf.GradientTape() as tape:
        tape.watch(x)
        clipped = pytrees.clip_by_global_norm([x], 0.5)[0]
    assert clipped.numpy().tolist() == [0.0, 0.0]
    np.testing.assert_array_equal(tape.jacobian(clipped, x), np.eye(2))


# ------------------------------------------------------------------------------------ pytrees


def test_all_finite_looks_at_floating_leaves_only():
    fine = {"a": [tf.constant([1.0, 2.0])], "n": tf.constant(3)}
    assert bool(pytrees.all_finite(fine))
    for bad in (np.nan, np.inf, -np.inf):
        assert not bool(pytrees.all_finite({**fine, "b": tf.constant([0.0, bad])}))


def test_where_keeps_nothing_of_the_side_not_taken():
    good, bad = [tf.constant([1.0])], [tf.constant([np.nan])]
    assert pytrees.where(tf.constant(False), bad, good)[0].numpy().tolist() == [1.0]


# ------------------------------------------------------------------------------------ schedules


def rates(schedule, ages) -> list[float]:
    return [float(schedule(tf.constant(age), tf.float64)) for age in ages]


def test_a_number_is_a_constant_rate():
    assert rates(as_schedule(0.1), [0, 1, 10**6]) == [0.1] * 3
    schedule = cosine_rate(0.1, 5)
    assert as_schedule(schedule) is schedule


def test_warm_up_is_linear_and_reaches_the_rate_with_its_last_update():
    assert rates(constant_rate(0.8, warmup=4), [0, 1, 2, 3, 4, 100]) == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 0.8, 0.8]
    )


def test_cosine_at_its_corners():
    schedule = cosine_rate(2.0, decay_steps=10, warmup=2, final_fraction=0.25)
    assert rates(schedule, [0, 1, 2, 6, 10, 11, 10**6]) == pytest.approx(
        [1.0, 2.0, 2.0, 2.0 * (0.25 + 0.75 / 2), 0.5, 0.5, 0.5]
    )
    falling = rates(schedule, range(2, 11))
    assert all(a > b for a, b in zip(falling, falling[1:]))


def test_cosine_without_room_to_decay_is_finite():
    assert rates(cosine_rate(1.0, decay_steps=3, warmup=3), [0, 2, 3, 4]) == pytest.approx(
        [1 / 3, 1.0, 1.0, 0.1]
    )


@pytest.mark.parametrize("name", PAIRS)
def test_a_members_own_rate_is_that_of_an_optimizer_with_this_rate(name, float64):
    """On the same schedule, if there is one."""
    shared, _ = PAIRS[name]
    rate = shared.learning_rate
    rate = 0.03125 if isinstance(rate, float) else dataclasses.replace(rate, learning_rate=0.03125)
    theta, gradient = constants(draws(0)[0]), constants(draws(1)[0])
    own, _ = shared.update(
        theta, shared.init(theta), gradient, tf.constant(2), {"learning_rate": tf.constant(0.03125)}
    )
    expected, _ = dataclasses.replace(shared, learning_rate=rate).update(
        theta, shared.init(theta), gradient, tf.constant(2)
    )
    np.testing.assert_allclose(own[0], expected[0], rtol=1e-14)


def test_who_cannot_have_a_rate_by_member_says_so():
    class Alone:
        def update(self, theta, slots, gradient, age):
            """As before members had settings of their own."""

    class Falling:
        def __call__(self, age, dtype=tf.float32):
            """A schedule that does not say what it is scaled to."""

    check_own_rates(adam(cosine_rate(0.1, 4)))
    for optimizer, message in (
        (Alone(), "the optimizer Alone has one rate for all members: let its update take"),
        (adam(learning_rate=Falling()), "has no learning_rate, which rates of the members' own"),
        (sgd(0.0), "that of sgd is 0.0: make it positive"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            check_own_rates(optimizer)


def test_defaults():
    """Runs whose configuration leaves them out go by them."""
    common = {"learning_rate": 1e-3, "clip_norm": None}
    own = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "epsilon_root": 1e-12}
    assert dataclasses.asdict(sgd()) == common
    assert dataclasses.asdict(momentum()) == common | {"beta": 0.9, "nesterov": False}
    assert dataclasses.asdict(adam()) == common | own | {"weight_decay": 0.0}
    assert dataclasses.asdict(adamw()) == common | own | {"weight_decay": 0.1}


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
