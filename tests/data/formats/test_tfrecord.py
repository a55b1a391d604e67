import pathlib

import pytest
import tensorflow as tf

from dr_keras.data.documents import document_id
from dr_keras.data.formats.tfrecord import tfrecord_corpus
from dr_keras.errors import ConfigurationError, DataError


def feature(value):
    if isinstance(value, list):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=value))
    if isinstance(value, int):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
    if isinstance(value, float):
        return tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def write(path: pathlib.Path, *records, compression=""):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            if isinstance(record, dict):
                features = {name: feature(value) for name, value in record.items()}
                example = tf.train.Example(features=tf.train.Features(feature=features))
                record = example.SerializeToString()
            writer.write(record)
    return path


def test_features_and_defaults(tmp_path):
    path = write(
        tmp_path / "web.tfrecord",
        {"text": "gr\u00fcn".encode(), "id": b"a", "source": b"s"},
        {"text": b"two", "id": 7, "source": 3},
        {"text": b"three"},
        {"text": b" "},
    )
    corpus = tfrecord_corpus(path)
    documents = list(corpus.documents())
    assert [(d.id, d.text, d.source, d.corpus) for d in documents] == [
        ("a", "gr\u00fcn", "s", "web"),
        ("7", "two", "web", "web"),
        (document_id("web", "three"), "three", "web", "web"),
    ]
    assert corpus.skipped == {"empty text": 1}
    assert list(corpus.documents()) == documents
    (first,) = tfrecord_corpus(path, id_feature=None, source="x", max_documents=1).documents()
    assert first.id == document_id("s", "gr\u00fcn")


@pytest.mark.parametrize(
    "name, compression",
    [("x.tfrecord.gz", "GZIP"), ("x.tfrecord.zlib", "ZLIB"), ("x.tfrecord-00000-of-00001", "")],
)
def test_compression_by_name_and_shards_in_a_directory(tmp_path, name, compression):
    write(tmp_path / name, {"text": b"a"}, {"text": b"b"}, compression=compression)
    (tmp_path / "dataset_info.json").write_text("{}")
    assert [d.text for d in tfrecord_corpus(tmp_path).documents()] == ["a", "b"]


def test_compression_by_option(tmp_path):
    path = write(tmp_path / "x.tfrecord", {"text": b"a"}, compression="GZIP")
    for compression in ("GZIP", "auto"):  # the file says it, where its name does not
        corpus = tfrecord_corpus(path, compression=compression)
        assert [d.text for d in corpus.documents()] == ["a"]
    with pytest.raises(DataError, match="x.tfrecord, record 1: .*set tfrecord_corpus.compression"):
        list(tfrecord_corpus(path, compression="").documents())
    with pytest.raises(ConfigurationError, match="compression must be one of 'auto', ''"):
        tfrecord_corpus(path, compression="zip")


@pytest.mark.parametrize("compression", ["", "GZIP", "ZLIB"])
def test_a_truncated_file_names_the_record_wherever_it_is_cut(tmp_path, compression):
    records = [{"text": f"{i * 7919 % 997}".encode() * 3} for i in range(30)]
    whole = write(tmp_path / "x.tfrecord", *records, compression=compression).read_bytes()
    cut = tmp_path / "cut.tfrecord"
    if not compression:
        last = len(whole) - len(write(tmp_path / "y.tfrecord", records[-1]).read_bytes())
    for length in range(len(whole) - 1, len(whole) - 50, -1):
        if not compression and length == last:
            continue  # between two records: nothing tells that there was another
        cut.write_bytes(whole[:length])
        corpus = tfrecord_corpus(cut, compression=compression, on_malformed="skip")
        read = []
        with pytest.raises(DataError) as error:
            for document in corpus.documents():
                read.append(document.text)
        assert len(read) <= 30
        message = str(error.value)
        assert message.startswith(f"{cut}, record {len(read) + 1}: the file is cut short, damaged")
        assert "truncated record" in message or "it ends within a record" in message
        assert "function_node" not in message


def test_gzip_files_joined_end_to_end(tmp_path):
    first = write(tmp_path / "a.gz", {"text": b"a"}, compression="GZIP").read_bytes()
    second = write(tmp_path / "b.gz", {"text": b"b"}, compression="GZIP").read_bytes()
    path = tmp_path / "both.tfrecord.gz"
    path.write_bytes(first + second)
    assert [d.text for d in tfrecord_corpus(path).documents()] == ["a", "b"]


def test_a_damaged_file_names_the_record(tmp_path):
    path = write(tmp_path / "x.tfrecord", *({"text": b"x" * 40} for _ in range(10)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"record [56]: .*corrupted record"):
        list(tfrecord_corpus(path).documents())
    path.write_bytes(b"this is no record at all" * 5)
    with pytest.raises(DataError, match=r"record 1: .*not a TFRecord file"):
        list(tfrecord_corpus(path).documents())


@pytest.mark.parametrize(
    "record, reason, detail",
    [
        (b"\xff\xff\xff", "not a tf.train.Example", ""),
        (
            {"body": b"x", "n": 1},
            "no feature 'text'",
            "its features: 'body', 'n'.; set tfrecord_corpus.feature, or leave",
        ),
        ({"text": []}, "no feature 'text'", ""),
        ({"text": 3}, "feature 'text' is not one byte string", "1 x int"),
        ({"text": [b"a", b"b"]}, "feature 'text' is not one byte string", "2 x bytes"),
        ({"text": b"a", "id": 0.5}, "feature 'id' is not one byte string or integer", ""),
        ({"text": b"a\xff"}, "invalid UTF-8", "position 1"),
        ({"text": b"a", "id": b"\xff"}, "invalid UTF-8", "position 0"),
    ],
)
def test_a_malformed_record_stops_with_its_place_or_is_counted(tmp_path, record, reason, detail):
    path = write(tmp_path / "x.tfrecord", {"text": b"good"}, record, {"text": b"also good"})
    with pytest.raises(DataError, match=f"x.tfrecord, record 2: {reason}.*{detail}"):
        list(tfrecord_corpus(path).documents())
    corpus = tfrecord_corpus(path, on_malformed="skip")
    assert [d.text for d in corpus.documents()] == ["good", "also good"]
    assert corpus.skipped == {reason: 1}


def test_missing_and_empty(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        tfrecord_corpus(tmp_path / "no.tfrecord")
    with pytest.raises(DataError, match="corpus 'x' holds no documents"):
        list(tfrecord_corpus(write(tmp_path / "x.tfrecord")).documents())
