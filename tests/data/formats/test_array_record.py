"""ArrayRecord files; skipped where the library is not to be had."""

import os
import sys

import pytest
import tensorflow as tf

from dr_keras.data.documents import document_id
from dr_keras.data.formats.array_record import array_record_corpus
from dr_keras.data.formats.base import FORMATS, Part
from dr_keras.data.formats.kinds import what_is
from dr_keras.data.formats.records import default_fields, read_records
from dr_keras.data.prepare import corpus_from_path
from dr_keras.errors import ConfigurationError, DataError

library = pytest.importorskip("array_record.python.array_record_module")

FORMAT, FIELDS = FORMATS["array_record"], default_fields("array_record")


def example(**values):
    features = {}
    for name, value in values.items():
        if isinstance(value, int):
            features[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        else:
            features[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write(path, records, options="group_size:1"):
    writer = library.ArrayRecordWriter(str(path), options)
    for record in records:
        writer.write(record)
    writer.close()
    return path


def records_of(count):
    return [example(text=f"{n} text".encode(), id=n, other=b"x") for n in range(count)]


def test_a_folder_as_tfds_prepares_it(tmp_path):
    records = [
        example(text="grün".encode(), id=b"a", source=b"s"), example(text=b"two"),
        example(text=b" "),
    ]  # fmt: skip
    write(tmp_path / "web-train.array_record-00000-of-00001", records)
    (tmp_path / "dataset_info.json").write_text("{}")
    (tmp_path / "features.json").write_text("{}")
    corpus = corpus_from_path(tmp_path)
    assert [(d.id, d.text, d.source) for d in corpus.documents()] == [
        ("a", "grün", "s"),
        (document_id("web-train", "two"), "two", "web-train"),
    ]
    assert corpus.skipped == {"empty text": 1} and corpus.describe()["kind"] == "array_record"
    write(tmp_path / "nameless", records)
    assert what_is(str(tmp_path / "nameless")).kind == "array_record"


@pytest.mark.parametrize("options", ["group_size:1", "group_size:7,uncompressed"])
def test_parts_hold_every_record_once_and_kept_ones_are_stored_alike(tmp_path, options):
    made = records_of(30)
    path = str(write(tmp_path / "a.array_record", made, options))
    parts, form = FORMAT.parts(path, os.path.getsize(path), os.path.getsize(path) // 4)
    found = [list(read_records(FORMAT, part, FIELDS)) for part in parts]
    assert len(parts) == 4 and [r.whole for of_one in found for r in of_one] == made
    assert found[1][0].document.id == str(FORMAT.before(parts[1])) == "7"
    output = FORMAT.output(str(tmp_path / "kept"), str(tmp_path), path, FIELDS)
    for record in found[2]:
        output.write(record.whole)
    output.close()
    output.close()  # as a job that is given up does
    output.publish()
    kept = str(tmp_path / "kept.array_record")
    assert [r.whole for r in read_records(FORMAT, Part(kept), FIELDS)] == made[15:22]
    assert FORMAT.parts(kept, 1, 1)[1] == form
    assert FORMAT.parts(str(write(tmp_path / "none", [])), 0, 1)[0] == [
        Part(str(tmp_path / "none"), 0, 0, 0)
    ]
    assert not list(read_records(FORMAT, Part(str(tmp_path / "none"), 0, 0), FIELDS))


def test_malformed_and_damaged(tmp_path):
    path = write(tmp_path / "a.array_record", [*records_of(2), b"\xff\xff", example(body=b"x")])
    with pytest.raises(DataError, match="a.array_record, record 3: not a tf.train.Example"):
        list(array_record_corpus(path).documents())
    corpus = array_record_corpus(path, on_malformed="skip")
    assert len(list(corpus.documents())) == 2
    assert corpus.skipped == {"not a tf.train.Example": 1, "no feature 'text'": 1}
    with pytest.raises(DataError, match="no feature 'body'.*set array_record_corpus.feature, or"):
        list(array_record_corpus(path, "body").documents())

    whole = write(path, records_of(200), "group_size:50,uncompressed").read_bytes()
    for content in (b"", whole[:100], whole[:-9], b"no record" * 9999):
        path.write_bytes(content)
        with pytest.raises(DataError, match="a.array_record: cut short, damaged, or not an Array"):
            list(array_record_corpus(path).documents())
    damaged = bytearray(whole)
    damaged[whole.index(b"120 text")] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(DataError, match="a.array_record, record 101: cut short, damaged"):
        list(array_record_corpus(path).documents())


def test_where_it_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(DataError, match="from local folders only: copy it"):
        list(read_records(FORMAT, Part("gs://far/a.array_record"), FIELDS))
    with pytest.raises(DataError, match="into local folders only"):
        FORMAT.output("gs://far/kept", "gs://far/tmp", str(write(tmp_path / "a", [])), FIELDS)
    monkeypatch.setitem(sys.modules, "array_record.python.array_record_module", None)
    with pytest.raises(ConfigurationError, match="array_record cannot be imported .*pip install"):
        list(read_records(FORMAT, Part("a.array_record"), FIELDS))
