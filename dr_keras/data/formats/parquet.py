"""Parquet files, their text in one column. Cut into row groups."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora.base import Corpus, LeftOut, Malformed, decoded_document, is_one_of
from dr_keras.data.documents import Document
from dr_keras.data.formats.base import DECOMPRESS, Format, Part, Record, parsed, register
from dr_keras.data.formats.labels import check_labels, labelled
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import open_binary, stem
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.writing import GFileWriter, Output
from dr_keras.errors import DataError
import gin

_ROLES = ("text_column", "id_column", "source_column", "group_column")
_ROWS = 256  # in memory at a time: documents can be long
_SMALL = 1 << 20  # bytes that threads are not worth starting for
_GROUP = 4096  # rows in a row group that is written


@gin.configurable
def parquet_corpus(
    path: Paths,
    text_column: str = "text",
    id_column: str | None = "id",
    source_column: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_documents: int | None = None,
    group_column: str | None = None,
    only: Mapping[str, str | int | float | bool | Sequence] | None = None,
    label_columns: Sequence[str] | None = None,
) -> Corpus:
    """A corpus of Parquet files; only the columns named are read.

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
    return file_corpus("parquet", **locals())


class Parquet(Format):
    """Ranges are of row groups. A whole record is (batch, row), with all columns of the file."""

    name = "parquet"
    suffixes = (".parquet", ".pq")
    unit = "row"
    text_argument = "text_column"
    group_argument = "group_column"
    corpus = staticmethod(parquet_corpus)

    def begins(self, content):
        return content.startswith(b"PAR1")

    def refused(self, path, named, content, compression):
        if not compression:
            return None
        return f"a Parquet file inside {compression}, which is not read", DECOMPRESS

    def check(self, fields):
        check_labels("parquet_corpus.label_columns", fields.get("label_columns"))

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        default_source = fields["source"] or stem(part.path)
        columns = tuple(fields[role] for role in _ROLES)
        with _opened(part.path) as file:
            places = _find_columns(part.path, file.schema_arrow, columns)
            only = _conditions(part.path, file.schema_arrow, fields.get("only"))
            named = [n for n in fields.get("label_columns") or () if n in file.schema_arrow.names]
            read = [column for column, place in zip(columns, places) if place is not None]
            groups = None if part.start is None else list(range(part.start, part.end))
            if groups == []:
                return
            batches = file.iter_batches(
                _ROWS,
                row_groups=groups,
                columns=None if whole else list(dict.fromkeys([*read, *only, *named])),
                use_threads=part.size is None or part.size > _SMALL,
            )
            for batch in batches:
                texts, identities, sources, groups_of = (_values(batch, p) for p in places)
                texts.reverse()  # taken from its end, so that no text is held once it is decoded
                left_out = _left_out(batch, only)
                labels = {name: batch.column(name).to_pylist() for name in named}
                for row, (identity, source) in enumerate(zip(identities, sources)):
                    yield parsed(
                        _document,
                        columns[0],
                        texts.pop(),
                        identity,
                        source or default_source,
                        groups_of[row],
                        left_out[row],
                        {name: of[row] for name, of in labels.items()} if labels else {},
                        whole=(batch, row) if whole else None,
                    )

    def parts(self, path, size, part_bytes):
        with _opened(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
        found, first, size = [], 0, 0
        for group in range(metadata.num_row_groups):
            size += metadata.row_group(group).total_byte_size
            if size >= part_bytes or group == metadata.num_row_groups - 1:
                found.append(Part(path, first, group + 1, size))
                first, size = group + 1, 0
        return found or [Part(path, 0, 0, 0)], _form(metadata, schema)

    def before(self, part):
        with _opened(part.path) as file:
            groups = range(part.start or 0)
            return sum(file.metadata.row_group(group).num_rows for group in groups)

    def output(self, path, temporary, like, fields):
        return _Tables(f"{path}.parquet", temporary, *_stored(like))


@contextlib.contextmanager
def _opened(path: str) -> Iterator[pyarrow.parquet.ParquetFile]:
    """A file that is open; DataError where it cannot be read as Parquet."""
    try:
        with open_binary(path) as raw:
            yield pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True)
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise DataError(
            f"{path}: cut short, damaged, or not a Parquet file ({error}); write or copy it again"
        ) from error


def _document(
    column: str,
    text: bytes | None,
    identity: bytes | int | float | None,
    source: bytes | str,
    group: bytes | int | float | None,
    left_out: str,
    labels: Mapping[str, object],
) -> Document:
    if left_out:
        raise LeftOut(left_out)
    if text is None:
        raise Malformed(f"null in column {column!r}")
    document = decoded_document(text, identity, source, group)
    return labelled(document, tuple(labels), labels.get)


def _conditions(path: str, schema: pyarrow.Schema, only: Mapping | None) -> dict:
    """What rows must have in columns that are there; DataError about one that is not."""
    for column in only or {}:
        if len(schema.get_all_field_indices(column)) != 1:
            raise DataError(
                f"{path}: parquet_corpus.only names the column {column!r}, of which there must be"
                f" one; its columns: {', '.join(schema.names)}"
            )
    return dict(only or {})


