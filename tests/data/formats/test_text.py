import gzip

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from dr_keras.data.formats.text import text_corpus
from dr_keras.errors import DataError


def test_a_folder_gives_one_document_a_file(tmp_path):
    books = tmp_path / "books"
    (books / "poems").mkdir(parents=True)
    (books / "a.txt").write_bytes(b"one\r\n\r\ntwo\n")
    (books / "b.md.gz").write_bytes(gzip.compress("drei \u00fc".encode()))
    (books / "poems" / "c.rst").write_bytes(b"four")
    (books / "d.py").write_bytes(b"no prose")
    (books / "empty.txt").write_bytes(b"")
    corpus = text_corpus(books)
    documents = list(corpus.documents())
    assert [(d.text, d.source) for d in documents] == [
        ("one\n\ntwo", "books"),
        ("drei \u00fc", "books"),
        ("four", "poems"),
    ]
    assert {d.corpus for d in documents} == {"books"}
    assert corpus.skipped == {"empty text": 1}
    (only,) = text_corpus(books, suffixes=(".py",), source="code").documents()
    assert (only.text, only.source) == ("no prose", "code")


def test_blank_lines_split_documents(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"\n\none\nmore\n \t\n\ntwo\n\n")
    corpus = text_corpus(path, split_on_blank_lines=True)
    assert [d.text for d in corpus.documents()] == ["one\nmore", "two"]
    assert corpus.skipped == {}
    assert [d.text for d in text_corpus(path).documents()] == ["\n\none\nmore\n \t\n\ntwo\n"]


@settings(deadline=None)  # it writes files
@given(st.lists(st.text(alphabet="ab \n", min_size=1), max_size=6))
def test_splitting_loses_nothing_but_blank_lines(tmp_path_factory, pieces):
    path = tmp_path_factory.mktemp("any") / "a.txt"
    text = "x\n\n" + "\n".join(pieces)
    path.write_text(text)
    documents = [d.text for d in text_corpus(path, split_on_blank_lines=True).documents()]
    kept = [line for line in text.split("\n") if line.strip()]
    assert [line for d in documents for line in d.split("\n")] == kept


def test_invalid_utf8_names_the_line(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\n\nfine\nbad \xff\n\nlast")
    with pytest.raises(DataError, match=r"a.txt, line 4: invalid UTF-8 .*position 9"):
        list(text_corpus(path, split_on_blank_lines=True).documents())
    with pytest.raises(DataError, match=r"a.txt, line 4: invalid UTF-8"):
        list(text_corpus(path).documents())
    corpus = text_corpus(path, split_on_blank_lines=True, on_malformed="skip")
    assert [d.text for d in corpus.documents()] == ["good", "last"]
    assert corpus.skipped == {"invalid UTF-8": 1}


@pytest.mark.parametrize("long", [b"x" * 12, b"xxxxx\nxxxxx"])
def test_a_long_document_is_malformed(tmp_path, long):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\nlines\n\n" + long + b"\n\nlast")
    with pytest.raises(DataError, match="line 4: document too long .more than max"):
        list(text_corpus(path, True, max_document_bytes=10).documents())
    corpus = text_corpus(path, True, max_document_bytes=10, on_malformed="skip")
    assert [d.text for d in corpus.documents()] == ["good\nlines", "last"]
    assert corpus.skipped == {"document too long": 1}
    assert len(list(text_corpus(path, max_document_bytes=100).documents())) == 1
    with pytest.raises(DataError, match=r"line 1: document too long"):
        list(text_corpus(path, max_document_bytes=20).documents())


def test_missing_and_empty(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        text_corpus(tmp_path / "no.txt")
    with pytest.raises(DataError, match="no file in this directory ends in .txt"):
        text_corpus(tmp_path)
    (tmp_path / "a.txt").write_text(" \n")
    with pytest.raises(DataError, match="holds no documents"):
        list(text_corpus(tmp_path).documents())
