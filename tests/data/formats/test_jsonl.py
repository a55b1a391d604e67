import gzip
import json
import pathlib
import re

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from dr_keras.data.documents import content_key, document_id
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError, DataError
import gin

SHARED = pathlib.Path(__file__).resolve().parents[4] / "shared" / "data" / "text"


def write(path: pathlib.Path, *lines: object) -> pathlib.Path:
    """Writes lines (bytes as they are, anything else as JSON); gzip if the name says so."""
    raw = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    content = b"\n".join(raw) + b"\n"
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


def test_fields_defaults_and_order(tmp_path):
    path = write(
        tmp_path / "web.v2.jsonl",
        {"text": "one", "id": "a", "source": "s"},
        b"",
        {"text": "two", "id": 7},
        {"text": "three", "id": "", "source": None},
        b"   ",
    )
    corpus = jsonl_corpus(path)
    documents = list(corpus.documents())
    assert [(d.id, d.text, d.source) for d in documents] == [
        ("a", "one", "s"),
        ("7", "two", "web"),
        (document_id("web", "three"), "three", "web"),
    ]
    assert {d.corpus for d in documents} == {"web"} == {corpus.name}
    assert documents[0].key == content_key("one")
    assert documents[0].level is None and documents[0].damage is None
    assert list(corpus.documents()) == documents  # a second pass is the same
    assert corpus.skipped == {}


def test_other_fields_and_names(tmp_path):
    path = write(tmp_path / "x.jsonl", {"content": "one", "id": "a", "url": "u", "source": "s"})
    corpus = jsonl_corpus(
        path, "content", id_field="url", source="mine", source_field=None, name="n"
    )
    (document,) = corpus.documents()
    assert (document.id, document.source, document.corpus) == ("u", "mine", "n")
    (document,) = jsonl_corpus(path, "content", id_field=None).documents()
    assert document.id == document_id("s", "one")


def test_a_directory_a_glob_and_a_list(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / ".hidden").mkdir()
    b = write(tmp_path / "b.jsonl", {"text": "b"})
    a = write(tmp_path / "sub" / "a.jsonl.gz", {"text": "a"})
    write(tmp_path / ".hidden" / "c.jsonl", {"text": "c"})
    write(tmp_path / "_d.jsonl", {"text": "d"})
    write(tmp_path / "manifest.json", {"no": "text"})

    def texts(path):
        return [d.text for d in jsonl_corpus(path).documents()]

    assert texts(tmp_path) == ["b", "a"]
    assert texts(str(tmp_path / "*.jsonl")) == ["d", "b"]
    assert texts([a, tmp_path]) == ["a", "b"]  # each file once
    bracket = write(tmp_path / "e[1].jsonl", {"text": "e"})
    assert texts(bracket) == ["e"]
    assert texts(b) == ["b"]


