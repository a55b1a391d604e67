"""What a pipeline hands a rater: refused from shapes and dtypes, before any data is read."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.models.text_models import text_rater
from dr_keras.pipelines.transformations import filter_by_percentile, reweight, top_k
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.loading import load_rater

REFERENCE = ReferenceDistribution.from_scores(np.arange(40.0))
APPLY = {
    "top_k": lambda rater, **more: top_k(rater, 0.5, 4, **more),
    "filter_by_percentile": lambda rater, **more: filter_by_percentile(
        rater, 0.5, 4, reference=REFERENCE, **more
    ),
    "reweight": lambda rater, **more: reweight(rater, 4, **more),
}
slices = tf.data.Dataset.from_tensor_slices


@pytest.fixture(scope="module")
def raters():
    """Raters of windows of tokens, by name, and how many tokens they read."""
    shape = dict(vocabulary_size=258, sequence_length=16, width=8, layer_count=1)
    loaded = load_rater("damaged_prose")
    return {
        "rotary": (text_rater(**shape), 16),
        "learned": (text_rater(**shape, positions="learned"), 16),
        "exported": (loaded, loaded.sequence_length),
    }


@pytest.mark.parametrize("transformation", APPLY)
@pytest.mark.parametrize("dtype", ["float32", "float64", "bool", "bfloat16"])
@pytest.mark.parametrize("kind", ["rotary", "exported"])
def test_floats_are_no_tokens(kind, dtype, transformation, raters):
    rater, _ = raters[kind]
    rows = slices(tf.cast(np.ones((40, 16)), dtype))
    for elements in (rows, rows.batch(3), rows.batch(8, drop_remainder=True)):
        with pytest.raises(ConfigurationError) as caught:
            elements.apply(APPLY[transformation](rater))
        assert str(caught.value).startswith(
            f"The rater reads 'tokens' as int32, and is given {dtype} of shape"
        )


def test_whole_numbers_of_any_kind_are_tokens(raters):
    expected = None
    for dtype in ("int64", "uint8"):
        numbers = np.random.default_rng(0).integers(2, 200, (12, 16)).astype(dtype)
        scored = slices(numbers).apply(top_k(raters["exported"][0], 0.5, 4, emit_scores=True))
        scores = [score.tolist() for _, score in scored.as_numpy_iterator()]
        expected = expected or scores
        assert scores == expected


@pytest.mark.parametrize("kind", ["rotary", "learned", "exported"])
def test_windows_wider_than_the_raters_are_refused_with_both_widths(kind, raters):
    rater, longest = raters[kind]
    rows = slices({"tokens": np.ones((8, longest + 5), np.int32)})
    message = f"windows of at most {longest}, and is given windows of {longest + 5}: cut them to"
    for elements in (rows, rows.batch(2)):
        with pytest.raises(ConfigurationError, match=message):
            elements.apply(top_k(rater, 0.5, 4))
    narrow = slices(np.ones((8, longest - 5), np.int32)).apply(top_k(rater, 0.5, 4))
    assert next(iter(narrow)).shape == (4, longest - 5)


@pytest.mark.parametrize("kind", ["rotary", "exported"])
def test_widths_that_only_the_data_know_are_checked_with_it(kind, raters):
    rater, longest = raters[kind]

    def padded(width):
        rows = tf.data.Dataset.range(8).map(lambda n: tf.ones([width + 0 * n], tf.int32))
        return rows.padded_batch(8).apply(top_k(rater, 0.5, 4))

    fitting = padded(longest)
    assert fitting.element_spec.shape == (4, None)
    assert next(iter(fitting)).shape == (4, longest)
    message = f"at most {longest}, and is given wider ones"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        next(iter(padded(longest + 1)))


def test_numbers_are_no_texts_and_single_numbers_no_windows(raters):
    rater, _ = raters["exported"]
    with pytest.raises(ConfigurationError, match=r"'tokens' has shape .*what is given has \(8,\)"):
        tf.data.Dataset.range(8).apply(top_k(rater, 0.5, 4))
    rows = slices({"text": np.arange(8)})
    with pytest.raises(ConfigurationError, match="'text' is string, and what is given is int64"):
        rows.apply(top_k(rater, 0.5, 4))
    texts = slices(["a"] * 8)
    with pytest.raises(ConfigurationError, match="'tokens' is int32, and what is given is string"):
        texts.apply(top_k(raters["rotary"][0], 0.5, 4))


def test_pixels_are_whole_numbers_to_a_model_of_them():
    image = keras.Input((2, 2), dtype="uint8", name="image")
    rater = keras.Model(image, keras.ops.mean(keras.ops.cast(image, "float32"), axis=(1, 2)))
    with pytest.raises(ConfigurationError, match="reads 'image' as uint8, and is given float32"):
        slices(np.ones((8, 2, 2), np.float32)).apply(top_k(rater, 0.5, 4))
    (kept,) = slices(np.ones((8, 2, 2), np.uint8)).apply(top_k(rater, 0.5, 4))
    assert kept.shape == (4, 2, 2)


# --------------------------------------------------------------------------- what comes out of it


@pytest.mark.parametrize("transformation", APPLY)
@pytest.mark.parametrize(
    "rater, given",
    [
        (lambda rows: tf.zeros(tf.shape(rows)[0] + 1), 9),
        (lambda rows: tf.cast(rows[1:], tf.float32), 7),
        (lambda rows: tf.zeros(5), 5),
    ],
)
def test_another_number_of_scores_than_examples_is_refused(rater, given, transformation):
    kept = APPLY[transformation]
    rows = tf.data.Dataset.range(8)
    if transformation == "top_k":  # shapes are static
        with pytest.raises(ConfigurationError, match=f"{given} scores for a batch of 8 examples"):
            rows.apply(kept(rater))
        return
    if transformation == "reweight":
        with pytest.raises(ConfigurationError, match=r"\d scores for a batch of 4 examples, and"):
            rows.apply(kept(rater, drop_remainder=True))
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        list(rows.apply(kept(rater)))
    found = str(caught.value)
    rows_a_call = 8 if transformation == "filter_by_percentile" else 4
    scores = 5 if given == 5 else given - 8 + rows_a_call
    assert "There must be one an example. Number of scores:" in found
    assert f"[{scores}] [of examples:] [{rows_a_call}]" in found


def test_the_right_number_in_graphs_without_static_shapes(values):
    spec = tf.TensorSpec([None], tf.float32)

    @tf.function(input_signature=[spec])
    def shapeless(scores):
        return scores

    rater = lambda rows: tf.numpy_function(  # noqa: E731
        np.negative, [tf.cast(rows, tf.float32)], tf.float32
    )
    with pytest.raises(ConfigurationError, match="one score an example"):
        tf.data.Dataset.range(8).apply(top_k(rater, 0.5, 4))
    kept = tf.data.Dataset.range(8).apply(
        top_k(lambda rows: shapeless(-tf.cast(rows, tf.float32)), 0.5, 4)
    )
    assert values(kept) == [[0, 1, 2, 3]]
    assert kept.element_spec.shape == (4,)


@pytest.mark.parametrize("dtype", ["string", "complex64"])
def test_scores_are_real_numbers(dtype):
    convert = tf.as_string if dtype == "string" else lambda rows: tf.cast(rows, dtype)
    with pytest.raises(ConfigurationError, match=f"gives {dtype} for 'score', but one real number"):
        tf.data.Dataset.range(8).apply(top_k(convert, 0.5, 4))


@pytest.mark.parametrize("dtype", ["int8", "int64", "float16", "float64", "bfloat16", "bool"])
def test_scores_of_any_real_dtype(dtype, values):
    kept = tf.data.Dataset.range(8).apply(top_k(lambda rows: tf.cast(rows % 4 > 1, dtype), 0.5, 4))
    assert values(kept) == [[2, 3, 6, 7]]


def test_ids_are_one_an_example():
    settings = dict(reference=REFERENCE, ids=lambda rows: rows[:3])
    kept = filter_by_percentile(lambda rows: rows, 0.5, 4, **settings)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"Number of ids:\] \[3\] \[of exam"):
        list(tf.data.Dataset.range(8).apply(kept))
    with pytest.raises(ConfigurationError, match="There are 3 ids for a batch of 8 examples"):
        tf.data.Dataset.range(8).batch(8, drop_remainder=True).apply(
            filter_by_percentile(lambda rows: rows, 0.5, 4, batched=True, **settings)
        )