def _left_out(batch: pyarrow.RecordBatch, only: Mapping) -> list[str]:
    """Of every row of a batch, why it is left out; "" for one that is not."""
    reasons = [""] * batch.num_rows
    for column, wanted in only.items():
        for row, value in enumerate(batch.column(column).to_pylist()):
            if not is_one_of(value, wanted):
                reasons[row] = reasons[row] or f"{column!r} is not {wanted!r}"
    return reasons


def _form(metadata: pyarrow.parquet.FileMetaData, schema: pyarrow.Schema) -> tuple:
    """Columns, the notes of who wrote them, and codecs: what a file of kept rows takes over."""
    notes = dict(schema.metadata or {})
    notes.pop(b"pandas", None)  # also counts the rows, so no two files agree
    codecs: tuple = ()
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        codecs = tuple(group.column(n).compression for n in range(group.num_columns))
    return schema.remove_metadata(), notes, codecs


def _stored(path: str) -> tuple[pyarrow.Schema, dict]:
    """The columns of a Parquet file, with the file's own metadata, and how they are stored: the
    arguments `compression`, `use_dictionary` and `write_statistics` of
    `pyarrow.parquet.ParquetWriter`. (Extremes of long texts are not stored, but would cost several
    copies of them.)"""
    with _opened(path) as file:
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


def _find_columns(
    path: str, schema: pyarrow.Schema, columns: Sequence[str | None]
) -> list[tuple[str, list[str]] | None]:
    """Returns, for every role, (name of the column, names of fields within); or None.

    Raises:
      DataError: there is no text, a name stands for two columns, or a type does not fit.
    """
    places = []
    for role, column in zip(_ROLES, columns):
        setting = f"parquet_corpus.{role}"
        place = None if column is None else _find_column(path, schema, column, setting)
        if place is None and role == "text_column":
            raise DataError(
                f"{path}: no column {column!r}; its columns: {', '.join(schema.names)}; set"
                f" {setting}"
            )
        places.append(place)
    return places


def _find_column(
    path: str, schema: pyarrow.Schema, column: str, setting: str
) -> tuple[str, list[str]] | None:
    name, inner = column, []
    if column not in schema.names:  # a column that is written like the path comes first
        name, *inner = column.split(".")
    places = schema.get_all_field_indices(name)
    if not places:
        return None
    if len(places) > 1:
        raise DataError(
            f"{path}: {len(places)} columns are called {name!r}, and {setting} names it; rename all"
            " but one of them"
        )
    kind = schema.field(places[0]).type
    for field in inner:
        if not pyarrow.types.is_struct(kind) or kind.get_field_index(field) < 0:
            return None
        kind = kind.field(field).type
    types = pyarrow.types
    plain = kind.value_type if types.is_dictionary(kind) else kind
    is_id = setting.endswith(("id_column", "group_column"))
    if _is_textual(plain) or (is_id and (types.is_integer(plain) or types.is_float64(plain))):
        return name, inner
    fields = kind.names if types.is_struct(kind) else []
    meant = f", such as {f'{column}.{fields[0]}'!r} of its fields" if fields else ""
    raise DataError(
        f"{path}: column {column!r} holds {kind}, not"
        f" {'strings or integers' if is_id else 'strings'}; name another column{meant} in {setting}"
    )


def _is_textual(kind: pyarrow.DataType) -> bool:
    types = pyarrow.types
    return (
        types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
        or types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
        or types.is_fixed_size_binary(kind)
    )  # fmt: skip


def _values(batch: pyarrow.RecordBatch, place: tuple[str, list[str]] | None) -> list:
    """The text, id, source or group of a batch's rows; None for what is null or no column."""
    if place is None:
        return [None] * batch.num_rows
    name, inner = place
    array = batch.column(name)
    array = pyarrow.compute.struct_field(array, inner) if inner else array
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pyarrow.types.is_integer(array.type) or pyarrow.types.is_float64(array.type):
        return array.to_pylist()
    return array.cast(pyarrow.large_binary()).to_pylist()  # bytes: the UTF-8 may be invalid


class _Tables(Output):
    """Rows with all the columns of the input file, stored as they are there."""

    def __init__(self, final: str, temporary: str, schema: pyarrow.Schema, stored: dict):
        super().__init__(final, temporary)
        self._file = GFileWriter(self.path)
        self._tables = pyarrow.parquet.ParquetWriter(self._file, schema, **stored)
        self._batch: pyarrow.RecordBatch | None = None
        self._rows: list[int] = []
        self._pending: list[pyarrow.RecordBatch] = []

    def write(self, whole: tuple[pyarrow.RecordBatch, int]) -> None:
        batch, row = whole
        if batch is not self._batch:
            self._take()
            self._batch = batch
        self._rows.append(row)
        self.records += 1

    def _take(self) -> None:
        # slices, because pyarrow takes rows of some types of columns only
        for first, count in _runs(self._rows):
            self._pending.append(self._batch.slice(first, count))
        self._rows = []
        if sum(batch.num_rows for batch in self._pending) >= _GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            self._tables.write_table(pyarrow.Table.from_batches(self._pending))
        self._pending = []

    def close(self) -> None:
        self._take()
        self._flush()
        self._tables.close()
        self._file.close()


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (first, how many) of rows that follow each other."""
    first = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place] != rows[place - 1] + 1:
            yield rows[first], place - first
            first = place


register(Parquet())
