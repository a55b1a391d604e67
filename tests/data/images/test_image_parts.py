"""The four parts of a set of images."""

import numpy as np
import pytest

from dr_keras.data.images.parts import (
    at_levels,
    image_data,
    label_noise,
    pixel_noise,
    replace_pixels,
)
from dr_keras.data.images.sources import Images, table
from dr_keras.errors import ConfigurationError, DataError


def toy(train=600, test=100, classes=5, seed=0):
    rng = np.random.default_rng(seed)
    parts = [
        table(rng.integers(0, 256, (n, 6, 6, 1), np.uint8), rng.integers(0, classes, n), "", name)
        for name, n in (("train", train), ("test", test))
    ]
    return Images("toy", *parts)


def test_only_train_is_corrupted_and_what_happened_is_known():
    images = toy()
    originals = dict(zip(images.train.ids, zip(images.train.images, images.train.labels)))
    parts = image_data(images, 5, [pixel_noise(0.5), label_noise(0.3)], outer=0.2, validation=0.1)
    assert len(parts.train) + len(parts.outer) + len(parts.validation) == 600
    assert 80 < len(parts.outer) < 160 and 30 < len(parts.validation) < 90
    known = parts.train.labels
    for row, identity in enumerate(parts.train.ids):
        image, label = originals[identity]
        share = (parts.train.features["image"][row] != image).any(-1).mean()
        pixels = known["level"][row] if not known["mislabelled"][row] else None
        if pixels is not None:
            assert share <= pixels + 1e-6 and (share > 0) == known["corrupted"][row]
        assert known["true_label"][row] == label
        assert known["mislabelled"][row] == (parts.train.features["label"][row] != label)
        kinds = {"pixel_noise": known["corrupted"][row], "label_noise": known["mislabelled"][row]}
        expected = "+".join(name for name, hit in kinds.items() if hit) or "clean"
        assert known["damage"][row] == expected
    assert (known["level"][known["mislabelled"]] == 1).all()
    assert 0.4 < known["corrupted"].mean() < 0.6 and 0.2 < known["mislabelled"].mean() < 0.4
    for part in (parts.outer, parts.validation):
        for row, identity in enumerate(part.ids):
            assert (part.features["image"][row] == originals[identity][0]).all()
    assert np.array_equal(parts.test.features["image"], images.test.images)


def test_the_split_and_the_corruption_do_not_depend_on_each_other():
    few, many = (image_data(toy(), 5, [pixel_noise(0.5)], outer=share) for share in (0.05, 0.3))
    clean = image_data(toy(), 5, outer=0.05)
    assert set(few.outer.ids) <= set(many.outer.ids)
    assert np.array_equal(few.train.ids, clean.train.ids)
    shared = {i: few.train.features["image"][row] for row, i in enumerate(few.train.ids)}
    for row, identity in enumerate(many.train.ids):
        assert (many.train.features["image"][row] == shared[identity]).all()


def test_train_images_that_are_test_images_are_left_out():
    images = toy()
    images.train.images[5] = images.test.images[9]
    parts = image_data(images, 5)
    everywhere = {i for part in (parts.train, parts.outer, parts.validation) for i in part.ids}
    assert "train-5" not in everywhere and len(everywhere) == 599


def test_a_limit_and_a_seed():
    parts = image_data(toy(), 5, [pixel_noise(0.5)], max_images=300)
    assert sum(len(part) for _, part in parts.items()) == 400
    other = image_data(toy(), 5, [pixel_noise(0.5)], max_images=300, seed=1)
    assert (parts.train.labels["level"] != other.train.labels["level"]).any()


def test_labels_out_of_range_name_the_image():
    images = toy()
    images.train.labels[17] = 5
    with pytest.raises(
        DataError, match="images of toy: 1 of 600 labels are not in 0 to 4, first 5 of 'train-17'"
    ):
        image_data(images, 5)


