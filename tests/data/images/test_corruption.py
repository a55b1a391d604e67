"""Corruption of images at known levels."""

import numpy as np
import pytest

from dr_keras.data.images.corruption import label_noise, pixel_noise, replace_pixels
from dr_keras.errors import ConfigurationError


def rng():
    return np.random.default_rng(3)


def images(count=400, channels=1, dtype=np.uint8):
    return np.full((count, 10, 12, channels), 7 if dtype == np.uint8 else 0.5, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_level_is_the_share_of_pixels_replaced(dtype, channels):
    before = images(5000, channels, dtype)  # more than are drawn at once
    asked = np.linspace(0, 1, 5000)
    after, level = replace_pixels(before, asked, rng())
    assert after.dtype == dtype and (before == before[0, 0, 0, 0]).all()
    changed = (after != before).any(axis=-1).mean(axis=(1, 2))
    # Noise equals what it replaces now and then: one grey value in 256.
    assert np.abs(changed - level).max() < 0.05 and (changed <= level + 1e-6).all()
    assert np.abs(level - asked).max() < 0.25 and abs((level - asked).mean()) < 0.005
    assert level[0] == 0 and level[-1] == 1
    assert (after[0] == before[0]).all()
    if dtype == np.float32:
        assert after.min() >= 0 and after.max() <= 1


def test_noise_is_uniform():
    after, _ = replace_pixels(images(200), np.ones(200), rng())
    assert np.bincount(after.ravel(), minlength=256).min() > 40
    assert abs(after.mean() - 127.5) < 2


def test_pixel_noise_hits_half_and_replaces_between_a_tenth_and_nine():
    labels = np.zeros(4000, np.int32)
    found = pixel_noise()(images(4000), labels, 10, rng())
    assert abs(found.touched.mean() - 0.5) < 0.03
    assert ((found.level > 0) == found.touched).all()
    level = found.level[found.touched]
    assert level.min() > 0.02 and level.max() < 0.98 and abs(level.mean() - 0.5) < 0.02
    quarters = np.histogram(level, [0.1, 0.3, 0.5, 0.7, 0.9])[0]
    assert quarters.min() > 0.8 * quarters.max()
    assert found.labels is labels


def test_the_same_generator_gives_the_same_corruption():
    one, two = (pixel_noise(0.3)(images(), np.zeros(400, int), 10, rng()) for _ in range(2))
    assert (one.images == two.images).all() and (one.level == two.level).all()


@pytest.mark.parametrize("classes", [2, 10])
def test_label_noise_gives_another_label_each_alike(classes):
    labels = np.arange(6000, dtype=np.int32) % classes
    found = label_noise(0.4)(images(6000), labels, classes, rng())
    wrong = found.labels != labels
    assert (wrong == found.touched).all() and abs(wrong.mean() - 0.4) < 0.03
    shifts = np.bincount((found.labels - labels)[wrong] % classes, minlength=classes)[1:]
    assert shifts.min() > 0.7 * shifts.max()
    assert found.labels.dtype == np.int32 and (found.level == 0).all()


def test_bad_settings_are_refused():
    with pytest.raises(ConfigurationError, match="pixel_noise.probability is 1.5"):
        pixel_noise(1.5)
    with pytest.raises(ConfigurationError, match="label_noise.probability is -0.1"):
        label_noise(-0.1)
    with pytest.raises(ConfigurationError, match="0 < lowest <= highest <= 1, not lowest 0.9"):
        pixel_noise(lowest=0.9, highest=0.1)
