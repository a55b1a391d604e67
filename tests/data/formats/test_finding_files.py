import bz2
import gzip
import json
import logging
import os

import pyarrow as pa
import pytest
import tensorflow as tf

from dr_keras.corpus_jobs.source import open_source
from dr_keras.data.formats import listing
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.formats.listing import list_corpus
from dr_keras.data.formats.text import text_corpus
from dr_keras.data.prepare import corpus_from_path
from dr_keras.errors import ConfigurationError, DataError


def line(text):
    return json.dumps({"text": text}).encode() + b"\n"


def zstd(content):
    return pa.compress(content, "zstd", asbytes=True)


@pytest.fixture
def shards(tmp_path):
    """A folder as people download them: shards of many spellings, and what lies beside them."""
    folder = tmp_path / "c4"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.jsonl").write_bytes(line("a"))
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(line("b"))
    (folder / "b.jsonl.zst").write_bytes(sink.getvalue())
    (folder / "c.00000-of-01024.json.gz").write_bytes(gzip.compress(line("c")))
    (folder / "d.json-00000-of-01024").write_bytes(line("d"))
    (folder / "sub" / "e.jl.bz2").write_bytes(bz2.compress(line("e")))
    (folder / "part-00000").write_bytes(line("f"))
    (folder / "README.md").write_text("# a data set")
    (folder / "LICENSE").write_text("do what you like")
    (folder / "dataset_info.json").write_text("{}")
    (folder / "a.jsonl.crc").write_bytes(b"\0")
    (folder / "_SUCCESS").write_bytes(b"")
    (folder / ".a.jsonl.swp").write_bytes(b"\0")
    return folder


TEXTS = ["a", "b", "c", "d", "f", "e"]


def texts(path):
    return [document.text for document in corpus_from_path(path).documents()]


def test_folder_glob_and_list_give_the_same(shards, caplog):
    assert texts(str(shards)) == TEXTS
    (message,) = caplog.messages
    assert message.startswith("4 files are passed over: ")
    for name in ("README.md", "LICENSE", "dataset_info.json", "a.jsonl.crc"):
        assert str(shards / name) in message
    assert message.endswith("(no data but a file that goes with data)")
    assert "_SUCCESS" not in message and "swp" not in message
    files = [str(p) for p in sorted(shards.iterdir()) if p.is_file() and p.name[0] != "."]
    assert sorted(texts([*files, str(shards / "sub")])) == sorted(TEXTS)
    assert sorted(texts([str(shards / "*"), str(shards / "sub" / "*")])) == sorted(TEXTS)
    assert texts(str(shards / "?.*")) == ["a", "b", "c", "d"]
    for name, text in (("c.00000-of-01024.json.gz", "c"), ("part-00000", "f")):
        assert texts(str(shards / name)) == texts(str(shards / f"{name[:-1]}?")) == [text]


def test_the_other_entries_read_the_same_files(shards, caplog):
    source = open_source([str(shards)], 1 << 20)
    paths = source.paths()
    assert source.format.name == "jsonl" and len(paths) == 6
    assert len(caplog.messages) == 1
    assert paths == corpus_from_path(str(shards)).describe()["paths"]
    assert [d.text for d in jsonl_corpus(str(shards)).documents()] == TEXTS
    assert open_source([str(shards / "a.jsonl"), str(shards / "sub")], 1 << 20).paths() == [
        str(shards / "a.jsonl"), str(shards / "sub" / "e.jl.bz2")
    ]  # fmt: skip