def test_missing_paths_are_refused_at_once(tmp_path):
    with pytest.raises(DataError, match="nothere.jsonl: no such file or directory; check the path"):
        jsonl_corpus(tmp_path / "nothere.jsonl")
    with pytest.raises(DataError, match=r"\*.jsonl: no file matches"):
        jsonl_corpus(str(tmp_path / "*.jsonl"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"no file in this directory ends in .jsonl, .ndjson"):
        jsonl_corpus(tmp_path)
    with pytest.raises(ConfigurationError, match="list of paths is empty"):
        jsonl_corpus([])


def test_fields_of_objects_by_a_path(tmp_path):
    path = write(
        tmp_path / "x.jsonl",
        {"data": {"text": "a", "id": 7, "where": {"url": "u"}}},
        {"data": {"text": "b"}, "data.text": "B"},  # a key that is written like the path
        {"data": {"text": "c", "where": "here"}},
    )
    corpus = jsonl_corpus(path, "data.text", "data.id", "data.where.url")
    assert [(d.text, d.source) for d in corpus.documents()] == [("a", "u"), ("B", "x"), ("c", "x")]
    assert next(corpus.documents()).id == "7"
    message = "line 1: no field 'data.body' .its fields: 'data'.; set jsonl_corpus.text_field, or"
    with pytest.raises(DataError, match=message):
        list(jsonl_corpus(path, "data.body").documents())
    with pytest.raises(DataError, match="line 1: field 'data.where' is not a string .it is a dict"):
        list(jsonl_corpus(path, "data.where").documents())


def test_integers_that_pandas_made_floats(tmp_path):
    ids = [12.0, None, -3.0]
    path = write(tmp_path / "x.jsonl", *({"text": f"t{n}", "id": id} for n, id in enumerate(ids)))
    found = [d.id for d in jsonl_corpus(path).documents()]
    assert found == ["12", document_id("x", "t1"), "-3"]


MALFORMED = [
    (b"{'text': 1}", "not JSON", "Expecting property name"),
    (b'{"text": "cut sho', "not JSON", "Unterminated string"),
    (b"[" * 100_000, "not JSON", ""),
    (b'["text"]', "not a JSON object", "it is a list"),
    (b'{"body": "x", "n": 1}', "no field 'text'", "its fields: 'body', 'n'"),
    (b"{}", "no field 'text'", "its fields: none"),
    (b'{"text": null}', "field 'text' is not a string", "NoneType"),
    (b'{"text": 3}', "field 'text' is not a string", "int"),
    (b'{"text": "a", "id": [1]}', "field 'id' is no string or integer", "list"),
    (b'{"text": "a", "id": 1.5}', "field 'id' is no string or integer", "float"),
    (b'{"text": "a", "id": 1e300}', "field 'id' is no string or integer", "too large"),
    (b'{"text": "a", "id": true}', "field 'id' is no string or integer", "bool"),
    (b'{"text": "a\xff"}', "invalid UTF-8", "byte 12 of the line"),
    (b'{"text": "\\ud800"}', "invalid Unicode", "surrogate"),
    (b'{"text": "' + b"x" * 3000 + b'"}', "line too long", "more than max_line_bytes = 2000"),
]


@pytest.mark.parametrize("line, reason, detail", MALFORMED, ids=range(len(MALFORMED)))
def test_a_malformed_line_stops_with_its_place_or_is_counted(tmp_path, line, reason, detail):
    path = write(tmp_path / "x.jsonl", {"text": "good"}, line, {"text": "also good"})
    limit = 2000 if reason == "line too long" else 8 << 20
    documents = jsonl_corpus(path, max_line_bytes=limit).documents()
    assert next(documents).text == "good"
    message = rf"{re.escape(str(path))}, line 2: {re.escape(reason)}.*{re.escape(detail)}.*"
    with pytest.raises(DataError, match=message + 'on_malformed="skip"'):
        next(documents)

    corpus = jsonl_corpus(path, on_malformed="skip", max_line_bytes=limit)
    assert [d.text for d in corpus.documents()] == ["good", "also good"]
    assert corpus.skipped == {reason: 1}
    assert corpus.describe()["skipped"] == {reason: 1}


def test_a_ten_megabyte_line_by_default_limits(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": "x" * 10_000_000}, {"text": "good"})
    with pytest.raises(DataError, match="line 1: line too long .more than .* = 8388608"):
        list(jsonl_corpus(path).documents())
    assert [d.text for d in jsonl_corpus(path, on_malformed="skip").documents()] == ["good"]
    (long, _) = jsonl_corpus(path, max_line_bytes=11_000_000).documents()
    assert long.text == "x" * 10_000_000


def test_empty_texts_are_counted_and_an_empty_corpus_is_refused(tmp_path):
    path = write(tmp_path / "x.jsonl", {"text": ""}, {"text": " \n"}, {"text": "a"})
    corpus = jsonl_corpus(path)
    assert [d.text for d in corpus.documents()] == ["a"]
    assert corpus.skipped == {"empty text": 2}

    empty = write(tmp_path / "empty.jsonl", {"text": " "})
    message = r"'empty' holds no documents: nothing to read in .*empty.jsonl .skipped: 1 x empty"
    with pytest.raises(DataError, match=message):
        list(jsonl_corpus(empty).documents())


def test_a_damaged_gzip_file_is_named(tmp_path):
    rows = [{"text": f"{i * 7919}"} for i in range(2000)]
    whole = write(tmp_path / "x.jsonl.gz", *rows)
    assert len(list(jsonl_corpus(whole).documents())) == 2000
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(whole.read_bytes()[:-500])
    with pytest.raises(DataError, match=r"cut.jsonl.gz: not a whole gzip file"):
        list(jsonl_corpus(cut, on_malformed="skip").documents())
    cut.write_bytes(b"plain")
    with pytest.raises(DataError, match=r"cut.jsonl.gz: not a whole gzip file"):
        list(jsonl_corpus(cut).documents())


def test_byte_order_mark_windows_line_ends_and_limits(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\r\n{"text": "b"}\r\n{"text": "c"}')
    assert [d.text for d in jsonl_corpus(path).documents()] == ["a", "b", "c"]
    assert [d.text for d in jsonl_corpus(path, max_documents=2).documents()] == ["a", "b"]
    with pytest.raises(ConfigurationError, match="max_documents of corpus 'x' must be at least 1"):
        jsonl_corpus(path, max_documents=0)
    with pytest.raises(ConfigurationError, match="on_malformed must be one of 'stop', 'skip'"):
        jsonl_corpus(path, on_malformed="ignore")


@settings(deadline=None)  # it writes files
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_any_text_survives(tmp_path_factory, texts):
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    lines = [json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts]
    path.write_bytes("".join(lines).encode())
    corpus = jsonl_corpus(path)
    kept = [text for text in texts if text and not text.isspace()]
    if kept:
        assert [d.text for d in corpus.documents()] == kept
    else:
        with pytest.raises(DataError, match="holds no documents"):
            list(corpus.documents())
    assert corpus.skipped["empty text"] == len(texts) - len(kept)


@settings(deadline=None)  # it writes files
@given(st.lists(st.binary(max_size=40), max_size=8))
def test_any_bytes_are_read_or_counted_never_worse(tmp_path_factory, lines):
    path = tmp_path_factory.mktemp("any") / "x.jsonl"
    path.write_bytes(b'{"text": "good"}\n' + b"\n".join(lines))
    corpus = jsonl_corpus(path, on_malformed="skip")
    assert next(corpus.documents()).text == "good"
    list(corpus.documents())
    records = [line for line in b"\n".join(lines).split(b"\n") if line.strip()]
    assert corpus.skipped.total() == len(records)


def test_by_gin(tmp_path):
    write(tmp_path / "x.jsonl", {"body": "a"})
    gin.parse_config(f"jsonl_corpus.path = '{tmp_path}'\njsonl_corpus.text_field = 'body'")
    assert [d.text for d in jsonl_corpus().documents()] == ["a"]


@pytest.mark.skipif(not SHARED.is_dir(), reason="the development corpora are not here")
def test_a_development_corpus():
    corpus = jsonl_corpus(SHARED / "pubmed_abstracts.jsonl", source_field="domain")
    documents = list(corpus.documents())
    assert len(documents) > 500
    assert len({d.id for d in documents}) == len({(d.source, d.key) for d in documents})
