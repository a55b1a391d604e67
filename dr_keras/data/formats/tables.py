"""Columns of Arrow tables, as files of Parquet and of Arrow have them: found by a name or a path,
held to the types that can be read, turned into records row by row, and kept."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow
import pyarrow.compute

from dr_keras.data.corpora.base import LeftOut, Malformed, decoded_document, is_one_of
from dr_keras.data.documents import Document
from dr_keras.data.formats.base import Part, Record, parsed
from dr_keras.data.formats.labels import labelled
from dr_keras.data.formats.writing import GFileWriter, Output
from dr_keras.errors import DataError

ROWS = 256  # in memory at a time: documents can be long
_ROLES = ("text_column", "id_column", "source_column", "group_column")

# What a corpus of tables reads: the argument `only` of its function.
Only = Mapping[str, str | int | float | bool | Sequence]


class Columns:
    """What is read of the tables of one file.

    Attributes:
      names: the columns that are needed.

    Raises:
      DataError: there is no such text, a name stands for two columns, or a type does not fit.
    """

    def __init__(self, path: str, corpus: str, schema: pyarrow.Schema, fields: dict[str, Any]):
        """Args:
        path: of the file, for messages.
        corpus: what gin calls the corpus, for messages.
        schema: of the tables.
        fields: the arguments of the corpus, as `Format.read` has them.
        """
        roles = tuple(fields[role] for role in _ROLES)
        self._text_column = roles[0]
        self._places = _find_columns(path, corpus, schema, roles)
        self._only = _conditions(path, corpus, schema, fields.get("only"))
        self._labels = [n for n in fields.get("label_columns") or () if n in schema.names]
        read = [place[0] for place in self._places if place is not None]
        self.names = list(dict.fromkeys([*read, *self._only, *self._labels]))

    def records(
        self, batch: pyarrow.RecordBatch, default_source: str, whole: bool
    ) -> Iterator[Record | Malformed]:
        """Yields one thing for every row of a batch; a whole record is (batch, row)."""
        texts, identities, sources, groups = (_values(batch, place) for place in self._places)
        texts.reverse()  # taken from its end, so that no text is held once it is decoded
        left_out = _left_out(batch, self._only)
        labels = {name: batch.column(name).to_pylist() for name in self._labels}
        for row, (identity, source) in enumerate(zip(identities, sources)):
            yield parsed(
                _document,
                self._text_column,
                texts.pop(),
                identity,
                source or default_source,
                groups[row],
                left_out[row],
                {name: of[row] for name, of in labels.items()} if labels else {},
                whole=(batch, row) if whole else None,
            )


class TableOutput(Output):
    """Rows with all the columns of the input file, given as (batch, row).

    Args:
      final, temporary: see `Output`.
      opened: given a file to write to, returns what has `write_table` and `close`, of pyarrow.
      rows_together: that are stored at a time.
    """

    def __init__(
        self,
        final: str,
        temporary: str,
        opened: Callable[[GFileWriter], Any],
        rows_together: int = 4096,
    ):
        super().__init__(final, temporary)
        self._rows_together = rows_together
        self._file = GFileWriter(self.path)
        self._tables = opened(self._file)
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
        if sum(batch.num_rows for batch in self._pending) >= self._rows_together:
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


def gathered(path: str, sizes: Sequence[int], part_bytes: int) -> list[Part]:
    """Groups of rows that follow each other in parts of at least `part_bytes`, the last one less.

    Args:
      path: of the file.
      sizes: bytes of every group.
    """
    found, first, size = [], 0, 0
    for group, its_size in enumerate(sizes):
        size += its_size
        if size >= part_bytes or group == len(sizes) - 1:
            found.append(Part(path, first, group + 1, size))
            first, size = group + 1, 0
    return found or [Part(path, 0, 0, 0)]


def notes_of(schema: pyarrow.Schema) -> dict[bytes, bytes]:
    """What who wrote a table noted of it, as far as it is one for all files of a data set."""
    notes = dict(schema.metadata or {})
    notes.pop(b"pandas", None)  # also counts the rows, so no two files agree
    return notes


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


def _conditions(path: str, corpus: str, schema: pyarrow.Schema, only: Only | None) -> dict:
    """What rows must have in columns that are there; DataError about one that is not."""
    for column in only or {}:
        if len(schema.get_all_field_indices(column)) != 1:
            raise DataError(
                f"{path}: {corpus}.only names the column {column!r}, of which there must be"
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


def _find_columns(
    path: str, corpus: str, schema: pyarrow.Schema, columns: Sequence[str | None]
) -> list[tuple[str, list[str]] | None]:
    """Returns, for every role, (name of the column, names of fields within); or None.

    Raises:
      DataError: see `Columns`.
    """
    places = []
    for role, column in zip(_ROLES, columns):
        setting = f"{corpus}.{role}"
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


def _runs(rows: list[int]) -> Iterator[tuple[int, int]]:
    """Yields (first, how many) of rows that follow each other."""
    first = 0
    for place in range(1, len(rows) + 1):
        if place == len(rows) or rows[place] != rows[place - 1] + 1:
            yield rows[first], place - first
            first = place
