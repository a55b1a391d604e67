import bz2
import gzip
import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dr_keras.data.formats import kinds, reading
from dr_keras.data.formats.base import FORMATS
from dr_keras.data.formats.kinds import FileKind, what_is
from dr_keras.errors import DataError

SUFFIXES = [suffix for format in FORMATS.values() for suffix in format.suffixes]
LINES = b'{"text": "a"}\n{"text": "b"}\n'
SHARDS = (
    "", "-00000-of-01024", "_00007_of_00010", ".part-00001", ".part1", ".00003", "-0001",
)  # fmt: skip


def zstd(content):
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return sink.getvalue().to_pybytes()


PACK = {
    "": bytes, ".gz": gzip.compress, ".gzip": gzip.compress, ".bz2": bz2.compress, ".zst": zstd,
    ".zstd": zstd,
}  # fmt: skip


def parquet_bytes():
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"text": ["a"]}), sink)
    return sink.getvalue().to_pybytes()


def tfrecord_bytes(tmp_path, length=20):
    with tf.io.TFRecordWriter(str(tmp_path / "made")) as writer:
        writer.write(b"x" * length)
    return (tmp_path / "made").read_bytes()


def write(path, content):
    path.write_bytes(content)
    return str(path)


@settings(max_examples=120, deadline=None)
@given(
    stem=st.text("aé .-[]'\n\"7_", min_size=1, max_size=6).filter(lambda s: s.strip(" .-_7") != ""),
    suffix=st.sampled_from(SUFFIXES),
    shard=st.sampled_from(SHARDS),
    packed=st.sampled_from(sorted(PACK)),
    shard_last=st.booleans(),
    upper=st.booleans(),
)
def test_a_name_says_the_kind_with_shards_and_compression(
    stem, suffix, shard, packed, shard_last, upper
):
    name = stem + suffix + (packed + shard if shard_last else shard + packed)
    name = name.upper() if upper else name
    expected = next(f.name for f in FORMATS.values() if suffix in f.suffixes)
    assert kinds.kind_by_name(f"/some/where/{name}") == expected
    assert reading.bare(name)[1] == reading.COMPRESSIONS.get(packed, "")
    assert kinds.unsupported(name, expected) is None


@pytest.mark.parametrize(
    "name",
    [
        "c4-train.00000-of-01024.json.gz", "x.json-00000-of-01024", "x-00000-of-00010.jsonl",
        "x.jsonl.part-00001", "part-00000-ab12-c000.json.gz", "A.JSONL.GZ", "a.jl", "a.ndjson",
        "x.jsonlines", "v2.1-shard_3.jsonl.zst", "with space [1].jsonl", "x.jsonl.bz2",
    ],
)  # fmt: skip
def test_json_lines_by_their_usual_names(tmp_path, name):
    packed = next((s for s in PACK if s and name.lower().endswith(s)), "")
    found = what_is(write(tmp_path / name, PACK[packed](LINES)))
    assert found == FileKind("jsonl", reading.COMPRESSIONS.get(packed, ""))


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".zst"])
def test_the_first_bytes_tell_what_the_name_does_not(tmp_path, packed):
    compression = reading.COMPRESSIONS.get(packed, "")
    assert what_is(write(tmp_path / "part-00000", PACK[packed](LINES))) == FileKind(
        "jsonl", compression
    )
    # a name that lies about compression only is read right
    assert what_is(write(tmp_path / "a.jsonl", PACK[packed](LINES))).compression == compression
    assert what_is(write(tmp_path / "a.txt", PACK[packed](b"prose"))) == FileKind(
        "text", compression
    )


def test_parquet_and_tfrecord_by_their_first_bytes(tmp_path):
    assert what_is(write(tmp_path / "0a1b", parquet_bytes())).kind == "parquet"
    record = tfrecord_bytes(tmp_path)
    assert what_is(write(tmp_path / "x-of-y", record)) == FileKind("tfrecord")
    assert what_is(write(tmp_path / "x-of-z", gzip.compress(record))).compression == "gzip"
    # a record whose length looks like the first bytes of a gzip file
    record = tfrecord_bytes(tmp_path, 0x088B1F)
    assert record.startswith(b"\x1f\x8b\x08")
    assert what_is(write(tmp_path / "x.tfrecord", record)) == FileKind("tfrecord", "")
    changed = record[:8] + bytes([record[8] ^ 1]) + record[9:]
    assert not FORMATS["tfrecord"].begins(changed)


@pytest.mark.parametrize("name", sorted(kinds.UNSUPPORTED))
def test_known_formats_are_refused_by_name_with_a_remedy(tmp_path, name):
    for packed in ("", ".gz"):
        found = what_is(write(tmp_path / f"some{name}{packed}", b"x,y\n1,2\n"))
        assert found.kind is None and found.reason and found.remedy
    message = str(kinds.refusal("some.csv", what_is(write(tmp_path / "some.csv", b""))))
    assert message.startswith("some.csv: it is a table of separated values; convert it to JSON lin")


