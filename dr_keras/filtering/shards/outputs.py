"""Writing records as they were read, in the format they came in.

A writer's file is renamed into place by `publish` only once it is whole.
"""

import gzip
import json
import os
import uuid

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora import files
from dr_keras.data.tokenizers.base import utf8
from dr_keras.filtering.score_files import GFileWriter
from dr_keras.filtering.shards import records
from dr_keras.filtering.shards.plan import Shard

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
    """Lines of bytes; compressed where the name ends in .gz."""

    def __init__(self, final: str, temporary: str):
        super().__init__(final, temporary)
        self._raw = GFileWriter(self.path)
        self._file = self._raw
        if final.endswith(".gz"):
            # no time and no name, so that the same records give the same bytes
            self._file = gzip.GzipFile("", "wb", fileobj=self._raw, mtime=0)

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
    """Rows with all the columns of the input file."""

    def __init__(self, final: str, temporary: str, schema: pyarrow.Schema):
        super().__init__(final, temporary)
        self._file = GFileWriter(self.path)
        self._tables = pyarrow.parquet.ParquetWriter(self._file, schema)
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
        if self._rows:
            self._pending.append(self._batch.take(pyarrow.array(self._rows, pyarrow.int32())))
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


def kept_output(shard: Shard, fields: dict, folder: str, temporary: str) -> Output:
    """The file for the records of a shard that are kept: <folder>/kept-00000-of-00012.<suffix>."""
    path = os.path.join(folder, f"kept-{shard.name}")
    if shard.kind == "parquet":
        return Parquet(f"{path}.parquet", temporary, records.parquet_schema(shard.path))
    if shard.kind == "jsonl":
        gz = ".gz" if shard.path.lower().endswith(".gz") else ""
        return Lines(f"{path}.jsonl{gz}", temporary)
    compression = tfrecord_compression(shard.path, fields["compression"])
    suffix = {"": "", "GZIP": ".gz", "ZLIB": ".zlib"}[compression]
    return TFRecords(f"{path}.tfrecord{suffix}", temporary, compression)


def tfrecord_compression(path: str, setting: str) -> str:
    """What `tfrecord_corpus.compression` means for this file."""
    if setting != "auto":
        return setting
    name = files.without_shard(path).lower()
    if name.endswith((".gz", ".gzip")):
        return "GZIP"
    return "ZLIB" if name.endswith(".zlib") else ""


