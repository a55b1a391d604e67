"""Files of formats that others own, filtered: kept records are whole, in files of the same format,
whoever does the work."""

import io
import json
import tarfile

import pyarrow as pa
import pyarrow.ipc
import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs import work
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.data.documents import make_document
from dr_keras.data.formats.base import FORMATS, Part, Record
from dr_keras.data.formats.records import default_fields, fields_of, read_records

COUNT = 40


def write_arrow(folder, records):
    table = pa.Table.from_pylist(records)
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=8)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    (folder / "state.json").write_text(json.dumps({"_data_files": files}))


def write_array_record(folder, records):
    library = pytest.importorskip("array_record.python.array_record_module")
    path = folder / "x-train.array_record-00000-of-00001"
    writer = library.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(corpora.example(record))
    writer.close()


def write_webdataset(folder, records):
    with tarfile.open(folder / "shard-000000.tar", "w") as tar:
        for record in records:
            for ext in ("txt", "json"):
                content = record["text"] if ext == "txt" else json.dumps(record)
                info = tarfile.TarInfo(f"{record['id']}.{ext}")
                info.size = len(content.encode())
                tar.addfile(info, io.BytesIO(content.encode()))


def write_warc(folder, records):
    with open(folder / "x.warc.wet", "wb") as file:
        file.write(b"WARC/1.0\r\nWARC-Type: warcinfo\r\nContent-Length: 0\r\n\r\n\r\n\r\n")
        for record in records:
            text = record["text"].encode()
            head = f"WARC-Record-ID: <{record['id']}>\r\nContent-Length: {len(text)}\r\n\r\n"
            file.write(b"WARC/1.0\r\nWARC-Type: conversion\r\n" + head.encode() + text)
            file.write(b"\r\n\r\n")


WRITERS = {
    "arrow": write_arrow, "array_record": write_array_record, "webdataset": write_webdataset,
    "warc": write_warc,
}  # fmt: skip


def read(kind, paths):
    """id -> text and the whole record, as bytes or what a row holds."""
    found = {}
    for path in paths:
        for item in read_records(FORMATS[kind], Part(str(path)), fields_of(kind)):
            if item is not None:
                whole = item.whole
                row = whole[0].slice(whole[1], 1).to_pylist() if kind == "arrow" else whole
                found[item.document.id] = (item.document.text, row)
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_of_a_format_is_filtered_in_parts(tmp_path, kind):
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    WRITERS[kind](data, corpora.rows(COUNT))
    whole = read(kind, [path for path in data.iterdir() if path.suffix != ".json"])
    assert len(whole) == COUNT
    manifest = filter_corpus(
        str(data), corpora.NumberRater(), output_dir=str(out), discard_fraction=0.5,
        shard_bytes=1500,
    )  # fmt: skip
    assert manifest["counts"]["documents"] == COUNT and not manifest["errors"]
    suffix = FORMATS[kind].suffixes[-1 if kind == "warc" else 0]
    files = sorted(out.glob(f"kept-*{suffix}"))
    assert len(files) > 2 and manifest["counts"]["kept"] == len(read(kind, files))
    assert read(kind, files).items() < whole.items()
    # and what is kept is a corpus again
    again = filter_corpus(
        str(out), corpora.NumberRater(), output_dir=str(tmp_path / "again"), discard_fraction=0.5
    )
    assert again["counts"]["documents"] == manifest["counts"]["kept"]


def test_what_a_format_may_be_told_is_what_its_corpus_takes():
    """So that gin's settings of the formats of tables, of Examples and of fields are alike."""
    same = {"on_malformed", "source"}
    for kind in WRITERS:
        fields = default_fields(kind)
        assert same < set(fields)
        assert FORMATS[kind].text_argument in fields and FORMATS[kind].group_argument in fields
    assert set(default_fields("arrow")) == set(default_fields("parquet"))
    assert set(default_fields("array_record")) | {"compression"} == set(default_fields("tfrecord"))


def test_a_step_ends_by_what_is_kept_with_its_texts_too():
    """A sample may be an image with a line of text: with 1 MiB of texts would go gigabytes."""
    documents = [make_document("text", "s", str(n)) for n in range(150)]
    with_images = (Record(document, bytes(1000)) for document in documents)
    assert [len(step) for step in work.steps(with_images, 1000)] == [64, 64, 22]
    assert [len(step) for step in work.steps(map(Record, documents), 1000)] == [150]
