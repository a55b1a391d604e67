"""Arrow files, their text in one column: what Hugging Face `datasets` writes into a folder by
`save_to_disk` (streams), and Feather of version 2 (files with a table of their batches). Cut into
record batches.

The frames of a stream are read here, so that a batch is found without reading those before it:
https://arrow.apache.org/docs/format/Columnar.html, "Serialization and Interprocess Communication".
"""

import abc
from collections.abc import Iterator, Sequence
import contextlib
import functools
import json
import os
import re
import struct
from typing import Any

import pyarrow
import pyarrow.ipc
import tensorflow as tf

from dr_keras.data.corpora.base import Corpus, Malformed
from dr_keras.data.formats.base import Format, Part, Record, register
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import SeekableFile, local_path, stem
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.tables import ROWS, Columns, Only, TableOutput, gathered, notes_of
from dr_keras.errors import DataError
import gin

_MAGIC = b"ARROW1"
_CONTINUES = b"\xff\xff\xff\xff"  # before the length of a message
_DICTIONARY, _BATCH = 2, 3  # what a message holds, in the order of the format's `MessageHeader`
_CODECS = ("lz4", "zstd")  # in that of its `CompressionType`
_ROWS_TOGETHER = 1000  # in a batch that is written, as `datasets` has it
# What reading raises where data is not whole, or is none.
_ERRORS = (
    pyarrow.ArrowException, OSError, EOFError, IndexError, struct.error, UnicodeDecodeError,
    tf.errors.OpError,
)  # fmt: skip
_CACHED = re.compile(r"cache-[0-9a-f]{16}(_\d{5}_of_\d{5})?\.arrow")


@gin.configurable
def arrow_corpus(
    path: Paths,
    text_column: str = "text",
    id_column: str | None = "id",
    source_column: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_documents: int | None = None,
    group_column: str | None = None,
    only: Only | None = None,
    label_columns: Sequence[str] | None = None,
) -> Corpus:
    """A corpus of Arrow files, or of a folder that Hugging Face `datasets` wrote.

    A folder of several splits is read whole: name that of one split. A stream that was cut short
    is found out unless it was cut exactly between two batches and its mark of the end with it.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      text_column: the column with the text, of strings or binary in UTF-8; "data.text" is the field
        "text" of the structs in "data", and likewise for the others.
      id_column: the column of the id (strings, integers, or doubles that are integers); files or
        rows without it, or None, get the hash of source and text.
      source_column: the column of the source; files without it, or None, get `source`.
      source: source of rows that name none; None for the name of the file.
      name: name of the corpus; None for the name of the first path.
      on_malformed: "stop" at a malformed row with its file and number (from 1), or "skip" and
        count it. Damage to a file itself always stops.
      max_documents: stop after so many.
      group_column: the column (strings or integers) whose value documents share that must lie in
        one part, such as the page that they are versions of; rows without it are in no group.
      only: column -> the value, or the list of values, that a row must have there, such as
        {'kind': 'clean'}; others are left out and counted.
      label_columns: columns by which a choice is audited, such as ['language', 'licence']; for
        evaluation only. Texts, numbers and truth values count, all else is not known.

    Raises:
      DataError: a path names nothing (at once); a file is damaged or has no such column, a row is
        malformed (when read).
    """
    return file_corpus("arrow", **locals())


class Arrow(Format):
    """Ranges are of record batches. A whole record is (batch, row), with all columns."""

    name = "arrow"
    suffixes = (".arrow", ".feather", ".ipc", ".arrows")
    unit = "row"
    text_argument = "text_column"
    group_argument = "group_column"
    label_argument = "label_columns"
    packed_itself = "an Arrow file"
    corpus = staticmethod(arrow_corpus)

    def begins(self, content):
        if content.startswith(_MAGIC):
            return True
        if not content.startswith(_CONTINUES):
            return False
        try:
            pyarrow.ipc.read_schema(pyarrow.py_buffer(content))
        except (pyarrow.ArrowException, OSError, EOFError):
            return False
        return True

    def refused(self, path, named, content, compression):
        return super().refused(path, named, content, compression) or _not_data(path)

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        source = fields["source"] or stem(part.path)
        with _opened(part.path) as file:
            columns = Columns(part.path, "arrow_corpus", file.schema, fields)
            for batch in file.batches(part.start, part.end):
                _check_values(batch, columns.names)
                for first in range(0, batch.num_rows, ROWS):
                    yield from columns.records(batch.slice(first, ROWS), source, whole)

    def parts(self, path, size, part_bytes):
        with _opened(path) as file:
            sizes, form = file.sizes(size), (file.schema.remove_metadata(), *file.form)
            form = (*form, tuple(sorted(notes_of(file.schema).items())))
        if sizes is None:
            return [Part(path, size=size)], form
        return gathered(path, sizes, part_bytes), form

    def before(self, part):
        with _opened(part.path) as file:
            return sum(batch.num_rows for batch in file.batches(0, part.start or 0))

    def output(self, path, temporary, like, fields):
        with _opened(like) as file:
            schema, (is_stream, codec) = file.schema, file.form
        # in a file all batches share their dictionaries, which those of kept rows need not
        is_stream = is_stream or _has_dictionaries(schema)
        writer = functools.partial(_writer, schema, is_stream, codec)
        return TableOutput(f"{path}.arrow", temporary, writer, _ROWS_TOGETHER)


