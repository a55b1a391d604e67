"""Parquet files, their text in one column."""

import collections
import functools
from collections.abc import Iterator

import gin
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document
from dr_keras.errors import DataError

SUFFIXES = (".parquet", ".pq")

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
      text_column: the column with the text, of strings or binary in UTF-8.
      id_column: the column of the id (strings or integers); files without it, or None, get the
        hash of source and text.
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
    paths = files.find_files(path, SUFFIXES)
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
    malformed = base.Malformed(on_malformed, skipped)
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
            present = check_columns(path, file.schema_arrow, columns)
            for batch in file.iter_batches(_ROWS, columns=present):
                values = {column: column_values(batch.column(column)) for column in present}
                nothing = [None] * batch.num_rows
                yield from zip(*(values.get(column, nothing) for column in columns))
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise DataError(
            f"{path}: cut short, damaged, or not a Parquet file ({error}); write or copy it again"
        ) from error


def check_columns(
    path: str, schema: pyarrow.Schema, columns: tuple[str, str | None, str | None]
) -> list[str]:
    present = [column for column in columns if column in schema.names]
    if columns[0] not in present:
        raise DataError(
            f"{path}: no column {columns[0]!r}; its columns: {', '.join(schema.names)}; set "
            "parquet_corpus.text_column"
        )
    types = pyarrow.types
    for column in present:
        kind = schema.field(column).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        textual = "string" in str(kind) or "binary" in str(kind)
        if not textual and not (column == columns[1] and types.is_integer(kind)):
            raise DataError(
                f"{path}: column {column!r} holds {kind}, not "
                f"{'strings or integers' if column == columns[1] else 'strings'}; name another "
                "column"
            )
    return present


def column_values(array: pyarrow.Array) -> list:
    if pyarrow.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pyarrow.types.is_integer(array.type):
        return array.to_pylist()
    return array.cast(pyarrow.large_binary()).to_pylist()  # bytes: the UTF-8 may be invalid
