"""What a loaded rater is given that it cannot score as it is: named, and never cast unseen."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import DataError
from dr_keras.serving.export import export_examples
from dr_keras.serving.loading import load_rater

FLOATS = "whole numbers, and these are float"
S = 16


def each_way(rater, rows):
    """Asks for scores of rows in every way there is; in graphs shapes and types alone are known."""
    tensor = tf.constant(rows)
    dataset = tf.data.Dataset.from_tensor_slices(rows)
    yield lambda: rater.score_tokens(rows)
    yield lambda: rater(np.asarray(rows))
    yield lambda: rater({"tokens": tensor})
    yield lambda: tf.function(rater, autograph=False)(tensor)  # which keeps errors as they are
    yield lambda: rater(dataset)
    yield lambda: rater(dataset.batch(2))


@pytest.mark.parametrize("way", range(6))
def test_token_ids_are_whole_numbers(loaded, way):
    rows = np.full([4, S], 7.0, np.float32)
    with pytest.raises(DataError, match=FLOATS):
        list(each_way(loaded, rows))[way]()


@pytest.mark.parametrize("way", range(6))
def test_windows_are_no_wider_than_the_raters(loaded, way):
    rows = np.full([4, S + 1], 7, np.int32)
    with pytest.raises(DataError, match=r"tokens of shape \[B, 16\] or narrower, not \[\w+, 17\]"):
        list(each_way(loaded, rows))[way]()


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint16, object])
def test_other_whole_numbers_are_ids_as_well(loaded, kind):
    rows = np.arange(2 * S).reshape(2, S)
    expected = loaded(rows.astype(np.int32))["score"]
    assert (loaded.score_tokens(rows.astype(kind))["score"] == expected).all()
    assert loaded.score_tokens(np.zeros([0, S]))["score"].shape == (0,)


@pytest.mark.parametrize(
    "wrong, ends", [(-1, "-1 to 7"), (258, "7 to 258"), (2**32 + 7, "7 to 42949")]
)
def test_ids_are_those_of_the_tokenizer(loaded, wrong, ends):
    rows = np.full([2, S], 7)
    rows[1, 3] = wrong
    for given in (rows, tf.constant(rows), rows.tolist()):
        with pytest.raises(DataError, match=f"token ids go from {ends}.*tokenizer from 0 to 257"):
            loaded.score_tokens(given)
    mask = np.ones([2, S], bool)
    mask[1, 3] = False  # whatever is padding has no meaning
    rows[1, 3:], mask[1, 3:] = wrong, False
    if abs(wrong) < 2**31:
        masked = loaded.score_tokens(rows, mask)["score"]
        assert masked[1] == pytest.approx(loaded.score_tokens(rows[:, :3])["score"][1], abs=1e-6)


def test_rows_of_tokens_have_one_length_and_a_mask_of_theirs(loaded):
    with pytest.raises(DataError, match="no rows of token ids of one length"):
        loaded.score_tokens([[1, 2], [3]])
    with pytest.raises(DataError, match=r"\[B, 16\] or narrower, not \[2\]"):
        loaded.score_tokens(tf.constant([7, 7]))
    rows = np.full([2, 4], 7)
    for mask in (np.ones([2, 3], bool), np.ones([4], bool), np.ones([3, 4], bool)):
        with pytest.raises(DataError, match=r"padding mask has shape .*, the tokens \[2, 4\]"):
            loaded.score_tokens(rows, mask)


def test_texts_come_in_a_row_and_tensors_in_one_piece(loaded):
    with pytest.raises(DataError, match=r"not strings of shape \(1, 2\)"):
        loaded(tf.constant([["a", "b"]]))
    with pytest.raises(DataError, match="The input is a RaggedTensor: make it dense first"):
        loaded(tf.ragged.constant([[7, 8], [9]]))
    with pytest.raises(DataError, match="The input is a SparseTensor: make it dense first"):
        loaded({"text": tf.sparse.from_dense(["a", ""])})
    with pytest.raises(DataError, match="The input of tokens is a RaggedTensor"):
        loaded.score_tokens(tf.ragged.constant([[7, 8], [9]]))


@pytest.fixture(scope="module")
def of_counts(tmp_path_factory):
    n = keras.Input((), name="n", dtype="uint8")
    score = keras.layers.Dense(1)(keras.ops.cast(n[:, None], "float32"))
    names = np.array(list("abcd"), object)
    examples = ExampleSet({"n": np.arange(4).astype(np.uint8)}, names, names, names)
    folder = str(tmp_path_factory.mktemp("export"))
    export_examples(keras.Model({"n": n}, score), examples, np.arange(4.0), folder, {})
    return load_rater(folder)


def test_whole_numbers_are_not_made_of_others(of_counts):
    expected = of_counts(np.array([3, 4], np.uint8))["score"]
    for same in ([3, 4], [3.0, 4.0], tf.constant([3.0, 4.0]), np.array([3, 4], np.int64)):
        assert np.array_equal(of_counts(same)["score"], expected)
    for wrong in (3.5, float("nan"), 300, -1):
        for given in ([3, wrong], tf.constant([3, wrong])):
            with pytest.raises(DataError, match="'n' has values that uint8 cannot hold, such as"):
                of_counts(given)
    dataset = tf.data.Dataset.from_tensor_slices({"n": [3.0, 4.0]})
    with pytest.raises(DataError, match="'n' is float32, and this rater reads uint8: cast it"):
        of_counts(dataset.batch(2))
    with pytest.raises(DataError, match="The feature 'n' is a SparseTensor"):
        of_counts({"n": tf.sparse.from_dense([1, 0])})
