"""Web archives: WARC, whose responses are web pages, and WET, whose records are texts already.
Cut at records where they are not compressed.

The format: https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/. Records
are framed here, so that those that are kept are kept byte for byte; what is inside an HTTP response
is for the library warcio.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import importlib
import io
import urllib.parse

from dr_keras.data.corpora.base import (
    Corpus,
    LeftOut,
    Malformed,
    check_at_least,
    check_choice,
    group_text,
)
from dr_keras.data.documents import Document, decode, make_document
from dr_keras.data.formats.base import Part, Record, parsed, register
from dr_keras.data.formats.framing import Content, FramedFormat
from dr_keras.data.formats.labels import labelled
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import SUFFIXES, bare, file_compression, stem
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.web_pages import EXTRACTORS, decoded
from dr_keras.data.formats.writing import Packed
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system.extras import require_extra
import gin

WEB = {"warcio": "warcio"}  # of the extra `web`, what pages of all kinds need
HOST = "host"  # in place of a header: the host of the page

_END = b"\r\n\r\n"
_LONGEST_HEAD = 1 << 16
_TEXTS = ("conversion",)  # records that are texts
_PAGES = ("response", "resource")  # records that are what a server sent, and the like of it
_HTTP = ("HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3")
_HTML = ("text/html", "application/xhtml+xml")


@gin.configurable
def warc_corpus(
    path: Paths,
    extract: str = "resiliparse",
    id_header: str | None = "WARC-Record-ID",
    source_header: str | None = None,
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_record_bytes: int = 16 << 20,
    max_documents: int | None = None,
    group_header: str | None = None,
    label_headers: Sequence[str] | None = None,
) -> Corpus:
    """A corpus of web archives (.warc, .wet), compressed (.gz, .bz2, .zst) or not.

    Documents are the texts of WET files, and of WARC files the pages that were answered with status
    200, in HTML or plain text; what a server sent otherwise is left out and counted. Records that
    are neither (of requests, revisits, the crawl itself) are no documents, and are not kept either
    where a corpus is filtered.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      extract: how a page in HTML becomes a text: "resiliparse", "trafilatura", or "whole" for the
        page with its markup (see `web_pages`).
      id_header: the header of the record that is the id; records without it, or None, get the hash
        of source and text.
      source_header: the header that is the source, or "host" for the host of the page; records
        without it, or None, get `source`.
      source: source of records that name none; None for the name of the file.
      name: name of the corpus; None for the name of the first path.
      on_malformed: "stop" at a malformed record with its file and number, or "skip" and count it.
        Damage to a file itself always stops.
      max_record_bytes: a longer record is malformed; it is not read into memory.
      max_documents: stop after so many.
      group_header: the header, or "host", whose value documents share that must lie in one part,
        such as "WARC-Target-URI", of which they are versions; records without it are in no group.
      label_headers: headers, or "host", by which a choice is audited, such as
        ['WARC-Identified-Content-Language']; for evaluation only.

    Raises:
      ConfigurationError: a library that is needed is not installed (when read).
      DataError: a path names nothing (at once); a file is damaged or a record malformed (when
        read).
    """
    return file_corpus("warc", **locals())


class Warc(FramedFormat):
    """A whole record is its bytes, with its end."""

    name = "warc"
    suffixes = (".warc", ".wet")
    unit = "record"
    text_argument = "extract"
    group_argument = "group_header"
    label_argument = "label_headers"
    corpus = staticmethod(warc_corpus)

    def begins(self, content):
        return content.startswith(b"WARC/")

    def check(self, fields):
        check_choice("warc_corpus.extract", fields["extract"], EXTRACTORS)
        check_at_least("warc_corpus.max_record_bytes", fields["max_record_bytes"])

    def read(self, part, fields, whole) -> Iterator[Record | Malformed | None]:
        source = fields["source"] or stem(part.path)
        limit = fields["max_record_bytes"]
        with Content(part.path, part.start) as content:
            for record in _records(content, part, limit):
                if record.kind not in (*_TEXTS, *_PAGES):
                    yield None
                elif record.block is None:
                    detail = f"more than max_record_bytes = {limit}"
                    yield Malformed("record too long", detail)
                else:
                    stored = b"".join((record.head, record.block, _END)) if whole else None
                    yield parsed(_document, record, fields, source, whole=stored)

    def starts(self, content, path):
        return (record.start for record in _records(content, Part(path), -1))

    def output(self, path, temporary, like, fields):
        compression = file_compression(like)
        suffix = next((each for each in self.suffixes if bare(like)[0].endswith(each)), ".warc")
        final = f"{path}{suffix}{SUFFIXES[compression]}"
        return Packed(final, temporary, compression, apart=True)


@dataclasses.dataclass
class _Warc:
    """A record.

    Attributes:
      start: offset of its head.
      head: its first lines, with the blank one.
      headers: name in lower case -> value.
      block: the rest, without its end; None where that is too long, or not asked for.
    """

    start: int
    head: bytes
    headers: dict[str, str]
    block: bytes | None

    @property
    def kind(self) -> str:
        return self.headers.get("warc-type", "").lower()

    def value(self, name: str) -> str | None:
        """Of a header, or the host of the page; None where there is none."""
        if name != HOST:
            return self.headers.get(name.lower())
        try:
            return urllib.parse.urlsplit(
                self.headers.get("warc-target-uri", "").strip("<>")
            ).hostname
        except ValueError:
            return None


def _records(content: Content, part: Part, limit: int) -> Iterator[_Warc]:
    """The records of a part; those that can be documents with blocks of at most `limit` bytes.

    Raises:
      DataError: the file is cut short or damaged.
    """
    start = content.offset
    try:
        while part.end is None or start < part.end:
            head = _head(content)
            if not head:
                return
            record = _Warc(start, head, _headers(head), None)
            length = record.headers.get("content-length", "")
            if not length.isdecimal():
                raise EOFError(f"its Content-Length is {length!r}")
            if record.kind in (*_TEXTS, *_PAGES) and int(length) <= limit:
                record.block = content.read(int(length))
            else:
                content.pass_over(int(length))
            if content.read(len(_END)) != _END:
                raise EOFError("it does not end where its Content-Length says")
            yield record
            start = content.offset
    except EOFError as error:
        raise DataError(
            f"{part.path}, the record at byte {start}: the file is cut short, damaged, or no web"
            f" archive ({error}); write or copy it again"
        ) from error


def _head(content: Content) -> bytes:
    """The lines of a head, with the blank one; b"" at the end of the content."""
    lines, left = [content.line(_LONGEST_HEAD)], _LONGEST_HEAD
    if not lines[0]:
        return b""
    if not lines[0].startswith(b"WARC/"):
        raise EOFError(f"a record begins with WARC/, and this with {lines[0][:20]!r}")
    while lines[-1] not in (b"\r\n", b"\n"):
        left -= len(lines[-1])
        if left <= 0 or not lines[-1].endswith(b"\n"):
            raise EOFError("its head has no end")
        lines.append(content.line(left))
    return b"".join(lines)


def _headers(head: bytes) -> dict[str, str]:
    """Name in lower case -> value; of what is given twice the last."""
    found: dict[str, str] = {}
    name = ""
    for line in head.decode("utf-8", "replace").split("\n")[1:]:
        if line[:1] in (" ", "\t") and name:  # goes on with the line before
            found[name] = f"{found[name]} {line.strip()}"
        elif ":" in line:
            name, value = line.split(":", 1)
            name = name.strip().lower()
            found[name] = value.strip()
    return found


def _document(record: _Warc, fields: dict, default_source: str) -> Document:
    if record.kind in _TEXTS:
        try:
            text = decode(record.block or b"")
        except UnicodeDecodeError as error:
            raise Malformed("invalid UTF-8", str(error)) from error
    else:
        text = _page_text(record, fields["extract"], fields["max_record_bytes"])
    named = fields["id_header"] and record.value(fields["id_header"])
    identity = named.removeprefix("<").removesuffix(">") if named else None
    source = fields["source_header"] and record.value(fields["source_header"])
    group = group_text(fields["group_header"] and record.value(fields["group_header"]))
    document = make_document(text, source or default_source, identity or None, group)
    return labelled(document, fields.get("label_headers"), record.value)


def _page_text(record: _Warc, extract: str, limit: int) -> str:
    """The text of a page.

    Raises:
      LeftOut: it is none: an error's, or an image and the like.
      Malformed: the HTTP response cannot be read.
    """
    content_type, page = record.headers.get("content-type", ""), record.block or b""
    if record.kind == "response":
        if not content_type.lower().startswith("application/http"):
            raise LeftOut("no HTTP response", content_type)  # of DNS, for one
        content_type, page = _answer(page, limit)
    kind, *options = (each.strip() for each in content_type.split(";"))
    names = (each.partition("=")[2] for each in options if each.lower().startswith("charset="))
    charset = next(names, "").strip("\"' ")
    if kind.lower() in _HTML:
        try:
            return EXTRACTORS[extract](page, charset)
        except ConfigurationError:  # the library is not there
            raise
        except Exception as error:  # whatever a library finds in one page, others follow
            raise Malformed("no text can be taken out of the page", repr(error)) from error
    if kind.lower() == "text/plain":
        return decoded(page, charset)
    raise LeftOut("neither HTML nor plain text", kind.lower() or "of no type")


def _answer(block: bytes, limit: int) -> tuple[str, bytes]:
    """What an HTTP response says of its type, and its body without the encodings of the transfer.

    Raises:
      LeftOut, Malformed: see `_page_text`.
    """
    require_extra("web", WEB)
    http = importlib.import_module("warcio.statusandheaders")
    records = importlib.import_module("warcio.recordloader")
    stream = io.BytesIO(block)
    try:
        headers = http.StatusAndHeadersParser(_HTTP).parse(stream)
    except (http.StatusAndHeadersParserException, EOFError) as error:
        raise Malformed("no HTTP response can be read", str(error)) from error
    status = headers.get_statuscode()
    if status != "200":
        raise LeftOut("the HTTP status is not 200", status)
    encoding = headers.get_header("content-encoding", "").strip().lower()
    if encoding not in ("", "identity", *records.BufferedReader.get_supported_decompressors()):
        remedy = "pip install brotli, if that is what it says" if encoding == "br" else "mend it"
        raise Malformed("the content encoding is not read", encoding, remedy)
    answer = records.ArcWarcRecord("warc", "response", None, stream, headers, None, len(block))
    body = answer.content_stream().read(limit + 1)
    if len(body) > limit:
        raise Malformed("record too long", f"decompressed, more than max_record_bytes = {limit}")
    return headers.get_header("content-type", ""), body


register(Warc())
