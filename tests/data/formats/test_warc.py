"""Web archives: WARC and WET."""

import gzip
import os
import sys
import zlib

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from dr_keras.data.documents import document_id
from dr_keras.data.formats import web_pages
from dr_keras.data.formats.base import FORMATS, Part
from dr_keras.data.formats.kinds import what_is
from dr_keras.data.formats.records import default_fields, read_records
from dr_keras.data.formats.warc import warc_corpus
from dr_keras.data.formats.web_pages import decoded
from dr_keras.data.prepare import corpus_from_path
from dr_keras.errors import ConfigurationError, DataError

FORMAT, FIELDS = FORMATS["warc"], {**default_fields("warc"), "extract": "whole"}
PAGE = b"<html><body><p>A page.</p></body></html>"


def record(kind, block, n=0, **headers):
    named = {
        "WARC-Type": kind, "WARC-Record-ID": f"<urn:uuid:{n}>",
        "WARC-Target-URI": f"https://site{n % 2}.example/{n}", **headers,
    }  # fmt: skip
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    head = "\r\n".join(["WARC/1.0", *lines, f"Content-Length: {len(block)}", "", ""])
    return head.encode() + block + b"\r\n\r\n"


def text(n):
    return record("conversion", f"{n} text é\r\n\r\nWARC/1.0 in it".encode() * (n % 4 + 1), n)


def response(body=PAGE, n=0, status="200 OK", **headers):
    named = {"Content_Type": "text/html; charset=utf-8", **headers}
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items()]
    head = "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode()
    http = {"Content-Type": "application/http; msgtype=response"}
    return record("response", head + body, n, **http)


def write(path, *records):
    packed = [gzip.compress(each) for each in records] if path.suffix == ".gz" else records
    path.write_bytes(b"".join(packed))
    return path


def found(path, part=None, whole=True, **fields):
    return list(read_records(FORMAT, part or Part(str(path)), {**FIELDS, **fields}, whole))


def documents(path, **settings):
    return list(warc_corpus(path, "whole", **settings).documents())


def test_texts_of_wet_files_without_any_library(tmp_path):
    path = tmp_path / "CC-MAIN-1.warc.wet.gz"
    language = {"WARC_Identified_Content_Language": "eng"}
    conversion = record("conversion", b"two", 1, **language)
    write(path, record("warcinfo", b"software: x"), text(0), conversion, record("conversion", b" "))
    corpus = corpus_from_path(tmp_path)
    assert [(d.id, d.text, d.source) for d in corpus.documents()] == [
        ("urn:uuid:0", "0 text é\r\n\r\nWARC/1.0 in it", "CC-MAIN-1"),
        ("urn:uuid:1", "two", "CC-MAIN-1"),
    ]
    assert corpus.skipped == {"empty text": 1}
    last = documents(
        path, id_header=None, source_header="host", group_header="WARC-Target-URI",
        label_headers=["WARC-Identified-Content-Language", "host", "None"],
    )[-1]  # fmt: skip
    assert last.id == document_id("site1.example", "two") and last.source == "site1.example"
    assert last.group == "https://site1.example/1"
    assert last.labels == (("WARC-Identified-Content-Language", "eng"), ("host", "site1.example"))


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 400), max_size=9),
    part_bytes=st.integers(1, 3000),
    packed=st.booleans(),
)
def test_parts_hold_every_record_once_and_keep_it_byte_for_byte(
    tmp_path_factory, lengths, part_bytes, packed
):
    path = tmp_path_factory.getbasetemp() / ("parts.warc" + ".gz" * packed)
    made = [record("conversion", b"x" * (n + 1), i) for i, n in enumerate(lengths)]
    write(path, record("warcinfo", b"about"), *made)
    size = os.path.getsize(path)
    parts, form = FORMAT.parts(str(path), size, part_bytes)
    items = [found(path, part) for part in parts]
    records = [item for of_one in items for item in of_one if item is not None]
    assert [r.whole for r in records] == made
    assert sum(part.size for part in parts) == size and form == ("gzip" if packed else "")
    before = [sum(map(len, items[:n])) for n in range(len(parts))]
    assert [FORMAT.before(part) for part in parts] == before
    output = FORMAT.output(str(path.parent / "kept"), str(path.parent), str(path), FIELDS)
    for each in records[1:]:
        output.write(each.whole)
    output.close()
    output.publish()
    kept = path.parent / f"kept.warc{'.gz' * packed}"
    content = kept.read_bytes()
    if packed:  # a member for each record, as readers of web archives expect
        assert content.count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == len(made[1:])
        content = gzip.decompress(content) if content else b""
    assert content == b"".join(made[1:])


