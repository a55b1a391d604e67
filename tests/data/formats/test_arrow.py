"""Arrow streams and files, and folders as Hugging Face `datasets` writes them."""

import json
import os

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.ipc
import pytest

from dr_keras.data.documents import document_id
from dr_keras.data.formats.arrow import arrow_corpus
from dr_keras.data.formats.base import FORMATS, Part
from dr_keras.data.formats.kinds import what_is
from dr_keras.data.formats.records import default_fields, read_records
from dr_keras.data.prepare import corpus_from_path
from dr_keras.errors import DataError

ARROW = FORMATS["arrow"]
FIELDS = default_fields("arrow")


def write(path, table, stream=True, rows=1000, codec=None):
    new = pa.ipc.new_stream if stream else pa.ipc.new_file
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with new(str(path), table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def table(count, first=0):
    return pa.table(
        {
            "text": [f"text {n} é" for n in range(first, first + count)],
            "id": list(range(first, first + count)),
            "label": pa.array([n % 3 for n in range(count)], pa.int8()),
        }
    ).replace_schema_metadata({"huggingface": '{"info": {"features": {}}}'})


def found(path, part=None, whole=False):
    return list(read_records(ARROW, part or Part(str(path)), FIELDS, whole))


def ids(records):
    return [int(record.document.id) for record in records]


def folder_of_datasets(folder, files, **state):
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        write(folder / name, content)
    named = [{"filename": name} for name in files if name.startswith("data-")]
    (folder / "state.json").write_text(json.dumps({"_data_files": named, **state}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_folder_of_datasets_without_what_lies_beside_its_data(tmp_path, caplog):
    folder = tmp_path / "mine"
    shards = {"data-00000-of-00002.arrow": table(3), "data-00001-of-00002.arrow": table(2, 3)}
    folder_of_datasets(folder, {**shards, "cache-0123456789abcdef.arrow": table(9)})
    write(folder / "data-00000-of-00001.arrow", table(5))  # of a data set that lay here before
    corpus = corpus_from_path(folder)
    documents = list(corpus.documents())
    assert [(d.id, d.text, d.source) for d in documents] == [
        (str(n), f"text {n} é", f"data-0000{n // 3}-of-00002") for n in range(5)
    ]
    assert corpus.describe()["kind"] == "arrow"
    assert "cache-0123456789abcdef.arrow (what `datasets` cached" in caplog.text
    assert "data-00000-of-00001.arrow (not of the data set, as state.json" in caplog.text
    folder_of_datasets(folder, shards, _indices_data_files=[{"filename": "indices.arrow"}])
    reason = what_is(str(folder / "data-00000-of-00002.arrow")).reason
    assert "only some rows are chosen" in reason
    (folder / "state.json").write_text("[1")  # who knows what it says
    assert what_is(str(folder / "data-00000-of-00001.arrow")).kind == "arrow"


def test_the_first_bytes_tell_streams_and_files(tmp_path):
    for stream in (True, False):
        path = write(tmp_path / "nameless", table(3), stream)
        assert what_is(str(path)).kind == "arrow" and ids(found(path)) == [0, 1, 2]
    pa.feather.write_feather(table(3), str(tmp_path / "a.feather"), version=1)
    with pytest.raises(DataError, match="a.feather: named as arrow, but it is Feather of version"):
        what_is(str(tmp_path / "a.feather"))
    packed = pa.compress((tmp_path / "nameless").read_bytes(), "gzip", asbytes=True)
    (tmp_path / "b.arrow.gz").write_bytes(packed)
    assert "an Arrow file inside gzip" in what_is(str(tmp_path / "b.arrow.gz")).reason
    assert not ARROW.begins(b"\xff\xff\xff\xff" + bytes(60))


@pytest.mark.parametrize("codec", [None, "zstd", "lz4"])
@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("dictionary", [True, False])
def test_parts_hold_every_row_once_and_kept_rows_are_stored_alike(
    tmp_path, codec, stream, dictionary
):
    made = table(70)
    if dictionary:
        source = pa.array(["a", "b"] * 35).dictionary_encode()
        made = made.append_column("source", source)
    path = write(tmp_path / "a.arrow", made, stream, 8, codec)
    parts, form = ARROW.parts(str(path), os.path.getsize(path), 1500)
    assert len(parts) == 1 if dictionary and stream else len(parts) > 2
    assert [n for part in parts for n in ids(found(path, part))] == list(range(70))
    if len(parts) > 1:
        assert ARROW.before(parts[1]) == ids(found(path, parts[1]))[0]
        assert all(part.size >= 1500 for part in parts[:-1])

    records = [record for part in parts for record in found(path, part, whole=True)]
    output = ARROW.output(str(tmp_path / "kept-0"), str(tmp_path), str(path), FIELDS)
    for record in records[::3]:
        output.write(record.whole)
    output.close()
    assert output.publish()["records"] == 24
    kept = (tmp_path / "kept-0.arrow").read_bytes()
    is_stream = stream or dictionary
    opened = (pa.ipc.open_stream if is_stream else pa.ipc.open_file)(kept)
    assert opened.read_all().to_pylist() == made.to_pylist()[::3]
    assert opened.schema.equals(made.schema, check_metadata=True)
    other = ARROW.parts(str(tmp_path / "kept-0.arrow"), len(kept), 10**6)[1]
    assert other[2:] == form[2:] and other[1] == is_stream


def test_malformed_rows_have_their_place_in_the_file(tmp_path):
    texts = pa.array([b"a", None, b"c", b"d\xff", b" "], pa.binary())
    invalid = pa.StringArray.from_buffers(5, texts.buffers()[1], texts.buffers()[2])
    path = write(tmp_path / "a.arrow", pa.table({"text": invalid, "other": texts}), rows=2)
    with pytest.raises(DataError, match="a.arrow, row 4: invalid UTF-8 .*set|arrow_corpus.on_mal"):
        list(arrow_corpus(path).documents())
    with pytest.raises(DataError, match="a.arrow, row 2: null in column 'other'"):
        list(arrow_corpus(path, "other").documents())
    corpus = arrow_corpus(path, "other", on_malformed="skip")
    assert [d.id for d in corpus.documents()] == [document_id("a", text) for text in "ac"]
    assert corpus.skipped == {"null in column 'other'": 1, "invalid UTF-8": 1, "empty text": 1}
    with pytest.raises(DataError, match="no column 'body'; its columns: text, other; set arrow_c"):
        list(arrow_corpus(path, "body").documents())


@pytest.mark.parametrize("stream", [True, False])
def test_a_file_that_is_cut_anywhere_is_found_out(tmp_path, stream):
    whole = write(tmp_path / "a.arrow", table(40), stream, 8).read_bytes()
    # between two batches of a stream nothing tells that there was more: they are multiples of 8
    for length in [*range(1, len(whole) - 8, 98), len(whole) - 9]:
        (tmp_path / "b.arrow").write_bytes(whole[:length])
        with pytest.raises(DataError, match="b.arrow: cut short, damaged, or not an Arrow file"):
            list(arrow_corpus(tmp_path / "b.arrow").documents())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), stream=st.booleans())
def test_damage_is_an_error_and_never_a_crash(tmp_path_factory, data, stream):
    path = tmp_path_factory.getbasetemp() / "damaged.arrow"
    content = np.frombuffer(write(path, table(20), stream, 8).read_bytes(), np.uint8).copy()
    places = data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4))
    content[places] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content.tobytes())
    try:
        ARROW.parts(str(path), len(content), 100)
        list(arrow_corpus(path, on_malformed="skip").documents())
    except DataError as error:
        assert str(error).startswith((str(path), "corpus 'damaged' holds no documents"))