class _Opened(abc.ABC):
    """An Arrow file that is open.

    Attributes:
      schema: of its batches.
      form: whether it is a stream, and how its buffers are compressed ("lz4", "zstd" or None).
    """

    schema: pyarrow.Schema
    form: tuple[bool, str | None]

    @abc.abstractmethod
    def sizes(self, size: int) -> list[int] | None:
        """Bytes of every batch, about; None where it cannot be read from its middle.

        Args:
          size: of the file.
        """

    @abc.abstractmethod
    def batches(self, start: int | None, end: int | None) -> Iterator[pyarrow.RecordBatch]:
        """The batches of a range, or of all the file."""


class _Table(_Opened):
    """A file that ends in a table of its batches."""

    def __init__(self, source: Any, first_codec: str | None):
        self._file = pyarrow.ipc.open_file(source)
        self.schema, self.form = self._file.schema, (False, first_codec)

    def sizes(self, size):
        count = self._file.num_record_batches
        return [size * (n + 1) // count - size * n // count for n in range(count)]

    def batches(self, start, end):
        for number in range(start or 0, self._file.num_record_batches if end is None else end):
            yield self._file.get_batch(number)


class _Stream(_Opened):
    """Messages one after the other: a schema, perhaps dictionaries, batches."""

    def __init__(self, source: Any):
        self._source = source
        self.schema = pyarrow.ipc.open_stream(source).schema
        self._places: list[tuple[int, int]] = []  # of batches: offset and bytes
        self._is_cut = True
        codec = None
        for offset, size, kind, metadata in _messages(source, 0):
            self._is_cut = self._is_cut and kind != _DICTIONARY
            if kind == _BATCH:
                codec = codec or _codec(metadata)
                self._places.append((offset, size))
        self.form = True, codec

    def sizes(self, size):
        return [bytes_ for _, bytes_ in self._places] if self._is_cut else None

    def batches(self, start, end):
        if not self._is_cut:
            self._source.seek(0)
            yield from pyarrow.ipc.open_stream(self._source)
            return
        for offset, _ in self._places[start:end]:
            self._source.seek(offset)
            message = pyarrow.ipc.read_message(self._source)
            yield pyarrow.ipc.read_record_batch(message, self.schema)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[_Opened]:
    """A file that is open; DataError where it cannot be read as Arrow."""
    local = local_path(path)
    try:
        with contextlib.ExitStack() as stack:
            if local is None:
                source = pyarrow.PythonFile(stack.enter_context(SeekableFile(path)), "r")
            else:  # of which only what is looked at is read
                source = stack.enter_context(pyarrow.memory_map(local))
            if source.read(len(_MAGIC)) == _MAGIC:
                codecs = (
                    _codec(found) for *_, kind, found in _messages(source, 8) if kind == _BATCH
                )
                yield _Table(source, next(codecs, None))
            else:
                source.seek(0)
                yield _Stream(source)
    except _ERRORS as error:
        raise DataError(
            f"{path}: cut short, damaged, or not an Arrow file ({error}); write or copy it again"
        ) from error


def _messages(source: Any, start: int) -> Iterator[tuple[int, int, int, bytes]]:
    """Yields (offset, bytes, what it holds, metadata) of the messages of a stream, whose bodies are
    not read.

    Raises:
      EOFError: it ends within one.
    """
    end = source.size()
    while start < end:
        source.seek(start)
        head = source.read(8)
        if len(head) < 8 and head != bytes(4):
            raise EOFError("it ends within a message")
        marked = head[:4] == _CONTINUES  # streams of Arrow before 0.15 have none
        (length,) = struct.unpack("<i", head[4:] if marked else head[:4])
        if length == 0:
            return  # the mark of the end
        first = start + (8 if marked else 4)
        source.seek(first)
        metadata = source.read(max(length, 0))
        table = struct.unpack_from("<I", metadata)[0]
        kind = _field(metadata, table, 1)
        body = _field(metadata, table, 3)
        size = first - start + length
        size += struct.unpack_from("<q", metadata, body)[0] if body else 0
        if length < 0 or size < length or start + size > end:
            raise EOFError("it ends within a message")
        yield start, size, metadata[kind] if kind else 0, metadata
        start += size


def _field(buffer: bytes, table: int, number: int) -> int:
    """Where the field of a table lies in a FlatBuffer; 0 for one that is not there."""
    fields = table - struct.unpack_from("<i", buffer, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", buffer, fields)[0]:
        return 0
    offset = struct.unpack_from("<H", buffer, fields + place)[0]
    return table + offset if offset else 0


def _codec(metadata: bytes) -> str | None:
    """How the buffers of a record batch are compressed."""
    batch = _inner(metadata, struct.unpack_from("<I", metadata)[0], 2)
    compression = _inner(metadata, batch, 3) if batch else 0
    if not compression:
        return None
    codec = _field(metadata, compression, 0)
    return _CODECS[metadata[codec] if codec else 0]


def _inner(buffer: bytes, table: int, number: int) -> int:
    """Where the table lies that is a field of another one; 0 for one that is not there."""
    place = _field(buffer, table, number)
    return place + struct.unpack_from("<I", buffer, place)[0] if place else 0


def _check_values(batch: pyarrow.RecordBatch, names: Sequence[str]) -> None:
    """Raises pyarrow.ArrowException where offsets or indices point to what is not there: the format
    has no checksums. Whether texts are UTF-8 is seen row by row."""
    for name in names:
        column = batch.column(name)
        if pyarrow.types.is_string(column.type):
            column = column.view(pyarrow.binary())
        elif pyarrow.types.is_large_string(column.type):
            column = column.view(pyarrow.large_binary())
        column.validate(full=True)


def _has_dictionaries(schema: pyarrow.Schema) -> bool:
    return any(map(_is_of_dictionaries, schema.types))


def _is_of_dictionaries(kind: pyarrow.DataType) -> bool:
    inner = (kind.field(number).type for number in range(kind.num_fields))
    return pyarrow.types.is_dictionary(kind) or any(map(_is_of_dictionaries, inner))


def _writer(schema: pyarrow.Schema, is_stream: bool, codec: str | None, file) -> "_Batches":
    options = pyarrow.ipc.IpcWriteOptions(compression=codec)
    new = pyarrow.ipc.new_stream if is_stream else pyarrow.ipc.new_file
    return _Batches(new(file, schema, options=options))


class _Batches:
    """Writes tables as a batch each."""

    def __init__(self, writer: Any):
        self._writer = writer
        self.close = writer.close

    def write_table(self, table: pyarrow.Table) -> None:
        self._writer.write_table(table.combine_chunks())


def _not_data(path: str) -> tuple[str, str] | None:
    """What an Arrow file in a folder of `datasets` is that is no data of it, and what to do."""
    folder, name = os.path.split(path)
    if _CACHED.fullmatch(name):
        return "what `datasets` cached of another computation", "name the data set's own files"
    state = _state(os.path.join(folder, "state.json"))
    if state.get("_indices_data_files"):
        return (
            "of a data set of which only some rows are chosen, as _indices_data_files in state.json"
            " beside it says",
            "write it by .flatten_indices().save_to_disk(...)",
        )
    files = state.get("_data_files")
    if isinstance(files, list) and not any(_names(file, name) for file in files):
        return "not of the data set, as state.json beside it says", "name the data set's own files"
    return None


def _names(file: object, name: str) -> bool:
    return isinstance(file, dict) and file.get("filename") == name


def _state(path: str) -> dict:
    """What `save_to_disk` says of the folder; nothing where it wrote none."""
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            found = json.loads(file.read())
    except (tf.errors.OpError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


register(Arrow())
