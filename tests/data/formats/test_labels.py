import math

import pytest
import tensorflow as tf

from dr_keras.data.formats.labels import labels_of
from dr_keras.data.formats.tfrecord import tfrecord_corpus
from dr_keras.errors import ConfigurationError


def test_labels_are_texts_numbers_and_truth_values():
    values = {
        "lang": "de", "year": 1999, "clean": True, "rate": 0.5, "raw": b"caf\xc3\xa9", "gone": None,
        "many": ["a"], "nothing": "", "unknown": math.nan,
    }  # fmt: skip
    assert dict(labels_of([*values, "absent"], values.get)) == {
        "lang": "de", "year": "1999", "clean": "True", "rate": "0.5", "raw": "café",
    }  # fmt: skip
    assert labels_of(None, values.get) == ()


def test_features_of_an_example_that_hold_one_value_are_labels(tmp_path):
    feature = tf.train.Feature
    features = {
        "text": feature(bytes_list=tf.train.BytesList(value=[b"a text"])),
        "lang": feature(bytes_list=tf.train.BytesList(value=[b"de"])),
        "year": feature(int64_list=tf.train.Int64List(value=[1999])),
        "two": feature(int64_list=tf.train.Int64List(value=[1, 2])),
    }
    path = str(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        example = tf.train.Example(features=tf.train.Features(feature=features))
        writer.write(example.SerializeToString())
    (document,) = tfrecord_corpus(
        path, label_features=["lang", "year", "two", "absent"]
    ).documents()
    assert dict(document.labels) == {"lang": "de", "year": "1999"}
    with pytest.raises(ConfigurationError, match="tfrecord_corpus.label_features names 'script'"):
        tfrecord_corpus(path, label_features=["script"])
