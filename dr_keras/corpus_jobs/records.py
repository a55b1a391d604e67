"""Reading the records of a piece: each with its document, and whole, so that it can be kept whole.

What cannot be read comes as a `Malformed`, and reading goes on; damage to a file as
such stops the job, because nobody knows what is lost.
"""

import collections
from collections.abc import Iterator
import dataclasses
import inspect
import json

from google.protobuf.message import DecodeError
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.corpus_jobs.plan import Piece
from dr_keras.data.corpora import base, files, jsonl, parquet, tfrecord
from dr_keras.data.documents import Document
from dr_keras.data.formats.reading import open_binary
from dr_keras.errors import ConfigurationError, DataError
import gin

_CORPORA = {
    "jsonl": jsonl.jsonl_corpus,
    "parquet": parquet.parquet_corpus,
    "tfrecord": tfrecord.tfrecord_corpus,
}
_UNITS = {"jsonl": "line", "parquet": "row", "tfrecord": "record"}
_UNUSED = ("path", "name", "max_documents")  # where files are read whole
_ROWS = 256  # of Parquet in memory at a time: documents can be long
_SMALL = 1 << 20  # bytes that threads are not worth starting for


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A record that can be scored.

    Attributes:
      document: id, text and source.
      whole: what is written where it is kept: a line without its end (jsonl), a serialized
        tf.train.Example (tfrecord), or (batch, row) (parquet).
    """

    document: Document
    whole: object


@dataclasses.dataclass(frozen=True, slots=True)
class Malformed:
    """A record that cannot be scored.

    Attributes:
      reason: short and countable.
      detail: the rest.
    """

    reason: str
    detail: str = ""


def fields_of(kind: str) -> dict:
    """The arguments that say where text, id and source are: what gin binds for such a corpus
    (`jsonl_corpus.text_field`, ...), else its defaults; but `on_malformed` is "skip" if unbound,
    because files get a list of what could not be read.

    Raises:
      ConfigurationError: a setting is bound that makes no sense here.
    """
    bound = gin.get_bindings(f"{kind}_corpus")
    if bound.pop("max_documents", None) is not None:
        raise ConfigurationError(
            f"{kind}_corpus.max_documents is set, but files are filtered whole: leave it out, or"
            f" filter the corpus with `filter_corpus.corpus = @{kind}_corpus()` instead of --input."
        )
    for unused in _UNUSED:
        bound.pop(unused, None)
    values = {**default_fields(kind), **bound}
    base.check_choice(f"{kind}_corpus.on_malformed", values["on_malformed"], base.ON_MALFORMED)
    return values


def default_fields(kind: str) -> dict:
    """What `fields_of` says where gin binds nothing."""
    parameters = inspect.signature(_CORPORA[kind]).parameters.values()
    values = {p.name: p.default for p in parameters if p.default is not p.empty}
    values["on_malformed"] = "skip"  # what cannot be read is listed
    return {name: value for name, value in values.items() if name not in _UNUSED}


def identifying(fields: dict) -> dict:
    """The fields by which scores and unfinished jobs are known: what is done about malformed
    records changes no document."""
    return {name: value for name, value in fields.items() if name != "on_malformed"}


def read(piece: Piece, fields: dict) -> Iterator[Record | Malformed | None]:
    """Yields one thing for every line, record or row of a piece, in order; None for a blank line.

    Args:
      piece: what to read.
      fields: see `fields_of`.

    Raises:
      DataError: the file is damaged, or lacks the column of the text; a record is malformed, where
        gin binds `on_malformed = "stop"`.
    """
    stops = fields["on_malformed"] == "stop"
    for number, item in enumerate(_READERS[piece.kind](piece, fields), 1):
        if stops and isinstance(item, Malformed):
            place = f"{piece.path}, {_UNITS[piece.kind]} {_before(piece) + number}"
            stop = base.Malformed("stop", collections.Counter(), piece.kind)
            stop(item.reason, place, item.detail)
        if isinstance(item, Record) and (not item.document.text or item.document.text.isspace()):
            yield Malformed("empty text", f"id {item.document.id}")
        else:
            yield item


def _before(piece: Piece) -> int:
    """Lines or rows of the file before the piece: counted only for the message of an error."""
    if not piece.start:
        return 0
    if piece.kind == "parquet":
        with open_binary(piece.path) as raw:
            metadata = pyarrow.parquet.ParquetFile(raw).metadata
        return sum(metadata.row_group(group).num_rows for group in range(piece.start))
    lines, left = 1, piece.start - 1  # a line begins at 0 and after every newline
    for chunk in files.read_chunks(piece.path, decompress=False):
        lines += chunk.count(b"\n", 0, left)
        left -= len(chunk)
        if left <= 0:
            break
    return lines


class _Complaint:
    """What the corpora's readers call with reason, place and detail of a malformed record."""

    def __init__(self):
        self._found: Malformed | None = None

    def __call__(self, reason: str, place: str, detail: str = "", remedy: str = "") -> None:
        self._found = Malformed(reason, detail)

    def or_record(self, document: Document | None, whole: object) -> Record | Malformed:
        return self._found if document is None else Record(document, whole)


