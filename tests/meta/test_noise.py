"""Signal-to-noise ratios of meta-gradients against draws whose signal and noise are known."""

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.meta import noise
from dr_keras.meta.optimizers import OuterAdam

SHAPES = [(40, 25), (500,), (1, 500)]
SIZE = 2000
TRIALS = 20


def draws(rng, ratio: float, count: int) -> list[np.ndarray]:
    """Leaves [count, ...] of vectors with that |mean|^2 / trace(cov), coordinates of all scales."""
    scale = np.exp(rng.normal(size=SIZE))
    signal = rng.normal(size=SIZE)
    signal *= np.sqrt(ratio * np.sum(scale**2)) / np.linalg.norm(signal)
    vectors = signal + scale * rng.normal(size=(count, SIZE))
    cuts = np.cumsum([np.prod(shape) for shape in SHAPES])[:-1]
    return [part.reshape(count, *shape) for part, shape in zip(np.split(vectors, cuts, 1), SHAPES)]


def of_members(leaves: list[np.ndarray]) -> float:
    """`across_members` of two sums that are added up, as replicas do."""
    count = len(leaves[0])
    total, squares = [0.0] * len(leaves), 0.0
    for rows in np.array_split(np.arange(count), 2):
        total = [a + tf.constant(b[rows].sum(axis=0)) for a, b in zip(total, leaves)]
        squares += sum(noise.squared_norm([tf.constant(b[row]) for b in leaves]) for row in rows)
    return float(noise.across_members(total, squares, tf.constant(count)))


@pytest.mark.parametrize("count", [2, 8])
@pytest.mark.parametrize("ratio", [0.0, 0.05, 1.0, 30.0])
def test_across_members_finds_the_ratio_of_known_signal_and_noise(ratio, count):
    rng = np.random.default_rng(count)
    found = [of_members(draws(rng, ratio, count)) for _ in range(TRIALS)]
    # Without the correction, noise alone would give 1 / count.
    assert np.mean(found) == pytest.approx(ratio, rel=0.05, abs=0.02)
    if ratio == 0.0:
        assert min(found) < 0 < max(found)  # not clipped


def of_steps(leaves: list[np.ndarray], counts, adam: OuterAdam) -> list[float]:
    """`over_steps` after some of the updates by these gradients."""
    slots = adam.init([tf.constant(leaf[0]) for leaf in leaves])
    found = []
    for step in range(max(counts)):
        gradient = [tf.constant(leaf[step]) for leaf in leaves]
        _, slots = adam.member_update(gradient, slots, tf.constant(step))
        if step + 1 in counts:
            found.append(
                float(noise.over_steps(slots, tf.constant(step + 1), adam.beta_1, adam.beta_2))
            )
    return found


@pytest.mark.parametrize("ratio", [0.0, 0.05, 1.0])
def test_over_steps_finds_the_ratio_at_any_count(ratio):
    """At 2 updates noise alone makes half of |m|^2, at 60 a nineteenth."""
    rng = np.random.default_rng(0)
    counts = (2, 5, 60)
    adam = OuterAdam(clip_norm=None)
    found = [of_steps(draws(rng, ratio, max(counts)), counts, adam) for _ in range(TRIALS)]
    np.testing.assert_allclose(np.mean(found, axis=0), ratio, rtol=0.1, atol=0.02)


def test_gradients_that_never_change_have_no_noise_to_speak_of():
    leaves = [np.repeat(leaf, 5, axis=0) for leaf in draws(np.random.default_rng(0), 1.0, 1)]
    single = [leaf.astype(np.float32) for leaf in leaves]
    assert 1e4 < of_members(single) <= 1.01e6
    assert 1e4 < of_steps(single, (5,), OuterAdam(clip_norm=0.01))[0] <= 1.01e6


def test_what_cannot_be_known_is_not_a_number():
    one = draws(np.random.default_rng(0), 1.0, 1)
    assert np.isnan(of_members(one))
    assert np.isnan(of_steps(one, (1,), OuterAdam())[0])
    zero = [np.zeros_like(np.repeat(leaf, 3, axis=0)) for leaf in one]
    assert np.isnan(of_members(zero))
    assert np.isnan(of_steps(zero, (3,), OuterAdam())[0])
    # No member contributed yet.
    nothing = [tf.zeros(shape) for shape in SHAPES]
    assert np.isnan(noise.across_members(nothing, tf.constant(0.0), tf.constant(0)))
    assert np.isnan(noise.over_steps(OuterAdam().init(nothing), tf.constant(0), 0.9, 0.999))


def test_the_norm_of_an_update_is_of_what_moved_the_rater():
    adam = OuterAdam(learning_rate=0.1, warmup=2, weight_decay=0.5)
    eta, direction = [tf.constant([3.0, 4.0])], [tf.constant([1.0, 0.0])]
    moved = adam.apply(eta, direction, tf.constant(0))
    # Half the rate in warm-up: 0.05 * ((1, 0) + 0.5 * (3, 4)).
    assert float(noise.update_norm(moved, eta)) == pytest.approx(0.05 * np.hypot(2.5, 2.0))
