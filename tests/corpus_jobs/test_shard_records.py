import gzip
import json

from hypothesis import assume, given, settings
from hypothesis import strategies as st
import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs.identity import input_files
from dr_keras.corpus_jobs.source import open_source, plan
from dr_keras.data.corpora.base import Malformed
from dr_keras.data.formats import records
from dr_keras.data.formats.base import FORMATS, Record
from dr_keras.data.formats.reading import compression_of, read_lines
from dr_keras.errors import ConfigurationError, DataError
import gin


def shards_of(path, kind, shard_bytes):
    shards = plan(kind, input_files([str(path)]), shard_bytes)
    return [piece.part for shard in shards for piece in shard.pieces]


def read(part, kind, fields):
    return list(records.read_records(FORMATS[kind], part, fields))


def lines_of(part, max_line_bytes):
    return [line for _, line in read_lines(part.path, max_line_bytes, part.start, part.end)]


def read_all(path, kind, shard_bytes=1 << 30):
    shards = shards_of(path, kind, shard_bytes)
    return [item for part in shards for item in read(part, kind, records.fields_of(kind))]


@settings(max_examples=60, deadline=None)
@given(
    lines=st.lists(st.binary(max_size=9).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    ended=st.booleans(),
    pieces=st.integers(1, 9),
)
def test_every_line_lies_in_exactly_one_range(tmp_path_factory, lines, ended, pieces):
    path = tmp_path_factory.getbasetemp() / "ranges.jsonl"
    content = b"\n".join(lines) + b"\n" * ended
    assume(not compression_of("", content))  # lines, and none that look like compressed data
    path.write_bytes(content)
    shards = shards_of(path, "jsonl", max(1, -(-len(content) // pieces)))
    found = [line for shard in shards for line in lines_of(shard, 1 << 20)]
    expected = content.split(b"\n")
    if not expected[-1]:
        expected.pop()
    assert found == [line.removesuffix(b"\r") for line in expected]


def test_ranges_over_chunks_and_lines_that_are_too_long(tmp_path):
    path = tmp_path / "long.jsonl"
    lines = [b"a" * n for n in (3 << 20, 5, 0, 2 << 20, 1 << 20, 7)]
    path.write_bytes(b"\n".join(lines))
    for shard_bytes in (1 << 30, 1 << 20, 700_001):
        shards = shards_of(path, "jsonl", shard_bytes)
        found = [line for shard in shards for line in lines_of(shard, 2 << 20)]
        assert found == [None, *lines[1:]]


def test_records_come_whole_with_their_documents(tmp_path):
    made = corpora.rows(90)
    corpora.write_jsonl(tmp_path / "a.jsonl", made)
    corpora.write_jsonl(tmp_path / "a.jsonl.gz", made)
    corpora.write_parquet(tmp_path / "a.parquet", made)
    corpora.write_tfrecord(tmp_path / "a.tfrecord", made)
    for name, kind in (
        ("a.jsonl", "jsonl"), ("a.jsonl.gz", "jsonl"), ("a.parquet", "parquet"),
        ("a.tfrecord", "tfrecord"),
    ):  # fmt: skip
        found = read_all(tmp_path / name, kind, 2000)
        documents = [(r.document.id, r.document.text, r.document.source) for r in found]
        assert documents == [(r["id"], r["text"], r["source"]) for r in made]
        if kind == "jsonl":
            assert [json.loads(r.whole) for r in found] == made
        elif kind == "tfrecord":
            assert [r.whole for r in found] == [corpora.example(r) for r in made]
        else:
            assert [b.to_pylist()[row] for b, row in (r.whole for r in found)] == made


def test_large_files_are_cut_and_files_that_cannot_be_are_not(tmp_path):
    made = corpora.rows(90)
    corpora.write_jsonl(tmp_path / "a.jsonl", made)
    corpora.write_jsonl(tmp_path / "a.jsonl.gz", made)
    corpora.write_parquet(tmp_path / "a.parquet", made, row_group_size=20)
    corpora.write_tfrecord(tmp_path / "a.tfrecord", made)
    assert len(shards_of(tmp_path / "a.jsonl", "jsonl", 1000)) > 5
    assert len(shards_of(tmp_path / "a.jsonl.gz", "jsonl", 100)) == 1
    assert [(s.start, s.end) for s in shards_of(tmp_path / "a.parquet", "parquet", 1)] == [
        (0, 1), (1, 2), (2, 3), (3, 4), (4, 5)
    ]  # fmt: skip
    (whole,) = shards_of(tmp_path / "a.tfrecord", "tfrecord", 100)
    assert whole.path.endswith("a.tfrecord") and whole.start is None


def test_malformed_records_are_told_and_passed_over(tmp_path):
    path = tmp_path / "bad.jsonl"
    good = json.dumps({"text": "fine"}).encode()
    lines = [
        good, b'{"text": ', b"", b"[1]", b'{"body": "x"}', b'{"text": 5}', b'{"text": "\xff"}',
        b'{"text": "  "}', b'{"text": "a", "id": 1.5}', b'{"text": "\\ud800"}', good,
    ]  # fmt: skip
    path.write_bytes(b"\n".join(lines))
    found = read_all(path, "jsonl")
    assert len(found) == len(lines) and found[2] is None
    assert isinstance(found[0], Record) and isinstance(found[10], Record)
    assert found[0].document.id == found[10].document.id  # no id: the hash of source and text
    assert found[0].document.source == "bad"
    reasons = [item.reason for item in found if isinstance(item, Malformed)]
    assert reasons == [
        "not JSON", "not a JSON object", "no field 'text'", "field 'text' is not a string",
        "invalid UTF-8", "empty text", "field 'id' is no string or integer", "invalid Unicode",
    ]  # fmt: skip
    assert "its fields: 'body'" in found[4].detail


def test_malformed_rows_and_examples(tmp_path):
    made = corpora.rows(3)
    made[1]["text"] = None
    corpora.write_parquet(tmp_path / "a.parquet", made)
    found = read_all(tmp_path / "a.parquet", "parquet")
    assert found[1].reason == "null in column 'text'" and found[2].document.id == "d2"
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for record in (b"\xff\xff", corpora.example(corpora.rows(1)[0]), b""):
            writer.write(record)
    found = read_all(tmp_path / "a.tfrecord", "tfrecord")
    assert found[0].reason == "not a tf.train.Example" and found[2].reason == "no feature 'text'"


def test_damage_to_a_file_stops(tmp_path):
    corpora.write_tfrecord(tmp_path / "a.tfrecord", corpora.rows(9))
    content = (tmp_path / "a.tfrecord").read_bytes()
    (tmp_path / "a.tfrecord").write_bytes(content[:-3])
    with pytest.raises(DataError, match="a.tfrecord, record 9: the file is cut short"):
        read_all(tmp_path / "a.tfrecord", "tfrecord")
    corpora.write_parquet(tmp_path / "a.parquet", corpora.rows(9))
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-9])
    with pytest.raises(DataError, match="a.parquet: cut short, damaged, or not a Parquet file"):
        read_all(tmp_path / "a.parquet", "parquet")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a"}\n')[:-5])
    with pytest.raises(DataError, match="a.jsonl.gz: not a whole gzip file"):
        read_all(tmp_path / "a.jsonl.gz", "jsonl")


def test_what_gin_says_about_the_corpus_holds(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps({"body": "b", "key": 7, "text": "t", "id": "i"}))
    gin.parse_config(
        "jsonl_corpus.text_field = 'body'\njsonl_corpus.id_field = 'key'\n"
        "jsonl_corpus.source = 'here'"
    )
    (record,) = read_all(path, "jsonl")
    document = record.document
    assert (document.id, document.text, document.source) == ("7", "b", "here")
    gin.parse_config("jsonl_corpus.max_documents = 5")
    with pytest.raises(ConfigurationError, match="max_documents is set"):
        records.fields_of("jsonl")


def test_files_of_one_kind(tmp_path):
    corpora.write_jsonl(tmp_path / "a.jsonl", corpora.rows(3))
    corpora.write_jsonl(tmp_path / "b.jsonl", corpora.rows(3))
    corpora.write_tfrecord(tmp_path / "c.tfrecord", corpora.rows(3))
    a, b = str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")
    source = open_source([b, str(tmp_path / "*.jsonl")], 1 << 20)
    assert (source.format.name, source.paths()) == ("jsonl", [b, a])
    with pytest.raises(ConfigurationError, match=r"several kinds \(jsonl, tfrecord\)"):
        open_source([a, str(tmp_path / "c.tfrecord")], 1 << 20)
    with pytest.raises(DataError, match="no such file or directory"):
        open_source([str(tmp_path / "no.jsonl")], 1 << 20)


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "tfrecord"])
def test_a_malformed_record_stops_with_its_place_in_the_file(tmp_path, kind):
    path = tmp_path / f"a.{kind}"
    made = corpora.rows(90)
    for wrong in (0, 1, 47, 89):
        rows = [dict(row) for row in made]
        if kind == "tfrecord":
            with corpora.tf.io.TFRecordWriter(str(path)) as writer:
                for n, row in enumerate(rows):
                    writer.write(b"\xff" if n == wrong else corpora.example(row))
        else:
            rows[wrong]["text"] = None
            write = corpora.write_jsonl if kind == "jsonl" else corpora.write_parquet
            write(path, rows)
        fields = {**records.fields_of(kind), "on_malformed": "stop"}
        unit = {"jsonl": "line", "parquet": "row", "tfrecord": "record"}[kind]
        for shard_bytes in (1 << 30, 700, 100):
            with pytest.raises(DataError, match=f"a.{kind}, {unit} {wrong + 1}: "):
                for shard in shards_of(path, kind, shard_bytes):
                    read(shard, kind, fields)