def test_pages_of_responses(tmp_path):
    pytest.importorskip("warcio")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PAGE), PAGE)
    path = write(
        tmp_path / "nameless", response(), response(chunked, 1, Transfer_Encoding="chunked"),
        response(gzip.compress(PAGE), 2, Content_Encoding="gzip"),
        response(zlib.compress(PAGE), 3, Content_Encoding="deflate"),
        response("grün".encode("cp1252"), 4, Content_Type="text/plain; Charset='ISO-8859-1'"),
        record("resource", PAGE, 5, Content_Type="text/html"), record("request", b"GET /"),
        response(b"gone", 6, "404 Not Found"), response(b"\x89PNG", 7, Content_Type="image/png"),
        record("response", b"93.184.216.34", 8, Content_Type="text/dns"),
    )  # fmt: skip
    assert what_is(str(path)).kind == "warc"
    corpus = warc_corpus(path, "whole")
    page = PAGE.decode()
    assert [d.text for d in corpus.documents()] == [page, page, page, page, "grün", page]
    assert corpus.skipped == {
        "the HTTP status is not 200": 1, "neither HTML nor plain text": 1, "no HTTP response": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    "bad, reason, detail",
    [
        (response(PAGE, 1, Content_Encoding="br"), "the content encoding is not read", "br.; pip"),
        (response(gzip.compress(bytes(9999)), 1, Content_Encoding="gzip"), "record too long", ""),
        (record("response", b"no HTTP", 1, **{"Content-Type": "application/http"}),
         "no HTTP response can be read", ""),
        (record("conversion", b"a\xff", 1), "invalid UTF-8", "position 1"),
        (record("conversion", b"a" * 3001, 1), "record too long", "max_record_bytes = 3000"),
    ],
)  # fmt: skip
def test_a_malformed_record_stops_with_its_place_or_is_counted(tmp_path, bad, reason, detail):
    pytest.importorskip("warcio")
    path = write(tmp_path / "a.warc", record("warcinfo", b""), text(0), bad, text(2))
    with pytest.raises(DataError, match=f"a.warc, record 3: {reason}.*{detail}"):
        documents(path, max_record_bytes=3000)
    corpus = warc_corpus(path, "whole", on_malformed="skip", max_record_bytes=3000)
    assert [d.id for d in corpus.documents()] == ["urn:uuid:0", "urn:uuid:2"]
    assert corpus.skipped == {reason: 1}


@pytest.mark.parametrize("packed", ["", ".gz"])
def test_a_file_that_is_cut_or_damaged_is_found_out(tmp_path, packed):
    records = [text(n) for n in range(4)]
    ends = {len(b"".join(map(gzip.compress if packed else bytes, records[:n]))) for n in range(5)}
    whole = write(tmp_path / f"a.warc{packed}", *records).read_bytes()
    path = tmp_path / f"b.warc{packed}"
    for length in sorted({*range(1, len(whole), 37), len(whole) - 1} - ends):
        path.write_bytes(whole[:length])
        with pytest.raises(DataError, match="b.warc.*: (the file is cut short|not a whole gzip)"):
            documents(path, on_malformed="skip")
    if not packed:
        longer, none = (whole.replace(b"Length: ", b"Length: " + x, 1) for x in (b"9", b"x"))
        for wrong in (longer, none, whole + b"no record", whole[:70] + b"x" * 70000):
            path.write_bytes(wrong)
            with pytest.raises(DataError, match="b.warc, the record at byte .*: the file is cut"):
                documents(path, on_malformed="skip")


@pytest.mark.parametrize(
    "page, charset, expected",
    [
        ("grün".encode(), "", "grün"),
        ("“grün”".encode("cp1252"), "iso-8859-1", "“grün”"),
        (b"<meta charset=cp1251>" + "да".encode("cp1251"), "", "<meta charset=cp1251>да"),
        (b"<meta charset=latin-1>" + "да".encode(), "utf8", "<meta charset=latin-1>да"),
        (b"\xef\xbb\xbfa", "utf-16", "a"),
        ("ä".encode("utf-16"), "utf-8", "ä"),
        (b"a\xff", "no-such", "a\ufffd"),
        (b"a", "base64", "a"),
    ],
)  # fmt: skip
def test_the_encoding_of_a_page(page, charset, expected):
    assert decoded(page, charset) == expected


def test_libraries_that_are_not_there(tmp_path, monkeypatch):
    path = write(tmp_path / "a.warc", response())
    for module in ("warcio.recordloader", "resiliparse.extract.html2text", "trafilatura"):
        monkeypatch.setitem(sys.modules, module, None)
    for extract in ("resiliparse", "trafilatura"):
        with pytest.raises(ConfigurationError, match=f"extract is '{extract}'.*pip install"):
            web_pages.EXTRACTORS[extract](PAGE, "")
    monkeypatch.setitem(sys.modules, "warcio", None)
    with pytest.raises(ConfigurationError, match="warcio cannot be imported.*dr_keras.web."):
        documents(path)
    with pytest.raises(ConfigurationError, match="warc_corpus.extract must be one of"):
        warc_corpus(path, "beautifulsoup")


def test_what_an_extractor_cannot_read_is_one_record(tmp_path, monkeypatch):
    pytest.importorskip("warcio")

    def failing(page, charset):
        raise RuntimeError("too deep")

    monkeypatch.setitem(web_pages.EXTRACTORS, "own", failing)
    path = write(tmp_path / "a.warc", response(), text(1))
    with pytest.raises(DataError, match="record 1: no text can be taken out .*too deep"):
        list(warc_corpus(path, "own").documents())
    assert len(list(warc_corpus(path, "own", on_malformed="skip").documents())) == 1
