import bz2
import gzip
import io
import json

from hypothesis import given, settings
from hypothesis import strategies as st
import pyarrow as pa
import pytest

from dr_keras.data.formats import reading, writing
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import DataError


def packed(content, kind):
    raw = io.BytesIO()
    raw.close = lambda: None  # pyarrow closes what it writes to
    with writing.compressed_writer(raw, kind) as file:
        for place in range(0, len(content), 7):
            file.write(content[place : place + 7])
    return raw.getvalue()


KINDS = ("gzip", "bz2", "zstd")


@settings(max_examples=40, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), min_size=1),
    kind=st.sampled_from(KINDS),
    cut=st.integers(0, 99),
)
def test_lines_are_the_same_through_every_compression(tmp_path_factory, texts, kind, cut):
    folder = tmp_path_factory.mktemp("packed")
    lines = b"".join(json.dumps({"text": f"x{text}"}).encode() + b"\n" for text in texts)
    (folder / "a.jsonl").write_bytes(lines)
    cut = cut % len(lines)  # files are often joined of several streams
    joined = b"".join(packed(part, kind) for part in (lines[:cut], lines[cut:]) if part)
    (folder / f"b.jsonl{reading.SUFFIXES[kind]}").write_bytes(joined)
    (folder / "c.jsonl").write_bytes(joined)
    plain, by_name, by_bytes = (
        [d.text for d in jsonl_corpus(str(path)).documents()] for path in sorted(folder.iterdir())
    )
    assert plain == by_name == by_bytes == [f"x{text}" for text in texts]


@pytest.mark.parametrize("kind", KINDS)
def test_data_that_is_not_whole_is_an_error_wherever_it_ends(tmp_path, kind):
    content = b"".join(f"line {n * 7919 % 997}\n".encode() for n in range(60))
    stream = packed(content, kind)
    path = str(tmp_path / f"a.txt{reading.SUFFIXES[kind]}")
    for whole in (stream, stream + stream):
        with open(path, "wb") as file:
            file.write(whole)
        assert b"".join(reading.read_chunks(path)) == content * (len(whole) // len(stream))
    faulty = [stream[:-cut] for cut in range(1, len(stream) + 1)]
    faulty += [stream + stream[:-1], stream + b"and more"]
    for data in faulty:
        with open(path, "wb") as file:
            file.write(data)
        with pytest.raises(DataError, match=f"a.txt.*: not a whole {kind} file"):
            b"".join(reading.read_chunks(path))


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_writes_give_the_same_bytes_that_others_read(kind):
    content = bytes(range(256)) * 999
    first = packed(content, kind)
    assert first == packed(content, kind)
    if kind == "zstd":
        stream = pa.CompressedInputStream(pa.BufferReader(first), "zstd")
        assert stream.read() == content
    else:
        assert {"gzip": gzip, "bz2": bz2}[kind].decompress(first) == content


def test_chunks_are_small_however_well_data_is_compressed(tmp_path):
    for kind in KINDS:
        path = tmp_path / f"zeros{reading.SUFFIXES[kind]}"
        path.write_bytes(packed(b"\0" * 3_000_000, kind))
        chunks = list(reading.read_chunks(str(path), size=20_000))
        assert max(map(len, chunks)) <= 20_000 and sum(map(len, chunks)) == 3_000_000


def test_zlib_is_for_records_only(tmp_path):
    path = tmp_path / "a.jsonl.zlib"
    path.write_bytes(b"x\x9c\x03\x00\x00\x00\x00\x01")
    with pytest.raises(DataError, match="zlib is read in TFRecord files only"):
        list(reading.read_lines(str(path), 100))
