"""What a job on files works on: the input files, cut or gathered into shards.

A shard is a range of a large file (of bytes for uncompressed JSON lines, of row groups for
Parquet), a whole file, or several small files that are alike. TFRecord and compressed files have no
places to begin in their middle.
"""

from collections.abc import Iterator, Sequence
import dataclasses
import itertools
import math

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.corpus_jobs.identity import InputFile, input_files
from dr_keras.data.formats.kinds import tfrecord_compression
from dr_keras.data.formats.reading import file_compression, open_binary
from dr_keras.data.prepare import find_corpus_files
from dr_keras.errors import ConfigurationError, DataError

__all__ = ["KINDS", "InputFile", "Piece", "Shard", "find_inputs", "input_files", "plan"]

KINDS = ("jsonl", "parquet", "tfrecord")
# Small files are gathered until they hold this share of `shard_bytes`, so that several workers
# still find enough shards to share, or until there are so many of them.
GATHERED_SHARE = 8
GATHERED_FILES = 256


@dataclasses.dataclass(frozen=True)
class Piece:
    """A file, or a range of one.

    Attributes:
      kind: one of `KINDS`.
      file: the whole file.
      start, end: byte offsets (jsonl; the piece has the lines that begin in [start, end)) or row
        groups (parquet); None for a whole file.
      size: bytes of input, for progress.
    """

    kind: str
    file: InputFile
    start: int | None
    end: int | None
    size: int

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def first_of_file(self) -> bool:
        return not self.start


@dataclasses.dataclass(frozen=True)
class Shard:
    """A unit of work.

    Attributes:
      index: its place among the shards of the job, from 0.
      count: how many there are.
      kind: one of `KINDS`.
      pieces: what is read, in order; several only where whole files were gathered, which can then
        be written into one file as they are.
    """

    index: int
    count: int
    kind: str
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """00003-of-00012: what the names of its output files end in."""
        return f"{self.index:05d}-of-{self.count:05d}"

    @property
    def path(self) -> str:
        """The first input file: what is written is in its form."""
        return self.pieces[0].path

    @property
    def size(self) -> int:
        """Bytes of input, for progress."""
        return sum(piece.size for piece in self.pieces)

    @property
    def where(self) -> str:
        """The input files, for messages."""
        others = f" (or one of {len(self.pieces) - 1} files after it)" * (len(self.pieces) > 1)
        return f"{self.path}{others}"


def find_inputs(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of the files that paths, globs and folders name, and the files, each once.

    Raises:
      DataError: a path names nothing that can be read.
      ConfigurationError: files of several kinds.
    """
    found = find_corpus_files(paths)
    found.say()
    return found.kind, found.paths


def plan(kind: str, inputs: Sequence[InputFile], shard_bytes: int) -> list[Shard]:
    """Cuts and gathers files into shards of at most about `shard_bytes`, always in the same way."""
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    gathered = list(_gather((_pieces(kind, file, shard_bytes) for file in inputs), shard_bytes))
    count = len(gathered)
    return [Shard(index, count, kind, pieces) for index, pieces in enumerate(gathered)]


def _pieces(kind: str, file: InputFile, shard_bytes: int) -> tuple[list[Piece], object]:
    """A file in pieces, and what must agree where files are gathered."""
    form: object
    ranges = [(None, None, file.size)]
    if kind == "parquet":
        ranges, form = _row_groups(file, shard_bytes)
    elif kind == "tfrecord":
        form = tfrecord_compression(file.path)
    else:
        form = file_compression(file.path)
        ranges = ranges if form else _byte_ranges(file, shard_bytes)
    return [Piece(kind, file, *bounds) for bounds in ranges], form


def _gather(pieces: Iterator[tuple], shard_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """Small files that follow each other and are alike, together; all else by itself."""
    gathered: list[Piece] = []
    size, form = 0, None
    for found, its_form in itertools.chain(pieces, (([], None),)):
        fits = (
            len(found) == 1
            and its_form == form
            and (size + found[0].size) * GATHERED_SHARE <= shard_bytes
            and len(gathered) < GATHERED_FILES
        )
        if gathered and not fits:
            yield tuple(gathered)
            gathered, size = [], 0
        if len(found) == 1:
            gathered, size, form = [*gathered, *found], size + found[0].size, its_form
        else:
            yield from ((piece,) for piece in found)


def _byte_ranges(file: InputFile, shard_bytes: int) -> list[tuple]:
    pieces = max(1, math.ceil(file.size / shard_bytes))
    edges = [file.size * piece // pieces for piece in range(pieces + 1)]
    return [(a, b, b - a) for a, b in zip(edges, edges[1:])]


def _row_groups(file: InputFile, shard_bytes: int) -> tuple[list[tuple], object]:
    try:
        with open_binary(file.path) as raw:
            opened = pyarrow.parquet.ParquetFile(raw)
            metadata, schema = opened.metadata, opened.schema_arrow
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise DataError(
            f"{file.path}: cut short, damaged, or not a Parquet file ({error}); write or copy it"
            " again"
        ) from error
    ranges, first, size = [], 0, 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= shard_bytes or group == metadata.num_row_groups - 1:
            ranges.append((first, group + 1, size))
            first, size = group + 1, 0
    return ranges or [(0, 0, 0)], _parquet_form(metadata, schema)


def _parquet_form(metadata: pyarrow.parquet.FileMetaData, schema: pyarrow.Schema) -> tuple:
    """Columns, the notes of who wrote them, and codecs: what a file of kept rows takes over."""
    notes = dict(schema.metadata or {})
    notes.pop(b"pandas", None)  # also counts the rows, so no two files agree
    codecs: tuple = ()
    if metadata.num_row_groups:
        group = metadata.row_group(0)
        codecs = tuple(group.column(n).compression for n in range(group.num_columns))
    return schema.remove_metadata(), notes, codecs