def _jsonl(piece: Piece, fields: dict) -> Iterator[Record | Malformed | None]:
    names = fields["text_field"], fields["id_field"], fields["source_field"]
    default_source = fields["source"] or files.stem(piece.path)
    limit = fields["max_line_bytes"]
    complaint = _Complaint()
    for line in _lines(piece, limit):
        if line is None:
            yield Malformed("line too long", f"more than max_line_bytes = {limit}")
            continue
        if not line.strip():
            yield None  # no record: files often end in a blank line
            continue
        try:
            record = json.loads(base.decode(line))
        except UnicodeDecodeError as error:
            yield Malformed("invalid UTF-8", f"byte {error.start + 1} of the line")
        except (ValueError, RecursionError) as error:
            yield Malformed("not JSON", str(error))
        else:
            document = jsonl.read_document(record, names, default_source, piece.path, complaint)
            yield complaint.or_record(document, line)


def _lines(piece: Piece, max_line_bytes: int) -> Iterator[bytes | None]:
    """The lines that begin in the piece, without their ends; None for one that is too long."""
    if piece.start is None:
        for _, line in files.read_lines(piece.path, max_line_bytes):
            yield line
        return
    kept: list[bytes] = []
    length = 0
    skipping = piece.start > 0  # the rest of a line of the piece before
    offset = piece.start - skipping

    def line() -> bytes | None:
        return b"".join(kept).removesuffix(b"\r") if length <= max_line_bytes else None

    for chunk in _chunks_from(piece.path, offset) if piece.end > piece.start else ():
        place = 0
        while place < len(chunk):
            newline = chunk.find(b"\n", place)
            stop = len(chunk) if newline < 0 else newline
            if not skipping:
                length += stop - place
                if length <= max_line_bytes:  # a longer line is never held in memory as a whole
                    kept.append(chunk[place:stop])
                else:
                    kept.clear()
            place = stop + 1
            if newline < 0:
                break
            if not skipping:
                whole, length = line(), 0
                kept.clear()  # before what is done with the line: it may be a large one
                yield whole
            skipping = False
            if offset + place >= piece.end:
                return
        offset += len(chunk)
    if length:
        yield line()


def _chunks_from(path: str, start: int) -> Iterator[bytes]:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            file.seek(start)
            while chunk := file.read(1 << 20):
                yield chunk
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read ({files.reason(error)})") from error


def _tfrecord(piece: Piece, fields: dict) -> Iterator[Record | Malformed]:
    names = fields["feature"], fields["id_feature"], fields["source_feature"]
    default_source = fields["source"] or files.stem(piece.path)
    complaint = _Complaint()
    for _, whole in tfrecord.read_records(piece.path, fields["compression"]):
        try:
            example = tf.train.Example.FromString(whole)
        except DecodeError:
            yield Malformed("not a tf.train.Example")
            continue
        document = tfrecord.read_document(example, names, default_source, piece.path, complaint)
        yield complaint.or_record(document, whole)


def _parquet(piece: Piece, fields: dict) -> Iterator[Record | Malformed]:
    names = fields["text_column"], fields["id_column"], fields["source_column"]
    default_source = fields["source"] or files.stem(piece.path)
    complaint = _Complaint()
    for batch in parquet_batches(piece):
        texts, identities, sources = parquet.read_columns(piece.path, batch, names)
        for row, (identity, source) in enumerate(zip(identities, sources)):
            if texts[row] is None:
                yield Malformed(f"null in column {names[0]!r}")
                continue
            document = base.decoded_document(
                texts[row], identity, source or default_source, piece.path, complaint
            )
            texts[row] = None  # before what is done with the document: it may be a large one
            yield complaint.or_record(document, (batch, row))


def parquet_batches(piece: Piece) -> Iterator[pyarrow.RecordBatch]:
    """The rows of a piece of a Parquet file, with all columns."""
    try:
        with open_binary(piece.path) as raw:
            file = pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True)
            groups = list(range(piece.start, piece.end))
            if groups:
                threads = piece.size > _SMALL
                yield from file.iter_batches(_ROWS, row_groups=groups, use_threads=threads)
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise parquet.damaged(piece.path, error) from error


def parquet_format(path: str) -> tuple[pyarrow.Schema, dict]:
    """The columns of a Parquet file, with the file's own metadata, and how they are stored: the
    arguments `compression`, `use_dictionary` and `write_statistics` of
    `pyarrow.parquet.ParquetWriter`. (Extremes of long texts are not stored, but would cost several
    copies of them.)"""
    with open_binary(path) as raw:
        file = pyarrow.parquet.ParquetFile(raw)
        schema, metadata = file.schema_arrow, file.metadata
    if not metadata.num_row_groups:
        return schema, {}
    group = metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    codecs = {c.path_in_schema: c.compression.replace("UNCOMPRESSED", "NONE") for c in columns}
    return schema, {
        "compression": codecs,
        "use_dictionary": [
            c.path_in_schema for c in columns if any("DICTIONARY" in e for e in c.encodings)
        ],
        "write_statistics": [
            c.path_in_schema for c in columns if c.statistics and c.statistics.has_min_max
        ],
    }


_READERS = {"jsonl": _jsonl, "tfrecord": _tfrecord, "parquet": _parquet}
