"""Bytes keep their ids in Python, in a graph and in a SavedModel, whatever they are."""

import json
import subprocess
import sys

import hypothesis
from hypothesis import strategies as st
import numpy as np
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer, byte_tokenizer, tokenizer_from_config


def padded(ids, length):
    return np.pad(ids[:length], (0, max(0, length - len(ids))))


def test_ids_are_shifted_by_padding_and_end():
    tokenizer = byte_tokenizer()
    assert isinstance(tokenizer, Tokenizer)
    (ids,) = tokenizer.encode(["aé\0"])
    assert ids.dtype == np.int32
    assert ids.tolist() == [99, 0xC3 + 2, 0xA9 + 2, 2]
    assert (tokenizer.vocabulary_size, tokenizer.end_id) == (258, 1)


@hypothesis.given(st.lists(st.one_of(st.text(), st.binary()), min_size=1), st.integers(1, 20))
@hypothesis.settings(deadline=None)
def test_tensor_encode_is_encode_cut_and_padded(texts, length):
    tokenizer = byte_tokenizer()
    raw = [t.encode() if isinstance(t, str) else t for t in texts]
    ids = tokenizer.tensor_encode(tf.constant(raw), length).numpy()
    assert ids.dtype == np.int32
    expected = [padded(row, length) for row in tokenizer.encode(texts)]
    np.testing.assert_array_equal(ids, expected)


@hypothesis.given(st.text())
def test_text_comes_back(text):
    tokenizer = byte_tokenizer()
    (ids,) = tokenizer.encode([text])
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(np.pad(ids, (0, 3))) == text


@hypothesis.given(st.lists(st.integers(-5, 300)))
@hypothesis.example([-1, 0, 1, 2, 257, 258])
def test_decode_gives_the_bytes_and_passes_over_ids_of_none(ids):
    found = bytes(ord("\n") if id == 1 else id - 2 for id in ids if 1 <= id <= 257)
    assert byte_tokenizer().decode(ids) == found.decode("utf-8", "replace")


def test_decode_shows_document_ends_and_cut_characters():
    tokenizer = byte_tokenizer()
    assert tokenizer.decode([99, 1, 100, 0, 0]) == "a\nb"
    assert tokenizer.decode([0xC3 + 2]) == "\ufffd"


def test_lone_surrogates_become_question_marks():
    assert byte_tokenizer().encode(["a\ud800"])[0].tolist() == [99, ord("?") + 2]


def test_empty_texts_and_batches():
    tokenizer = byte_tokenizer()
    assert tokenizer.encode([]) == []
    assert tokenizer.encode([""])[0].tolist() == []
    assert tokenizer.tensor_encode(tf.constant([], tf.string), 4).shape == (0, 4)
    np.testing.assert_array_equal(tokenizer.tensor_encode(tf.constant([""]), 3), [[0, 0, 0]])


def test_config_survives_json():
    tokenizer = tokenizer_from_config(json.loads(json.dumps(byte_tokenizer().config())))
    assert tokenizer.encode(["x"])[0].tolist() == [122]


def test_saved_model_needs_core_operations_only(tmp_path):
    module = tf.Module()
    module.encode = tf.function(
        lambda text: byte_tokenizer().tensor_encode(text, 4),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    code = (
        "import sys, tensorflow as tf; m = tf.saved_model.load(sys.argv[1]);"
        "print(m.encode([b'a\\0', b'abcdef']).numpy().tolist());"
        "assert 'tensorflow_text' not in sys.modules"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[[99, 2, 0, 0], [99, 100, 101, 102]]"
