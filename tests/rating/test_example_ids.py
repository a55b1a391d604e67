import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.rating.example_ids import content_ids, id_strings


def strings(tensor):
    return [value.decode() for value in tensor.numpy()]


def test_ids_are_strings_and_numbers_their_digits():
    assert strings(id_strings(tf.constant(["a", "ü"]))) == ["a", "ü"]
    assert strings(id_strings(tf.constant([-3, 2**60], tf.int64))) == ["-3", str(2**60)]
    with pytest.raises(ConfigurationError, match=r"Ids are float32 of shape \(2,\)"):
        id_strings(tf.constant([0.5, 1.0]))
    with pytest.raises(ConfigurationError, match=r"shape \(1, 2\), but one string or whole number"):
        id_strings(tf.constant([["a", "b"]]))


def test_a_text_is_its_own_id():
    assert content_ids(tf.constant([b"\xff\x00", b""])).numpy().tolist() == [b"\xff\x00", b""]
    assert strings(content_ids({"number": tf.constant([7, 8])})) == ["7", "8"]


def test_other_content_is_hashed_row_by_row_and_never_changes():
    tokens = tf.constant([[1, 2], [1, 2], [2, 1]], tf.int32)
    one, same, other = strings(content_ids(tokens))
    assert one == same != other
    assert one == "788354958964363852"  # decisions must come out alike after an upgrade
    floats = content_ids(tf.constant([[0.5], [0.25]]))
    assert len(set(strings(floats))) == 2
    graph = tf.function(content_ids)
    assert strings(graph(tokens)) == [one, same, other]


def test_parts_are_joined_and_company_does_not_matter():
    features = {
        "image": tf.constant(np.arange(24).reshape(2, 3, 2, 2), tf.uint8),
        "text": tf.constant(["a", "b"]),
        "none": None,
    }
    whole = strings(content_ids(features))
    assert [name.split("|")[1] for name in whole] == ["a", "b"]
    second = {key: None if v is None else v[1:] for key, v in features.items()}
    assert strings(content_ids(second)) == whole[1:]


def test_ragged_rows_are_hashed_whatever_the_longest_is():
    rows = [[1, 2], [], [1, 2], [12], [3] * 9]
    names = strings(content_ids(tf.ragged.constant(rows, tf.int32)))
    assert names[0] == names[2] and len(set(names)) == 4
    assert strings(content_ids(tf.ragged.constant(rows[:2], tf.int32))) == names[:2]
    nested = strings(content_ids(tf.ragged.constant([[["a", "b"], ["c"]], [["a"], ["b", "c"]]])))
    assert len(set(nested)) == 2
