"""Parquet files, their text in one column. Cut into row groups."""

from collections.abc import Iterator, Sequence
import contextlib
import functools

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora.base import Corpus, Malformed
from dr_keras.data.formats.base import Format, Record, register
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import open_binary, stem
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.tables import ROWS, Columns, Only, TableOutput, gathered, notes_of
from dr_keras.errors import DataError
import gin

_SMALL = 1 << 20  # bytes that threads are not worth starting for


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
    only: Only | None = None,
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
    label_argument = "label_columns"
    packed_itself = "a Parquet file"
    corpus = staticmethod(parquet_corpus)

    def begins(self, content):
        return content.startswith(b"PAR1")

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        source = fields["source"] or stem(part.path)
        with _opened(part.path) as file:
            columns = Columns(part.path, "parquet_corpus", file.schema_arrow, fields)
            groups = None if part.start is None else list(range(part.start, part.end))
            if groups == []:
                return
            batches = file.iter_batches(
                ROWS,
                row_groups=groups,
                columns=None if whole else columns.names,
                use_threads=part.size is None or part.size > _SMALL,
            )
            for batch in batches:
                yield from columns.records(batch, source, whole)

    def parts(self, path, size, part_bytes):
        with _opened(path) as file:
            metadata, schema = file.metadata, file.schema_arrow
        groups = range(metadata.num_row_groups)
        sizes = [metadata.row_group(group).total_byte_size for group in groups]
        return gathered(path, sizes, part_bytes), _form(metadata, schema)

    def before(self, part):
        with _opened(part.path) as file:
            groups = range(part.start or 0)
            return sum(file.metadata.row_group(group).num_rows for group in groups)

    def output(self, path, temporary, like, fields):
        writer = functools.partial(_writer, *_stored(like))
        return TableOutput(f"{path}.parquet", temporary, writer)


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


def _form(metadata: pyarrow.parquet.FileMetaData, schema: pyarrow.Schema) -> tuple:
    """Columns, the notes of who wrote them, and codecs: what a file of kept rows takes over."""
    codecs: tuple = ()
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        codecs = tuple(group.column(n).compression for n in range(group.num_columns))
    return schema.remove_metadata(), notes_of(schema), codecs


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


def _writer(schema: pyarrow.Schema, stored: dict, file) -> pyarrow.parquet.ParquetWriter:
    return pyarrow.parquet.ParquetWriter(file, schema, **stored)


register(Parquet())
