"""Raters of named features and of images as artefacts: signatures, types, sizes, filters."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import dr_keras
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.scoring import Scorer
from dr_keras.models.image_models import image_rater
from dr_keras.rating.fractions import keep_probability
from dr_keras.serving.export import export_examples, export_images
from dr_keras.serving.frozen import freeze

SHAPE = (8, 6, 1)


def example_set(features):
    names = np.array([f"e{row}" for row in range(len(next(iter(features.values()))))], object)
    return ExampleSet(features, names, names, names)


def images(count=60, dtype=np.uint8):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (count, *SHAPE), np.uint8)
    if dtype != np.uint8:
        image = (image / 255).astype(dtype)
    return example_set({"image": image, "label": rng.integers(0, 4, count).astype(np.int32)})


@pytest.fixture(scope="module", params=["image alone", "image and label", "float images"])
def exported(request, tmp_path_factory):
    """(loaded rater, examples, their scores by the live rater)."""
    dtype = np.float32 if request.param == "float images" else np.uint8
    classes = 4 if request.param == "image and label" else None
    rater = image_rater(SHAPE, classes, channels=(3, 4), dense=5, image_dtype=np.dtype(dtype).name)
    score = rater.get_layer("score")
    score.kernel.assign(np.random.default_rng(1).normal(size=score.kernel.shape))
    examples = images(dtype=dtype)
    scores = Scorer(rater)(examples)
    assert np.ptp(scores) > 0.01
    folder = str(tmp_path_factory.mktemp("export"))
    export_images(rater, examples, scores, folder, {"meta_step": 3})
    return dr_keras.load_rater(folder), examples, scores


def both_types(examples):
    image = examples.features["image"]
    whole = image if image.dtype == np.uint8 else np.round(image * 255).astype(np.uint8)
    return whole, (whole / 255).astype(np.float32)


def test_either_type_any_batch_size_gives_the_live_score(exported):
    rater, examples, scores = exported
    for image in both_types(examples):
        for count in (0, 1, 7, 60):
            found = rater({"image": image[:count], "label": examples.features["label"][:count]})
            assert found["score"].shape == (count,) and found["score"].dtype == np.float32
            assert np.allclose(found["score"], scores[:count], atol=1e-5)
            assert np.allclose(found["percentile"], rater.reference.percentile(scores[:count]),
                               atol=2e-3)  # fmt: skip


def test_signatures_by_name(exported):
    rater, examples, scores = exported
    label = {}
    if "label" in rater.inputs:
        label = {"label": tf.constant(examples.features["label"][:5])}
    whole, floats = both_types(examples)
    for name, image in (("serving_default", whole), ("serve_float_images", floats)):
        found = rater.signatures[name](image=tf.constant(image[:5]), **label)
        assert np.allclose(found["score"], scores[:5], atol=1e-5)
    found = rater.signatures["keep_probability"](
        image=tf.constant(whole[:5]),
        **label,
        discard_fraction=tf.constant(0.5, tf.float64),
        batch_size=tf.constant(4),
    )
    expected = keep_probability(found["percentile"], 4, 8)
    assert np.allclose(found["keep_probability"], expected, atol=1e-6)


def test_serialised_examples_hold_encoded_images(exported):
    rater, examples, scores = exported
    whole, _ = both_types(examples)
    rows = []
    for row in range(3):
        example = tf.train.Example()
        example.features.feature["image"].bytes_list.value.append(
            tf.io.encode_png(whole[row]).numpy()
        )
        example.features.feature["label"].int64_list.value.append(
            int(examples.features["label"][row])
        )
        rows.append(example.SerializeToString())
    found = rater.signatures["serve_tf_examples"](examples=tf.constant(rows))
    assert np.allclose(found["score"], scores[:3], atol=1e-5)


def test_one_image_gives_scalars_and_tensors_give_tensors(exported):
    rater, examples, scores = exported
    one = rater(examples.row(4))
    assert np.ndim(one["score"]) == 0 and abs(one["score"] - scores[4]) < 1e-5
    batch = {name: tf.constant(value[:3]) for name, value in examples.features.items()}
    assert tf.is_tensor(rater(batch)["score"])
    if list(rater.inputs) == ["image"]:
        assert np.allclose(rater(examples.features["image"][:3])["score"], scores[:3], atol=1e-5)


def test_datasets_and_the_filters_of_pipelines(exported):
    rater, examples, scores = exported
    dataset = tf.data.Dataset.from_tensor_slices({**examples.features, "row": np.arange(60)})
    for made in (dataset, dataset.batch(7)):
        scored = rater(made)
        found = np.concatenate([np.atleast_1d(x["score"]) for x in scored.as_numpy_iterator()])
        assert np.allclose(found, scores, atol=1e-5)
    kept = dataset.apply(dr_keras.top_k(rater, discard_fraction=0.5, batch_size=10))
    for number, batch in enumerate(kept.as_numpy_iterator()):
        of_batch = np.arange(20 * number, 20 * number + 20)
        best = of_batch[np.argsort(-scores[of_batch], kind="stable")[:10]]
        assert sorted(batch["row"]) == sorted(best)
    assert number == 2


def test_the_percentile_filter_of_pipelines(exported):
    rater, examples, scores = exported
    dataset = tf.data.Dataset.from_tensor_slices({**examples.features, "row": np.arange(60)})
    drop = dr_keras.filter_by_percentile(
        rater, discard_fraction=0.5, batch_size=8, ids="row", emit_scores=True, emit_dropped=True
    )
    found = list(dataset.apply(drop).as_numpy_iterator())
    assert [int(element["row"]) for element, _ in found] == list(range(60))
    percentiles = rater.reference.percentile(scores)
    chances = keep_probability(percentiles, 8, 16).numpy()
    for number, (_, facts) in enumerate(found):
        assert abs(facts["score"] - scores[number]) < 1e-5
        assert abs(facts["keep_probability"] - chances[number]) < 0.05
    kept = np.array([facts["kept"] for _, facts in found])
    assert kept[chances > 0.999].all() and not kept[chances < 0.001].any()
    assert 15 < kept.sum() < 45


def test_what_is_no_image_is_refused(exported):
    rater, examples, _ = exported
    whole, _ = both_types(examples)
    label = examples.features["label"]
    with pytest.raises(DataError, match="floats from 0 to 255; floats must be in 0 to 1. Divide"):
        rater({"image": whole.astype(np.float32), "label": label})
    with pytest.raises(DataError, match="The images are int64; give uint8 in 0 to 255 or floats"):
        rater({"image": whole.astype(np.int64), "label": label})
    with pytest.raises(DataError, match=r"'image' has shape \(60, 5, 6, 1\): this rater takes"):
        rater({"image": whole[:, :5], "label": label})
    with pytest.raises(DataError, match=r"This rater reads \['image'.*; the dict given has \['pix"):
        rater({"pixels": whole})


def test_facts_for_servers(exported):
    rater, _, _ = exported
    assert rater.metadata["kind"] == "images" and rater.metadata["training"] == {"meta_step": 3}
    assert rater.metadata["inputs"]["image"] == {"dtype": "uint8", "shape": list(SHAPE)}
    assert rater.metadata["requires"] == []


def table(count=50):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, 3)).astype(np.float32)
    return example_set({"x": x, "n": rng.integers(0, 9, count), "spare": x[:, 0]})


def table_rater():
    x, n = keras.Input((3,), name="x"), keras.Input((), name="n", dtype="int64")
    n_ = keras.ops.expand_dims(keras.ops.cast(n, "float32"), -1)
    return keras.Model({"x": x, "n": n}, keras.layers.Dense(1)(keras.ops.concatenate([x, n_], 1)))


def test_a_rater_of_a_table(tmp_path):
    model, examples = table_rater(), table()
    scores = Scorer(model)(examples)
    export_examples(model, examples, scores, str(tmp_path), {})
    rater = dr_keras.load_rater(tmp_path)
    assert rater.inputs == {
        "x": {"dtype": "float32", "shape": [3]}, "n": {"dtype": "int64", "shape": []},
    }  # fmt: skip
    assert np.allclose(rater(dict(examples.features))["score"], scores, atol=1e-5)
    lists = {"x": examples.features["x"][:2].tolist(), "n": examples.features["n"][:2].tolist()}
    assert np.allclose(rater(lists)["score"], scores[:2], atol=1e-5)
    assert rater.keep_probability(lists, 0.0, 8)["keep_probability"].tolist() == [1.0, 1.0]
    batch = {name: tf.constant(examples.features[name]) for name in rater.inputs}
    frozen = freeze(rater, tf.nest.map_structure(tf.type_spec_from_value, batch))
    assert np.allclose(frozen(batch)["score"], scores, atol=1e-5)
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.extend(examples.features["x"][3].tolist())
    example.features.feature["n"].int64_list.value.append(int(examples.features["n"][3]))
    found = rater.signatures["serve_tf_examples"](
        examples=tf.constant([example.SerializeToString()])
    )
    assert np.allclose(found["score"], scores[3:4], atol=1e-5)


def test_inputs_that_a_table_rater_refuses(tmp_path):
    model, examples = table_rater(), table()
    export_examples(model, examples, Scorer(model)(examples), str(tmp_path), {})
    rater = dr_keras.load_rater(tmp_path)
    x, n = examples.features["x"], examples.features["n"]
    with pytest.raises(DataError, match=r"reads \['n', 'x'\]: give it a dict of these, not nd"):
        rater(x)
    with pytest.raises(DataError, match="The feature 'n' must be numbers, not <U1"):
        rater({"x": x[:1], "n": np.array(["a"])})
    with pytest.raises(DataError, match="Some features are of one example and some of many"):
        rater({"x": x[0], "n": n})


def test_exporters_check_what_they_are_given(tmp_path):
    with pytest.raises(ConfigurationError, match="a rater of images reads 'image'.*@export_exam"):
        export_images(table_rater(), table(), np.arange(50.0), str(tmp_path), {})
    x = keras.Input((3,), name="other")
    model = keras.Model({"other": x}, keras.layers.Dense(1)(x), name="lost")
    with pytest.raises(ConfigurationError, match=r"'lost' reads 'other', and the examples have"):
        export_examples(model, table(), np.arange(50.0), str(tmp_path), {})
