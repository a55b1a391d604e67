"""Parquet files, their text in one column."""

import collections
from collections.abc import Iterator
import functools

import pyarrow
import pyarrow.compute
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document
from dr_keras.errors import DataError
import gin

_ROLES = ("text_column", "id_column", "source_column")
_ROWS = 256  # rows in memory at a time: documents can be long


@gin.configurable
def parquet_corpus(
    path: files.Paths,
    text_column: str = "text",
    id_column: str | None = "id",
    source_column: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_documents: int | None = None,
) -> base.Corpus:
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

    Raises:
      DataError: a path names nothing (at once); a file is damaged or has no such column, a row is
        malformed (when read).
    """
    base.check_choice("parquet_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    paths = files.find_files(path, "parquet")
    columns = (text_column, id_column, source_column)
    read = functools.partial(_read, paths, columns, source, on_malformed)
    settings = {"kind": "parquet", "paths": paths, "text_column": text_column}
    return base.Corpus(name or files.default_name(path), read, settings, max_documents)


def _read(
    paths: list[str],
    columns: tuple[str, str | None, str | None],
    source: str | None,
    on_malformed: str,
    skipped: collections.Counter,
) -> Iterator[Document]:
    malformed = base.Malformed(on_malformed, skipped, "parquet")
    for path in paths:
        default_source = source or files.stem(path)
        for number, (text, identity, named) in enumerate(_rows(path, columns), 1):
            place = f"{path}, row {number}"
            if text is None:
                malformed(f"null in column {columns[0]!r}", place)
                continue
            document = base.decoded_document(
                text, identity, named or default_source, place, malformed
            )
            if document is not None:
                yield document


def _rows(path: str, columns: tuple[str, str | None, str | None]) -> Iterator[tuple]:
    """Yields (text, id, source) of each row; None for what is null or no column."""
    try:
        with files.SeekableFile(path) as raw:
            file = pyarrow.parquet.ParquetFile(raw, page_checksum_verification=True)
            places = find_columns(path, file.schema_arrow, columns)
            present = [column for column, place in zip(columns, places) if place is not None]
            for batch in file.iter_batches(_ROWS, columns=present):
                yield from zip(*read_columns(path, batch, columns))
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise damaged(path, error) from error


def damaged(path: str, error: Exception) -> DataError:
    """The error about a file that cannot be read as Parquet."""
    return DataError(
        f"{path}: cut short, damaged, or not a Parquet file ({error}); write or copy it again"
    )


def find_columns(
    path: str, schema: pyarrow.Schema, columns: tuple[str, str | None, str | None]
) -> list[tuple[int, list[str]] | None]:
    """Returns, for text, id and source, (number of the column, names of fields within); or None.

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
) -> tuple[int, list[str]] | None:
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
    is_id = setting.endswith("id_column")
    if _is_textual(plain) or (is_id and (types.is_integer(plain) or types.is_float64(plain))):
        return places[0], inner
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


def read_columns(
    path: str, batch: pyarrow.RecordBatch, columns: tuple[str, str | None, str | None]
) -> list[list]:
    """Returns text, id and source of the rows of a batch; None for what is null or no column.

    Raises:
      DataError: see `find_columns`.
    """
    values = []
    for place in find_columns(path, batch.schema, columns):
        if place is None:
            values.append([None] * batch.num_rows)
            continue
        number, inner = place
        array = batch.column(number)
        values.append(_values(pyarrow.compute.struct_field(array, inner) if inner else array))
    return values


def _values(array: pyarrow.Array) -> list:
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pyarrow.types.is_integer(array.type) or pyarrow.types.is_float64(array.type):
        return array.to_pylist()
    return array.cast(pyarrow.large_binary()).to_pylist()  # bytes: the UTF-8 may be invalid
