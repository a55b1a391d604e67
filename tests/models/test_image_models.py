"""Image models: what they take, what they give, and that they can be saved."""

import keras
import numpy as np
import pytest

from dr_keras.meta.seeds import seeded
from dr_keras.models.image_models import UnitPixels, image_classifier, image_rater

SHAPE = (8, 6, 3)


def pixels(count=4, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, *SHAPE), np.uint8)


def test_whole_numbers_and_floats_are_the_same_pixels():
    layer = UnitPixels()
    image = pixels()
    whole, floats = np.array(layer(image)), np.array(layer((image / 255).astype(np.float32)))
    assert whole.dtype == np.float32 and whole.max() <= 1
    assert np.allclose(whole, floats, atol=1e-7) and np.allclose(whole * 255, image, atol=1e-4)


def test_a_classifier_of_either_type_has_the_same_function():
    with seeded(1):
        whole = image_classifier(SHAPE, 5, channels=(4, 6), dense=7, dropout=0.2)
    floats = image_classifier(SHAPE, 5, channels=(4, 6), dense=7, image_dtype="float32")
    floats.set_weights(whole.get_weights()[: len(floats.get_weights())])
    image = pixels()
    logits = np.array(whole({"image": image}))
    assert logits.shape == (4, 5) and np.ptp(logits) > 0
    assert np.allclose(logits, floats({"image": (image / 255).astype(np.float32)}), atol=1e-5)
    assert whole.layers[2].output.shape[1:3] == (4, 3)  # a stride of 2


def test_a_rater_begins_with_equal_scores_and_may_read_the_label():
    alone, with_label = image_rater(SHAPE), image_rater(SHAPE, classes=5)
    batch = {"image": pixels(), "label": np.array([0, 1, 2, 4], np.int32)}
    assert np.array_equal(alone({"image": batch["image"]}), np.zeros(4))
    assert np.array_equal(with_label(batch), np.zeros(4))
    score = with_label.get_layer("score")
    score.kernel.assign(np.random.default_rng(0).normal(size=score.kernel.shape))
    scores = np.array(with_label(batch))
    other = np.array(with_label({**batch, "label": np.array([0, 1, 2, 3], np.int32)}))
    assert scores.shape == (4,) and (scores[:3] == other[:3]).all() and scores[3] != other[3]


def test_a_rater_may_read_losses_of_the_inner_model():
    rater = image_rater(SHAPE, features=("inner_loss", "reference_loss"))
    assert set(rater.input) == {"image", "inner_loss", "reference_loss"}
    losses = {"inner_loss": np.arange(4.0), "reference_loss": np.ones(4)}
    assert not np.array(rater({"image": pixels(), **losses})).any()
    score = rater.get_layer("score")
    score.kernel.assign(np.random.default_rng(0).normal(size=score.kernel.shape))
    scores = np.array(rater({"image": pixels()[[0, 0, 0, 0]], **losses}))
    assert len(set(scores.tolist())) == 4


@pytest.mark.parametrize("build", [image_classifier, image_rater])
def test_saved_and_loaded(build, tmp_path):
    model = build(SHAPE, 3)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    batch = {"image": pixels(), "label": np.zeros(4, np.int32)}
    batch = {tensor.name: batch[tensor.name] for tensor in model.inputs}
    assert np.array_equal(model(batch), loaded(batch))


def test_float64(float64):
    assert np.array(image_classifier(SHAPE, 3)({"image": pixels()})).dtype == np.float64
