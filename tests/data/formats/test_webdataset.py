"""WebDataset: samples of members of tar files."""

import gzip
import io
import json
import os
import tarfile

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from dr_keras.data.documents import document_id
from dr_keras.data.formats.base import FORMATS, Part
from dr_keras.data.formats.kinds import what_is
from dr_keras.data.formats.records import default_fields, read_records
from dr_keras.data.formats.webdataset import webdataset_corpus
from dr_keras.data.prepare import corpus_from_path
from dr_keras.errors import DataError

FORMAT, FIELDS = FORMATS["webdataset"], default_fields("webdataset")


def write(path, members, form=tarfile.PAX_FORMAT):
    """A tar file of (name, content) in order; content None makes a folder."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=form) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type = tarfile.DIRTYPE if content is None else tarfile.REGTYPE
            info.size = len(content or b"")
            tar.addfile(info, io.BytesIO(content or b""))
    packed = raw.getvalue()
    path.write_bytes(gzip.compress(packed) if path.suffix == ".gz" else packed)
    return path


def samples(count):
    """Samples of a text, JSON and an image each."""
    for n in range(count):
        about = json.dumps({"id": n, "text": f"of JSON {n}", "page": {"site": f"s{n % 2}"}})
        yield f"a/{n:04d}.txt", f"{n} text é".encode() * (n % 4 + 1)
        yield f"a/{n:04d}.json", about.encode()
        yield f"a/{n:04d}.seg.png", bytes(range(256)) * (n % 5)


def found(path, part=None, whole=True, **fields):
    return list(read_records(FORMAT, part or Part(str(path)), {**FIELDS, **fields}, whole))


def test_texts_of_members_and_of_fields_in_json(tmp_path, caplog):
    write(tmp_path / "shard-000000.tar", [("a", None), ("readme", b"x"), *samples(3)])
    write(tmp_path / "shard-000001.tar.gz", [("__meta__.json", b"{"), ("b.TXT", b"b")])
    corpus = corpus_from_path(tmp_path)
    assert [(d.id, d.text, d.source) for d in corpus.documents()] == [
        ("a/0000", "0 text é", "shard-000000"),
        ("a/0001", "1 text é" * 2, "shard-000000"),
        ("a/0002", "2 text é" * 3, "shard-000000"),
        ("b", "b", "shard-000001"),
    ]
    corpus = webdataset_corpus(
        tmp_path / "shard-000000.tar", "json.text", "json.id", "json.page.site",
        group_field="json.page.site", label_fields=["json.id", "txt", "json.none"],
    )  # fmt: skip
    last = list(corpus.documents())[-1]
    assert (last.id, last.text, last.source, last.group) == ("2", "of JSON 2", "s0", "s0")
    assert last.labels == (("json.id", "2"), ("txt", "2 text é" * 3))
    (first, *_) = webdataset_corpus(tmp_path / "shard-000000.tar", id_field=None).documents()
    assert first.id == document_id("shard-000000", "0 text é")


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_in_all_forms_of_tar(tmp_path, form):
    long = form != tarfile.USTAR_FORMAT
    name = ("folder/" * 12 + "é" * (90 if long else 9)) + ("x" * 90) * long
    path = write(tmp_path / "nameless", [(f"{name}.txt", b"one"), ("b.txt", b"two")], form)
    assert what_is(str(path)).kind == "webdataset"
    assert [(r.document.id, r.document.text) for r in found(path)] == [(name, "one"), ("b", "two")]


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 1300), min_size=1, max_size=3), max_size=9),
    part_bytes=st.integers(1, 9000),
)
def test_parts_hold_every_sample_once_and_whole(tmp_path_factory, sizes, part_bytes):
    path = tmp_path_factory.getbasetemp() / "parts.tar"
    members = [("readme", b"no sample")]
    for n, of_one in enumerate(sizes):
        members += [(f"{n}.txt", b"text")] + [(f"{n}.x{i}", b"x" * s) for i, s in enumerate(of_one)]
    write(path, members)
    parts, form = FORMAT.parts(str(path), os.path.getsize(path), part_bytes)
    records = [r for part in parts for r in found(path, part)]
    assert [r.document.id for r in records] == [str(n) for n in range(len(sizes))]
    assert form == "" and sum(part.size for part in parts) == os.path.getsize(path)
    starts = [n for part in parts for n in (int(r.document.id) for r in found(path, part)[:1])]
    assert starts == [FORMAT.before(part) for part in parts if found(path, part)]

    output = FORMAT.output(str(path) + "-kept", str(path.parent), str(path), FIELDS)
    for record in records:
        output.write(record.whole)
    output.close()
    output.publish()
    with tarfile.open(f"{path}-kept.tar") as tar:
        again = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]
    assert again == members[1:]


def test_a_compressed_file_is_read_and_kept_compressed(tmp_path):
    path = write(tmp_path / "a.tar.gz", samples(20))
    parts, form = FORMAT.parts(str(path), os.path.getsize(path), 1)
    assert parts == [Part(str(path), size=os.path.getsize(path))] and form == "gzip"
    output = FORMAT.output(str(tmp_path / "kept"), str(tmp_path), str(path), FIELDS)
    for record in found(path)[5:7]:
        output.write(record.whole)
    output.close()
    output.publish()
    assert [r.document.id for r in found(tmp_path / "kept.tar.gz")] == ["a/0005", "a/0006"]


@pytest.mark.parametrize(
    "members, reason, detail",
    [
        ([("b.json", b"{}")], "no field 'txt'", "the members of 'b': 'json'.; set webdataset"),
        ([("b.txt", b"a\xff")], "invalid UTF-8", "'txt' of the sample 'b'"),
        ([("b.txt", b"a"), ("b.TXT", b"b")], "two members 'txt'", "'b'.; name them otherwise"),
        ([("b.txt", b"a" * 3000)], "sample too long", "'b' has more than max_sample_bytes = 3000"),
    ],
)
def test_a_malformed_sample_stops_with_its_place_or_is_counted(tmp_path, members, reason, detail):
    path = write(tmp_path / "a.tar", [("a.txt", b"good"), *members, ("c.txt", b"too")])
    with pytest.raises(DataError, match=f"a.tar, sample 2: {reason} .*{detail}"):
        list(webdataset_corpus(path, max_sample_bytes=3000).documents())
    corpus = webdataset_corpus(path, on_malformed="skip", max_sample_bytes=3000)
    assert [d.text for d in corpus.documents()] == ["good", "too"]
    assert corpus.skipped == {reason: 1}


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"{", "a member is not JSON"), (b'{"id": [1], "text": "x"}', "field 'json.id' is no str"),
        (b'{"text": 5}', "field 'json.text' is not a string"), (b"[]", "no field 'json.text'"),
        (b'{"text": "\\ud800"}', "invalid Unicode"),
    ],
)  # fmt: skip
def test_malformed_json(tmp_path, content, reason):
    path = write(tmp_path / "a.tar", [("a.json", content)])
    with pytest.raises(DataError, match=f"a.tar, sample 1: {reason}"):
        list(webdataset_corpus(path, "json.text", "json.id").documents())


def test_members_that_nobody_asks_for_are_not_held(tmp_path):
    path = write(tmp_path / "a.tar", [("a.txt", b"text"), ("a.mp4", bytes(1 << 20))])
    few = {"max_sample_bytes": 4096}
    (record,) = found(path, whole=False, **few)
    assert record.document.text == "text" and record.whole is None
    (malformed,) = found(path, whole=True, **few)
    assert malformed.reason == "sample too long"


def test_a_file_that_is_cut_or_damaged_anywhere_is_found_out(tmp_path):
    whole = write(tmp_path / "a.tar", samples(4)).read_bytes()
    end = len(whole.rstrip(b"\0")) // 512 * 512 + 512
    for length in [*range(0, end, 256), end - 1]:
        (tmp_path / "b.tar").write_bytes(whole[:length])
        with pytest.raises(DataError, match="b.tar, byte .*: the file is cut short, damaged, or n"):
            list(webdataset_corpus(tmp_path / "b.tar", on_malformed="skip").documents())
    damaged = bytearray(whole)
    damaged[whole.index(b"a/0002.json")] ^= 1
    (tmp_path / "b.tar").write_bytes(damaged)
    with pytest.raises(DataError, match="b.tar, byte .*: the file is cut short, damaged, or not"):
        list(webdataset_corpus(tmp_path / "b.tar").documents())
    (tmp_path / "b.tar").write_bytes(whole + whole)
    with pytest.raises(DataError, match="b.tar: a second archive, or something else, follows"):
        list(webdataset_corpus(tmp_path / "b.tar").documents())