def test_what_is_passed_over_is_one_line_however_much_it_is(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    for n in range(40):
        (tmp_path / f"{n:02}.csv").write_text("a,b")
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    (tmp_path / "x\ny.bin").write_bytes(b"\xff")
    assert texts(str(tmp_path)) == ["a"]
    ((_, level, message),) = caplog.record_tuples
    assert level == logging.WARNING and "\n" not in message
    assert message.startswith("43 files are passed over: ")
    assert "04.csv and 35 more (a table of separated values)" in message and "05.csv" not in message
    assert "pipe.jsonl (a pipe)" in message and "gone.jsonl (a link to nothing)" in message
    assert "x\\ny.bin (binary data" in message


def test_nothing_is_said_where_nothing_is_passed_over(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    assert texts(str(tmp_path)) == ["a"] and not caplog.messages


def test_notes_are_text_only_among_text(tmp_path, caplog):
    (tmp_path / "README.md").write_text("read me")
    assert texts(str(tmp_path)) == ["read me"]
    (tmp_path / "a.txt").write_text("prose")
    assert texts(str(tmp_path)) == ["read me", "prose"]
    (tmp_path / "a.txt").rename(tmp_path / "a.csv")
    with pytest.raises(DataError, match="no file in this folder can be read.*a.csv .a table"):
        corpus_from_path(str(tmp_path))
    (tmp_path / "a.csv").rename(tmp_path / "a.txt")
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    with pytest.raises(ConfigurationError, match=r"several kinds \(jsonl, text\)"):
        corpus_from_path(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"several kinds \(jsonl, text\)"):
        corpus_from_path([str(tmp_path / "a.jsonl"), str(tmp_path / "a.txt")])
    (tmp_path / "a.txt").unlink()
    named = [str(tmp_path / "README.md"), str(tmp_path / "a.jsonl")]
    assert texts(str(tmp_path)) == texts(named) == texts(str(tmp_path / "*")) == ["a"]
    caplog.clear()
    assert [d.text for d in text_corpus(str(tmp_path)).documents()] == ["read me"]
    assert "a.jsonl (jsonl, not text)" in caplog.text


def test_what_is_named_is_read_or_refused(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    (tmp_path / "b.csv").write_text("a,b")
    with pytest.raises(DataError, match="b.csv: it is a table of separated values; convert it"):
        corpus_from_path([str(tmp_path / "a.jsonl"), str(tmp_path / "b.csv")])
    with pytest.raises(DataError, match="no file of this glob can be read.*b.csv"):
        corpus_from_path(str(tmp_path / "*.csv"))
    with pytest.raises(DataError, match="no file of this glob can be read.*b.csv"):
        corpus_from_path([str(tmp_path / "a.jsonl"), str(tmp_path / "*.csv")])
    # what the user says a file is holds, whatever its name
    (tmp_path / "b.csv").write_bytes(line("b"))
    assert [d.text for d in jsonl_corpus(str(tmp_path / "b.csv")).documents()] == ["b"]
    assert [d.text for d in jsonl_corpus(str(tmp_path / "*.csv")).documents()] == ["b"]
    assert [d.text for d in jsonl_corpus(str(tmp_path)).documents()] == ["a"]


def test_files_are_visited_once(tmp_path, caplog):
    folder = tmp_path / "data"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "deep" / "a.jsonl").write_bytes(line("a"))
    (folder / "deep" / "er" / "b.jsonl").write_bytes(line("b"))
    for link, target in (("loop", "."), ("deep/er/up", "../.."), ("1st", "deep")):
        (folder / link).symlink_to(target)
    names = ["deep/a.jsonl", "deep/er/b.jsonl"]
    assert list_corpus(str(folder)).paths == [str(folder / name) for name in names]
    (folder / "again.jsonl").symlink_to("deep/a.jsonl")
    found = list_corpus([str(folder / "deep"), str(folder)])
    assert found.paths == [str(folder / name) for name in names]
    repeated = str(folder / "again.jsonl")
    assert found.passed_over[repeated] == f"the same file as {found.paths[0]}, and read once"
    twice = [str(folder / "deep" / "a.jsonl"), str(folder / "loop" / "deep" / "a.jsonl")]
    open_source(twice, 1 << 20)
    assert "the same file as" in caplog.text and "read once" in caplog.text


def test_one_file_by_many_names(tmp_path, monkeypatch, caplog):
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    monkeypatch.chdir(tmp_path)
    absolute = str(tmp_path / "a.jsonl")
    for first in ("a.jsonl", "./a.jsonl", absolute, f"file://{absolute}"):
        others = ["./a.jsonl", absolute, f"file://{absolute}", "*.jsonl", "."]
        assert texts([first, *others]) == ["a"]
        assert [d.text for d in jsonl_corpus([first, *others]).documents()] == ["a"]
    caplog.clear()
    assert texts(["a.jsonl", "a.jsonl"]) == ["a"]
    assert caplog.messages == ["1 file is passed over: a.jsonl (named twice, and read once)"]


def test_names_that_are_not_utf8(tmp_path, caplog):
    def bad(name):
        return os.fsdecode(os.fsencode(tmp_path) + b"/" + name)

    (tmp_path / "a.jsonl").write_bytes(line("a"))
    with open(bad(b"caf\xe9.pdf"), "wb") as file:
        file.write(b"%PDF")
    assert texts(str(tmp_path)) == ["a"]
    assert "caf\\xe9.pdf (a document with markup)" in caplog.text
    with open(bad(b"caf\xe9.jsonl"), "wb") as file:
        file.write(line("b"))
    message = r"caf\\xe9.jsonl: the name of this file is not UTF-8.*rename it"
    for path in (str(tmp_path), bad(b"caf\xe9.jsonl"), bad(b"no\xe9.jsonl")):
        with pytest.raises(DataError, match=message.replace("caf", "(caf|no)")):
            corpus_from_path(path)
        with pytest.raises(DataError, match=message.replace("caf", "(caf|no)")):
            jsonl_corpus(path)
    with pytest.raises(DataError, match=r"not UTF-8 lies there, .*caf\\xe9.*rename it"):
        corpus_from_path(str(tmp_path / "*.jsonl"))


def test_odd_names_work(tmp_path):
    names = ["new\nline.jsonl", "quote'\".jsonl", "[x] *?.jsonl", " .jsonl", "ünï.JSONL"]
    for name in names:
        (tmp_path / name).write_bytes(line(name))
        assert texts(str(tmp_path / name)) == [name]
    assert sorted(texts(str(tmp_path))) == sorted(names)
    (tmp_path / "x.jsonl").mkdir()
    (tmp_path / "x.jsonl" / "y.jsonl").write_bytes(line("y"))
    assert texts(str(tmp_path / "x.jsonl")) == ["y"]


@pytest.mark.parametrize("make", [corpus_from_path, jsonl_corpus, text_corpus])
def test_what_must_not_be_opened_is_refused_by_name(tmp_path, make):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "gone.jsonl").symlink_to("nowhere")
    for path, what in (
        (tmp_path / "pipe.jsonl", "a pipe"), (tmp_path / "gone.jsonl", "a link to nothing"),
        ("/dev/zero", "a device"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=f"{path}: it is {what}; name a file"):
            make(str(path))
    with pytest.raises(DataError, match="a pipe|a link to nothing"):
        make(str(tmp_path / "*.jsonl"))
    with pytest.raises(DataError, match="no file can have such a name"):
        make("a\0b.jsonl")


def test_a_folder_that_cannot_be_read_stops(tmp_path, monkeypatch):
    (tmp_path / "shut").mkdir()
    (tmp_path / "a.jsonl").write_bytes(line("a"))
    real = os.scandir

    def scandir(path):
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return real(path)

    monkeypatch.setattr(listing.os, "scandir", scandir)
    with pytest.raises(DataError, match="shut: the folder cannot be read .Permission denied"):
        corpus_from_path(str(tmp_path))


def test_empty_files_are_read_as_what_they_are_called(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"")
    (tmp_path / "b.jsonl").write_bytes(line("b"))
    assert texts(str(tmp_path)) == ["b"]
    with pytest.raises(DataError, match="holds no documents"):
        texts(str(tmp_path / "a.jsonl"))


def test_text_by_a_list_and_what_is_not_there(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(name)
    named = [str(tmp_path / "b.txt"), str(tmp_path / "a.txt")]
    assert texts(named) == ["b", "a"] == texts([named[0], str(tmp_path)])
    assert corpus_from_path(named).name == "b"
    for path, message in (
        ("", "'': no such file or directory"), (str(tmp_path / "a.txt" / "x"), "Not a directory"),
        ("a" * 300, "File name too long"), (str(tmp_path / "?.md"), "no file matches"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=message):
            corpus_from_path(path)


def test_suffixes_of_text_that_gin_binds(tmp_path):
    import gin

    (tmp_path / "a.tex").write_text("a")
    (tmp_path / "b.html").write_text("b")
    with pytest.raises(DataError, match="no file in this folder can be read"):
        corpus_from_path(str(tmp_path))
    gin.bind_parameter("text_corpus.suffixes", (".tex", ".html"))
    assert texts(str(tmp_path)) == ["a", "b"]
    gin.bind_parameter("text_corpus.name", "mine")
    assert corpus_from_path(str(tmp_path)).name == "mine"


def test_files_that_are_not_local(caplog):
    files = {
        "a.jsonl": line("a"), "sub/b.json": line("b"), "README.md": b"# a", "_c.jsonl": b"c",
        "_d/e.jsonl": b"e",
    }  # fmt: skip
    for name, content in files.items():
        tf.io.gfile.makedirs(os.path.dirname(f"ram://found/{name}"))
        with tf.io.gfile.GFile(f"ram://found/{name}", "wb") as file:
            file.write(content)
    assert texts("ram://found") == ["a", "b"]
    assert caplog.messages == [
        "1 file is passed over: ram://found/README.md (no data but a file that goes with data)"
    ]
    assert texts(["ram://found/a.jsonl", "ram://found/a.jsonl"]) == ["a"]
    with pytest.raises(DataError, match="ram://nowhere: no such file"):
        corpus_from_path("ram://nowhere")
