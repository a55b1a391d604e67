"""Writing records as they were read, in the format they came in.

A writer's file is renamed into place by `publish` only once it is whole.
"""

from collections.abc import Iterator
import json
import os
import uuid

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.corpus_jobs import records
from dr_keras.corpus_jobs.plan import Shard
from dr_keras.data.corpora import tfrecord
from dr_keras.data.formats.compression import SUFFIXES, compressed_writer
from dr_keras.data.formats.reading import file_compression
from dr_keras.data.tokenizers.base import utf8
from dr_keras.rating.score_files import GFileWriter

_ROWS = 4096  # of Parquet in a row group


class Output:
    """A file that is being written.

    Args:
      final: what it is to be called.
      temporary: the folder it lies in until then, on the same file system.
    """

    def __init__(self, final: str, temporary: str):
        self.final = final
        self.records = 0
        self.path = os.path.join(temporary, f"{uuid.uuid4().hex[:12]}-{os.path.basename(final)}")

    def write(self, whole) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def publish(self) -> dict:
        """Renames the closed file; returns its facts."""
        size = int(tf.io.gfile.stat(self.path).length)
        tf.io.gfile.rename(self.path, self.final, overwrite=True)
        return {"records": self.records, "bytes": size}


class Lines(Output):
    """Lines of bytes, compressed by one of `compression.READABLE`."""

    def __init__(self, final: str, temporary: str, compression: str = ""):
        super().__init__(final, temporary)
        self._raw = GFileWriter(self.path)
        self._file = compressed_writer(self._raw, compression)

    def write(self, whole: bytes) -> None:
        self._file.write(whole + b"\n")
        self.records += 1

    def write_json(self, record: dict) -> None:
        self.write(utf8(json.dumps(record, ensure_ascii=False)))

    def close(self) -> None:
        if self._file is not self._raw:
            self._file.close()
        self._raw.close()


class TFRecords(Output):
    """Serialized tf.train.Examples, compressed as the input was."""

    def __init__(self, final: str, temporary: str, compression: str):
        super().__init__(final, temporary)
        self._file = tf.io.TFRecordWriter(self.path, compression or None)

    def write(self, whole: bytes) -> None:
        self._file.write(whole)
        self.records += 1

    def close(self) -> None:
        self._file.close()


class Parquet(Output):
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
        if sum(batch.num_rows for batch in self._pending) >= _ROWS:
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


def kept_output(shard: Shard, fields: dict, folder: str, temporary: str) -> Output:
    """The file for the records of a shard that are kept: <folder>/kept-00000-of-00012.<suffix>."""
    path = os.path.join(folder, f"kept-{shard.name}")
    if shard.kind == "parquet":
        schema, stored = records.parquet_format(shard.path)
        return Parquet(f"{path}.parquet", temporary, schema, stored)
    if shard.kind == "jsonl":
        compression = file_compression(shard.path)
        return Lines(f"{path}.jsonl{SUFFIXES[compression]}", temporary, compression)
    compression = tfrecord.compression_of(shard.path, fields["compression"])
    suffix = SUFFIXES[compression.lower()]
    return TFRecords(f"{path}.tfrecord{suffix}", temporary, compression)