def test_what_gin_says_about_malformed_records_is_checked():
    assert records.fields_of("jsonl")["on_malformed"] == "skip"
    gin.parse_config("jsonl_corpus.on_malformed = 'stop'")
    assert records.fields_of("jsonl")["on_malformed"] == "stop"
    gin.parse_config("jsonl_corpus.on_malformed = 'ignore'")
    with pytest.raises(ConfigurationError, match="jsonl_corpus.on_malformed must be one of 'stop'"):
        records.fields_of("jsonl")


def test_compressed_lines_are_never_cut_whatever_the_name_says(tmp_path):
    made = corpora.rows(90)
    corpora.write_jsonl(tmp_path / "a.jsonl.gz", made)
    (tmp_path / "a.jsonl.gz").rename(tmp_path / "a.jsonl")
    assert len(shards_of(tmp_path / "a.jsonl", "jsonl", 100)) == 1
    found = read_all(tmp_path / "a.jsonl", "jsonl", 100)
    assert [r.document.id for r in found] == [r["id"] for r in made]


def test_places_in_shards_that_begin_with_a_line(tmp_path):
    path = tmp_path / "a.jsonl"
    lines = [b'{"text": %d}' % n for n in range(4)]  # of one length: shards end where lines do
    path.write_bytes(b"\n".join(lines) + b"\n")
    fields = {**records.fields_of("jsonl"), "on_malformed": "stop"}
    shards = shards_of(path, "jsonl", len(lines[0]) + 1)
    assert len(shards) == 4
    for number, shard in enumerate(shards, 1):
        with pytest.raises(DataError, match=f"a.jsonl, line {number}: field 'text' is not a str"):
            read(shard, "jsonl", fields)
