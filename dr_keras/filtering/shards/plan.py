"""What a job on files works on: the input files, cut into shards that are done one by one.

A shard is a whole file, or a range of a large one: of bytes for uncompressed JSON lines, of row
groups for Parquet. TFRecord and compressed files have no places to begin in their middle.
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import math
import os

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora import files
from dr_keras.data.formats.reading import file_compression
from dr_keras.data.prepare import find_corpus_files
from dr_keras.errors import ConfigurationError, DataError

KINDS = ("jsonl", "parquet", "tfrecord")


@dataclasses.dataclass(frozen=True)
class Shard:
    """A unit of work.

    Attributes:
      index: its place among the shards of the job, from 0.
      count: how many there are.
      path: the input file.
      kind: one of `KINDS`.
      start, end: byte offsets (jsonl; the shard has the lines that begin in [start, end)) or row
        groups (parquet); None for a whole file.
      size: bytes of input, for progress.
    """

    index: int
    count: int
    path: str
    kind: str
    start: int | None
    end: int | None
    size: int

    @property
    def name(self) -> str:
        """00003-of-00012: what the names of its output files end in."""
        return f"{self.index:05d}-of-{self.count:05d}"

    @property
    def first_of_file(self) -> bool:
        return not self.start


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file and how to tell that it changed: bytes and time of its last change, ns."""

    path: str
    size: int
    modified: int


def find_inputs(paths: Sequence[str]) -> tuple[str, list[str]]:
    """The kind of the files that paths, globs and folders name, and the files, each once.

    Raises:
      DataError: a path names nothing that can be read.
      ConfigurationError: files of several kinds.
    """
    found = find_corpus_files(paths)
    found.say()
    return found.kind, found.paths


def input_files(paths: Sequence[str]) -> list[InputFile]:
    """Size and age of every file, as found now."""
    result = []
    for path in paths:
        try:
            stat = tf.io.gfile.stat(path)
        except tf.errors.OpError as error:
            raise DataError(f"{path}: cannot be read ({files.reason(error)})") from error
        result.append(InputFile(path, int(stat.length), int(stat.mtime_nsec)))
    return result


def plan(kind: str, inputs: Sequence[InputFile], shard_bytes: int) -> list[Shard]:
    """Cuts files into shards of about `shard_bytes`, always in the same way."""
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    ranges: list[tuple] = []
    for file in inputs:
        if kind == "parquet":
            ranges += _row_groups(file, shard_bytes)
        elif kind == "jsonl" and not file_compression(file.path):
            ranges += _byte_ranges(file, shard_bytes)
        else:
            ranges.append((file.path, None, None, file.size))
    count = len(ranges)
    return [
        Shard(index, count, path, kind, start, end, size)
        for index, (path, start, end, size) in enumerate(ranges)
    ]


def _byte_ranges(file: InputFile, shard_bytes: int) -> list[tuple]:
    pieces = max(1, math.ceil(file.size / shard_bytes))
    edges = [file.size * piece // pieces for piece in range(pieces + 1)]
    return [(file.path, a, b, b - a) for a, b in zip(edges, edges[1:])]


def _row_groups(file: InputFile, shard_bytes: int) -> list[tuple]:
    try:
        with files.SeekableFile(file.path) as raw:
            metadata = pyarrow.parquet.ParquetFile(raw).metadata
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise DataError(
            f"{file.path}: cut short, damaged, or not a Parquet file ({error}); write or copy it"
            " again"
        ) from error
    ranges, first, size = [], 0, 0
    for group in range(metadata.num_row_groups):
        size += metadata.row_group(group).total_byte_size
        if size >= shard_bytes or group == metadata.num_row_groups - 1:
            ranges.append((file.path, first, group + 1, size))
            first, size = group + 1, 0
    return ranges or [(file.path, 0, 0, 0)]


def identity(inputs: Sequence[InputFile]) -> str:
    """Eight hex digits that change when a file is added, removed or changed."""
    facts = repr([(os.path.basename(f.path), f.size, f.modified) for f in inputs])
    return hashlib.sha256(facts.encode()).hexdigest()[:8]
