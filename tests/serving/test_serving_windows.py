from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.serving import windows

S = 5


@tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
def cut(text):
    return windows.text_windows(byte_tokenizer(), text, S)


def cut_in_python(texts):
    rows, owners = [], []
    for number, ids in enumerate(byte_tokenizer().encode(texts)):
        for first in range(0, max(len(ids), 1), S):
            piece = ids[first : first + S].tolist()
            rows.append(piece + [0] * (S - len(piece)))
            owners.append(number)
    return rows, owners


@settings(deadline=None, max_examples=60)
@given(st.lists(st.binary(max_size=4 * S), min_size=1, max_size=6))
def test_windows_of_any_bytes_equal_those_cut_in_python(texts):
    tokens, owner = cut(tf.constant(texts, tf.string))
    rows, owners = cut_in_python(texts)
    assert tokens.numpy().tolist() == rows
    assert owner.numpy().tolist() == owners


def test_no_texts_have_no_windows():
    tokens, owner = cut(tf.zeros([0], tf.string))
    assert tokens.shape == (0, S) and owner.shape == (0,)


def test_scoring_in_chunks_changes_nothing_and_bounds_the_rows():
    seen = []

    def score(tokens):
        tf.py_function(lambda n: seen.append(int(n)), [tf.shape(tokens)[0]], [])
        return tf.cast(tf.reduce_sum(tokens, axis=1), tf.float32)

    tokens = np.arange(7 * S, dtype=np.int32).reshape(7, S)
    graph = tf.function(
        lambda t: windows.score_in_chunks(score, t, 3),
        input_signature=[tf.TensorSpec([None, S], tf.int32)],
    )
    assert graph(tokens).numpy().tolist() == tokens.sum(axis=1).tolist()
    assert seen == [3, 3, 1]
    assert graph(tokens[:0]).shape == (0,)


def test_a_document_scores_the_length_weighted_mean_of_its_windows():
    tokens = tf.constant([[2, 2, 2], [2, 0, 0], [0, 0, 0], [3, 3, 0]])
    scores = tf.constant([1.0, 5.0, np.nan, np.nan])
    score, empty = windows.document_scores(scores, tokens, tf.constant([0, 0, 1, 2]), 3)
    assert score.numpy()[:2].tolist() == [2.0, 0.0]  # (3 * 1 + 1 * 5) / 4
    assert np.isnan(score.numpy()[2])
    assert empty.numpy().tolist() == [False, True, False]
