"""What fit is given: every form that means the same gives the same; what cannot be is named."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.optimizers import sgd
from dr_keras.training.curated.elements import SOURCE, as_features, regrouped
from dr_keras.training.curated.model import CuratedModel


def frozen(regression, **settings):
    settings = {"meta_every": None, "batch_size": 4, "discard_fraction": 0.5} | settings
    curated = CuratedModel(*regression.models(rater_weight=1.0), **settings)
    curated.compile(sgd(0.1), "mse", run_eagerly=True)
    return curated


def test_examples_batches_tuples_and_dicts_are_the_same(regression):
    features = regression.train.features
    found = []
    pairs = tf.data.Dataset.from_tensor_slices((features["x"], features["label"]))
    named = tf.data.Dataset.from_tensor_slices(dict(features))
    pairs, named = pairs.take(48), named.take(48)
    for dataset in (pairs.batch(5), named, named.batch(8, drop_remainder=True)):
        curated = frozen(regression)
        curated.fit(dataset, verbose=0)
        assert curated.updates == 6
        found.append(curated.model.get_weights()[0])
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])


def test_sources_are_texts_or_places(regression):
    names = ["bad", "good"]
    features = dict(regression.train.features)
    texts = regression.train.sources.astype(str)
    places = np.array([names.index(text) for text in texts], np.int32)
    histories = []
    for column in (texts, places):
        dataset = tf.data.Dataset.from_tensor_slices({**features, "from": column}).take(24)
        curated = frozen(regression, source="from", sources=names)
        histories.append(curated.fit(dataset, verbose=0).history)
    assert histories[0] == histories[1]
    assert histories[0]["weight/good"][0] > 0.8 > 0.2 > histories[0]["kept/bad"][0]


def test_a_source_that_is_not_known_is_named(regression):
    dataset = tf.data.Dataset.from_tensor_slices({"x": np.zeros((4, 5)), "from": ["a", "b"] * 2})
    model, _ = regression.models()
    numbered = regrouped(dataset, model, 4, "from", ["a", "c"])
    assert numbered.element_spec[SOURCE].shape == (4,)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"lacks a source of.*from.*\[b b\]"):
        list(numbered)


@pytest.mark.parametrize(
    ("features", "said"),
    [
        ({"x": tf.zeros([8, 5]), "id": tf.constant(["a"] * 8)}, "'id' holds texts"),
        ({"x": tf.zeros([8, 5]), "y": tf.ragged.constant([[1]] * 8)}, "tensors of one shape"),
        ({"z": tf.zeros([8, 5])}, "reads \\['x'\\]"),
        ((tf.zeros([8, 5]), tf.zeros(8), tf.zeros(8)), "tuples of 3"),
        (((tf.zeros([8, 5]), tf.zeros(8)), tf.zeros(8)), "have no names"),
    ],
    ids=["texts", "ragged", "names", "weights", "unnamed"],
)
def test_elements_that_cannot_be_trained_on_are_named(regression, features, said):
    with pytest.raises(ConfigurationError, match=said):
        frozen(regression).fit(tf.data.Dataset.from_tensor_slices(features), verbose=0)


def test_a_dataset_without_a_batch_is_named(regression):
    dataset = tf.data.Dataset.from_tensor_slices((np.zeros((7, 5)), np.zeros(7)))
    with pytest.raises(DataError, match="not one batch"):
        frozen(regression).fit(dataset, verbose=0)


def test_a_later_set_may_have_fewer_sources_and_no_others(regression):
    curated = frozen(regression)
    first = curated.fit(regression.train, steps_per_epoch=2, verbose=0).history
    sources = np.where(np.arange(len(regression.train)) % 2, "good", "other").astype(object)
    other = dataclasses.replace(regression.train, sources=sources)
    with pytest.raises(ConfigurationError, match="'other' is none of those.*bad, good"):
        curated.fit(other, steps_per_epoch=2, verbose=0)
    good = regression.train.take(regression.train.sources == "good")
    later = curated.fit(good, steps_per_epoch=2, verbose=0).history
    assert set(later) == set(first)


def test_inputs_of_one_name_take_it(regression):
    model, _ = regression.models()
    assert as_features((1, 2), model) == {"x": 1, "label": 2}
    assert as_features({"x": 1}, model) == {"x": 1}


def test_held_out_sets_that_cannot_be(regression):
    def made(held_out, **settings):
        return CuratedModel(*regression.models(), held_out, **settings)

    pairs = tf.data.Dataset.from_tensor_slices(
        (regression.held_out["x"], regression.held_out["label"])
    )
    with pytest.raises(ConfigurationError, match="without an end"):
        made(pairs.repeat())
    with pytest.raises(DataError, match="is empty"):
        made(pairs.take(0))
    with pytest.raises(ConfigurationError, match="has 16 examples, and outer_batch_size is 32"):
        made(pairs.batch(5))
    with pytest.raises(ConfigurationError, match="held_out is missing"):
        made(None)
    with pytest.raises(ConfigurationError, match="is list: give"):
        made([1, 2])
    curated = made({"one": pairs, "two": regression.held_out}, outer_batch_size=8)
    one, two = (curated._held_out.of[name].features for name in ("one", "two"))
    np.testing.assert_array_equal(one["x"], two["x"])
    np.testing.assert_array_equal(one["label"], two["label"])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"meta_every": 1}, "unroll_length is 2, more than the 1 updates"),
        ({"meta_every": 0}, "meta_every is 0"),
        ({"meta_batch_size": 65}, "more than the 64 examples"),
        ({"weights": "softest"}, "must be one of equal, soft"),
        ({"keep": "worst"}, "must be one of best, sampled"),
        ({"source": "from"}, "sources is empty"),
    ],
    ids=["unroll", "every", "rows", "weights", "keep", "sources"],
)
def test_settings_out_of_range_are_named(regression, settings, said):
    with pytest.raises(ConfigurationError, match=said):
        CuratedModel(*regression.models(), regression.held_out, outer_batch_size=16, **settings)


def test_compiled_again_it_begins_anew(regression):
    curated = frozen(regression)
    curated.fit(regression.train, steps_per_epoch=1, verbose=0)
    held = [weight.path for weight in curated.weights]
    assert curated.updates == 1
    curated.compile(sgd(0.1), "mse", run_eagerly=True)
    assert curated.updates == 0 and curated.meta_steps == 0
    assert [weight.path for weight in curated.weights] == held


def test_what_means_nothing_here_is_refused(regression):
    curated = frozen(regression)
    with pytest.raises(ConfigurationError, match="does not take metrics"):
        curated.compile(sgd(0.1), "mse", metrics=["mae"])
    with pytest.raises(ConfigurationError, match="no loss 'mean'"):
        curated.compile(sgd(0.1), "mean")
    with pytest.raises(ConfigurationError, match="takes a tf.data.Dataset or an ExampleSet"):
        curated.fit(np.zeros((4, 5)), np.zeros(4))
    with pytest.raises(ConfigurationError, match="not saved as a whole"):
        curated.get_config()
    with pytest.raises(ConfigurationError, match="call compile"):
        CuratedModel(*regression.models(), meta_every=None).fit(regression.train)


def test_several_replicas_are_refused_by_name(regression, monkeypatch):
    class Two:
        num_replicas_in_sync = 2

    monkeypatch.setattr(tf.distribute, "get_strategy", Two)
    with pytest.raises(ConfigurationError, match="the strategy has 2 replicas"):
        CuratedModel(*regression.models(), meta_every=None)


def test_a_loss_of_keras_is_averaged_over_all_but_examples(regression):
    from dr_keras.training.curated.keras_losses import per_example

    loss = per_example(keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    logits, labels = tf.zeros([2, 3, 4]), tf.zeros([2, 3], tf.int32)
    np.testing.assert_allclose(loss(logits, {"label": labels}), np.log([4.0, 4.0]), rtol=1e-6)
    with pytest.raises(ConfigurationError, match="the feature 'label'"):
        loss(logits, {"x": labels})
