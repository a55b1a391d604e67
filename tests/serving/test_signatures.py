"""The signatures as a server sees them: by name, without anything of dr_keras around them."""

from fractions import Fraction
import json

from hypothesis import example, given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from dr_keras.rating import fractions
from dr_keras.rating.fractions import keep_probability
from dr_keras.serving import signatures

TEXTS = [
    b"short",
    b"a text of more than sixteen bytes, so that it has several windows",
    b"NUL \x00 and invalid \xff\xfe bytes",
    b"\x00",
    b"\xf0\x9f",
]
S = 16


@pytest.fixture(scope="module")
def served(exported):
    return tf.saved_model.load(exported).signatures


@pytest.fixture(scope="module")
def expected(by_definition, references):
    scores = by_definition(TEXTS)
    return scores, references[1].percentile(scores)


def example_of(text: bytes, feature: str = "body") -> bytes:
    message = tf.train.Example()
    message.features.feature[feature].bytes_list.value.append(text)
    message.features.feature["other"].int64_list.value.append(3)
    return message.SerializeToString()


def test_text_and_tf_examples_score_like_the_live_model(served, expected):
    for outputs in (
        served["serving_default"](text=tf.constant(TEXTS)),
        served["serve_tf_examples"](examples=tf.constant([example_of(t) for t in TEXTS])),
    ):
        assert sorted(outputs) == ["percentile", "score"]
        np.testing.assert_allclose(outputs["score"], expected[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(outputs["percentile"], expected[1], rtol=0, atol=1e-4)
        assert outputs["score"].dtype == outputs["percentile"].dtype == tf.float32


def test_an_example_without_the_feature_is_an_error_that_names_it(served):
    wrong = tf.constant([example_of(b"short", feature="text")])
    with pytest.raises(tf.errors.InvalidArgumentError, match="body.*required but could not be"):
        served["serve_tf_examples"](examples=wrong)


def test_tokens_with_a_mask_score_like_tokens_padded_with_zeros(served, live_rater, references):
    tokens = np.random.default_rng(1).integers(2, 258, size=(4, 9)).astype(np.int32)
    mask = np.arange(9) < np.array([[9], [4], [1], [0]])
    expected = live_rater({"tokens": np.where(mask, tokens, 0)}).numpy()
    expected[3] = references[0].quantiles[0]
    with_mask = served["serve_tokens"](tokens=tf.constant(tokens), padding_mask=tf.constant(mask))
    with_zeros = served["serve_tokens"](
        tokens=tf.constant(np.where(mask, tokens, 0)), padding_mask=tf.constant([[True]])
    )
    for outputs in (with_mask, with_zeros):
        np.testing.assert_allclose(outputs["score"], expected, rtol=0, atol=1e-6)
        percentile = references[0].percentile(expected)  # of windows, not of documents
        percentile[3] = 0
        np.testing.assert_allclose(outputs["percentile"], percentile, rtol=0, atol=1e-4)


def test_scores_alone_are_those_of_serve_tokens(served, references):
    for width in (9, S):
        tokens = np.random.default_rng(1).integers(2, 258, size=(4, width)).astype(np.int32)
        tokens[1, 3:], tokens[2] = 0, 0
        both = served["serve_tokens"](
            tokens=tf.constant(tokens), padding_mask=tf.constant([[True]])
        )
        alone = served["serve_scores"](tokens=tf.constant(tokens))
        assert list(alone) == ["score"] and alone["score"].dtype == tf.float32
        np.testing.assert_array_equal(alone["score"], both["score"])
        assert alone["score"][2] == references[0].quantiles[0]


def test_servers_need_not_be_given_a_mask(exported):
    with open(f"{exported}/saved_model.pb", "rb") as file:
        stored = saved_model_pb2.SavedModel.FromString(file.read())
    signature = stored.meta_graphs[0].signature_def["serve_tokens"]
    assert tf.make_ndarray(signature.defaults["padding_mask"]).tolist() == [[True]]


def test_no_rows_give_no_scores(served):
    none = tf.zeros([0], tf.string)
    outputs = {
        "serving_default": served["serving_default"](text=none),
        "serve_tf_examples": served["serve_tf_examples"](examples=none),
        "serve_tokens": served["serve_tokens"](
            tokens=tf.zeros([0, S], tf.int32), padding_mask=tf.ones([0, S], tf.bool)
        ),
        "keep_probability": served["keep_probability"](
            text=none, discard_fraction=tf.constant(0.5, tf.float64), batch_size=tf.constant(4)
        ),
    }
    for name, result in outputs.items():
        assert all(value.shape == (0,) for value in result.values()), name


@pytest.mark.parametrize("signature", ["serving_default", "serve_tf_examples"])
def test_an_empty_text_is_the_worst(served, references, signature):
    rows = [b"short", b""]
    if signature == "serving_default":
        outputs = served[signature](text=tf.constant(rows))
    else:
        outputs = served[signature](examples=tf.constant([example_of(row) for row in rows]))
    assert outputs["score"][1] == references[1].quantiles[0] < outputs["score"][0]
    assert outputs["percentile"][1] == 0


@settings(deadline=None, max_examples=30)
@given(texts=st.lists(st.binary(max_size=70), max_size=5))
def test_any_bytes_have_a_finite_score_that_does_not_depend_on_the_batch(loaded, texts):
    together = loaded(tf.constant(texts, tf.string))
    assert np.all(np.isfinite(together["score"]))
    percentile = together["percentile"].numpy()
    assert np.all((percentile >= 0) & (percentile <= 1))
    alone = [loaded(tf.constant([text], tf.string))["score"][0] for text in texts]
    np.testing.assert_allclose(together["score"], np.array(alone, np.float32), 1e-6, 1e-6)


@pytest.mark.parametrize("fraction, size", [(0.5, 64), (0.1, 9), (0.75, 1), (0.9, 1000), (0, 32)])
def test_keep_probability_is_that_of_batch_top_k(served, loaded, expected, fraction, size):
    outputs = served["keep_probability"](
        text=tf.constant(TEXTS),
        discard_fraction=tf.constant(fraction, tf.float64),
        batch_size=tf.constant(size),
    )
    np.testing.assert_allclose(outputs["score"], expected[0], rtol=0, atol=1e-6)
    oversized = fractions.oversized_batch(size, fraction)
    chance = keep_probability(outputs["percentile"], size, oversized)
    np.testing.assert_allclose(outputs["keep_probability"], chance, rtol=1e-6, atol=1e-7)
    if not fraction:
        assert outputs["keep_probability"].numpy().tolist() == [1.0] * len(TEXTS)
    same = loaded.keep_probability(TEXTS, fraction, size)
    np.testing.assert_allclose(same["keep_probability"], chance, rtol=1e-3, atol=1e-4)
    assert same["keep_probability"].dtype == np.float32


@tf.function(input_signature=[tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.float64)])
def oversized_in_graph(batch_size, discard_fraction):
    return signatures.oversized_batch(batch_size, discard_fraction)


DECIMALS = st.integers(1, 15).flatmap(
    lambda digits: st.tuples(st.integers(0, 10**digits - 1), st.just(digits))
)


@settings(deadline=None, max_examples=400)
@given(DECIMALS, st.integers(1, 100_000))
@example((9, 1), 1)  # 1 / (1 - 0.9) is 10.000000000000002 in floats
@example((99, 2), 7)
@example((0, 1), 100_000)
def test_oversized_batches_are_exact_in_graph(decimal, batch_size):
    fraction = float(Fraction(decimal[0], 10 ** decimal[1]))
    exact = fractions.oversized_batch(batch_size, fraction)
    if exact >= 2**31 - 1:
        return
    assert int(oversized_in_graph(batch_size, fraction)) == exact


@pytest.mark.parametrize("fraction", [1 / 3, 2 / 3, 1 / 7, 0.1 + 0.2, 1 - 2**-20])
def test_fractions_of_sixteen_digits_are_exact_too(fraction):
    for size in (1, 2, 3, 64, 999):
        exact = fractions.oversized_batch(size, fraction)
        assert int(oversized_in_graph(size, fraction)) == exact


@pytest.mark.parametrize(
    "fraction, size, message",
    [
        (1.0, 4, r"discard_fraction must be in \[0, 1\)"),
        (-0.1, 4, r"discard_fraction must be in \[0, 1\)"),
        (float("nan"), 4, r"discard_fraction must be in \[0, 1\)"),
        (0.5, 0, "batch_size must be at least 1"),
        (0.999999999, 1000, r"must be below 2\*\*31"),
    ],
)
def test_impossible_settings_are_refused_by_the_server_too(served, fraction, size, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        served["keep_probability"](
            text=tf.constant(TEXTS),
            discard_fraction=tf.constant(fraction, tf.float64),
            batch_size=tf.constant(size),
        )


def test_metadata_says_what_scores_depend_on(served, loaded, references):
    text = served["get_metadata"]()["metadata"].numpy()
    on_request = served["serve_metadata"](request=tf.constant(["", "x"]))["metadata"]
    assert on_request.numpy().tolist() == [text, text]
    stored = json.loads(text)
    assert stored["kind"] == "text" and stored["sequence_length"] == S
    assert stored["variable_length"] is True and stored["example_feature"] == "body"
    assert stored["reference"] == references[0].to_dict()
    assert stored["document_reference"] == references[1].to_dict()
    assert stored["document_reference"]["sample_size"] == 50
    assert sorted(stored["versions"]) == ["dr_keras", "keras", "python", "tensorflow"]
    np.testing.assert_array_equal(loaded.document_reference.quantiles, references[1].quantiles)