def test_repeated_ids_are_refused():
    images = toy()
    images.test.ids[3] = "test-0"
    with pytest.raises(DataError, match="The id 'test-0' of the test images of toy repeats: row"):
        image_data(images, 5)


def test_parts_of_different_shapes_are_refused():
    images = toy()
    small = Images("toy", images.train, images.test._replace(images=images.test.images[:, :4]))
    message = r"of 'test' are .*'uint8', \(4, 6, 1\)\).*, those of 'toy' .*'uint8', \(6, 6, 1\)\)"
    with pytest.raises(DataError, match=message):
        image_data(small, 5)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"images": 7}, "image_data.images is 7: give it the path of an .npz"),
        ({"outer": 0.6, "validation": 0.4}, "at least 0 and together below 1"),
        ({"corruptions": ["pixel_noise"]}, "image_data.corruptions has 'pixel_noise': use @pixel"),
    ],
)
def test_bad_settings(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        image_data(**{"images": toy(), "classes": 5, **arguments})


def test_an_empty_part_is_named():
    with pytest.raises(DataError, match="gives the part 'outer' no images: raise image_data.outer"):
        image_data(toy(), 5, outer=0.0)


def test_known_levels_are_spread_evenly():
    parts = image_data(toy(test=1000), 5)
    probe = at_levels(parts.test, [0.0, 0.5, 1.0], size=300, seed=2)
    assert np.bincount((probe.labels["asked"] * 2).astype(int)).tolist() == [100, 100, 100]
    assert (probe.labels["level"][probe.labels["asked"] == 0] == 0).all()
    assert (probe.labels["level"][probe.labels["asked"] == 1] == 1).all()
    half = probe.labels["level"][probe.labels["asked"] == 0.5]
    assert 0.45 < half.mean() < 0.55
    again = at_levels(parts.test, [0.0, 0.5, 1.0], size=300, seed=2)
    assert (again.features["image"] == probe.features["image"]).all()
    with pytest.raises(ConfigurationError, match="give fractions from 0 to 1"):
        at_levels(parts.test, [0.5, 1.2])


def generator():
    return np.random.default_rng(3)


def equal_images(count=400, channels=1, dtype=np.uint8):
    return np.full((count, 10, 12, channels), 7 if dtype == np.uint8 else 0.5, dtype)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_level_is_the_share_of_pixels_replaced(dtype, channels):
    before = equal_images(5000, channels, dtype)  # more than are drawn at once
    asked = np.linspace(0, 1, 5000)
    after, level = replace_pixels(before, asked, generator())
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
    after, _ = replace_pixels(equal_images(200), np.ones(200), generator())
    assert np.bincount(after.ravel(), minlength=256).min() > 40
    assert abs(after.mean() - 127.5) < 2


def test_pixel_noise_hits_half_and_replaces_between_a_tenth_and_nine():
    labels = np.zeros(4000, np.int32)
    found = pixel_noise()(equal_images(4000), labels, 10, generator())
    assert abs(found.touched.mean() - 0.5) < 0.03
    assert ((found.level > 0) == found.touched).all()
    level = found.level[found.touched]
    assert level.min() > 0.02 and level.max() < 0.98 and abs(level.mean() - 0.5) < 0.02
    quarters = np.histogram(level, [0.1, 0.3, 0.5, 0.7, 0.9])[0]
    assert quarters.min() > 0.8 * quarters.max()
    assert found.labels is labels


def test_the_same_generator_gives_the_same_corruption():
    one, two = (
        pixel_noise(0.3)(equal_images(), np.zeros(400, int), 10, generator()) for _ in range(2)
    )
    assert (one.images == two.images).all() and (one.level == two.level).all()


@pytest.mark.parametrize("classes", [2, 10])
def test_label_noise_gives_another_label_each_alike(classes):
    labels = np.arange(6000, dtype=np.int32) % classes
    found = label_noise(0.4)(equal_images(6000), labels, classes, generator())
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