@pytest.mark.parametrize(
    "name, content, reason",
    [
        ("notes", b"just prose\n", "its name does not tell"),
        ("notes.xyz", b"just prose\n", "its name does not tell"),
        ("blob", b"\x00\x01\x02\xff", "binary data"),
        ("nothing", b"", "empty"),
        ("doc", b"%PDF-1.7 ...", "a PDF, which is not read"),
        ("pack", b"PK\x03\x04....", "a zip archive"),
        ("a.parquet.gz", gzip.compress(parquet_bytes()), "a Parquet file inside gzip"),
        ("a.jsonl.zlib", b"x\x9c", "compressed by zlib"),
        ("a.tfrecord.zst", zstd(b"x"), "only gzip and zlib"),
    ],
)
def test_nothing_is_text_by_default(tmp_path, name, content, reason):
    found = what_is(write(tmp_path / name, content))
    assert found.kind is None and reason in found.reason and found.remedy
    assert "\n" not in found.reason + found.remedy


JSON = {"text": "a", "meta": {"n": [1, 2]}}


@pytest.mark.parametrize("indent", [None, 1, 4])
@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
def test_json_that_is_no_lines_is_refused_by_name(tmp_path, indent, packed):
    array = json.dumps([JSON] * 3000, indent=indent).encode()
    found = what_is(write(tmp_path / f"all.json{packed}", PACK[packed](array)))
    assert found.kind is None and found.reason == "one JSON array, which is no JSON lines"
    unpack = {"": "jq -c '.[]' all.json", ".gz": "gzip -dc all.json.gz | jq -c '.[]'"}
    assert f"`{unpack.get(packed, 'zstd -dc all.json.zst')}" in found.remedy
    assert found.remedy.endswith("> lines.jsonl` does")
    one = json.dumps({"rows": [JSON] * 3000}, indent=indent).encode()
    found = what_is(write(tmp_path / f"one.json{packed}", PACK[packed](one)))
    assert found.kind == (None if indent else "jsonl")  # of one line: it may be a record
    if indent:
        assert found.reason == "one JSON object over several lines"


def test_json_lines_stay_lines_whatever_is_wrong_with_the_first(tmp_path):
    marked, blank = b"\xef\xbb\xbf" + LINES, b"\r\n" + LINES
    for first in (b'{"text": "cut', b"{'text': 1}", marked, blank, b"{}"):
        assert what_is(write(tmp_path / "a.json", first + b"\n" + LINES)).kind == "jsonl"
    assert what_is(write(tmp_path / "a.json", b"")).kind == "jsonl"  # no records are no fault
    long = b'{"text": "' + b"x" * 200_000 + b'"}\n'
    assert what_is(write(tmp_path / "a.json", long)).kind == "jsonl"


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", parquet_bytes(), "named as jsonl, but it is parquet"),
        ("a.jsonl.gz", gzip.compress(parquet_bytes()), "named as jsonl, but it is parquet"),
        ("a.parquet", LINES, "named as parquet, but it is jsonl"),
        ("a.tfrecord", LINES, "named as tfrecord, but it is jsonl"),
        ("a.jsonl", b"\xfd7zXZ\x00...", "named as jsonl, but it is compressed by xz"),
        ("a.txt", b"%PDF-1.4\xff\xfe", "named as text, but it is a PDF"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_stops(tmp_path, name, content, message):
    with pytest.raises(DataError, match=f"{name}: {message}"):
        what_is(write(tmp_path / name, content))


def test_text_may_begin_with_any_letters(tmp_path):
    for content in (b"PAR1 is a magic number", b"%PDF is one too", LINES, b"Rar! he cried", b""):
        assert what_is(write(tmp_path / "a.txt", content)) == FileKind("text")


def test_what_must_not_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    for name, reason in (
        ("pipe.jsonl", "a pipe"), ("gone.jsonl", "a link to nothing"), ("loop.jsonl", "not to be"),
    ):  # fmt: skip
        found = what_is(str(tmp_path / name))
        assert found.kind is None and reason in found.reason
    assert what_is("/dev/null").reason == "a device"
    with pytest.raises(DataError, match="cannot be read"):
        what_is(str(tmp_path / "absent.jsonl"))


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=60), suffix=st.sampled_from(["", ".json", ".jsonl", ".zst"]))
def test_any_bytes_are_judged(tmp_path_factory, content, suffix):
    path = tmp_path_factory.getbasetemp() / f"any{suffix}"
    try:
        found = what_is(write(path, content))
    except DataError:
        return
    assert (found.kind is None) == bool(found.reason)
    assert found.kind != "text"
