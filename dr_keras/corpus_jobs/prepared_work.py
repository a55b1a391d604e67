"""What the phases of preparing a corpus have in common: where their files lie, and their form.

<output>/_work/job.json                       what is prepared, and how; written first
<output>/_work/documents/, target/documents/  of a corpus that is no files: pieces of JSON lines
<output>/_work/read/00003.tokens              token ids of the documents of an input shard
<output>/_work/read/00003.parquet             its documents, see `READ_SCHEMA`
<output>/_work/merged/                        what units tell each other about duplicates
<output>/_work/placed/00003.npy               the part of each of its documents, int8
<output>/_work/<phase>/00003.json             facts of a unit that is done
<output>/<part>/tokens-..., rows-...          see `data.prepared_manifest`
"""

from collections.abc import Sequence
import dataclasses
import functools
import hashlib
import json
import os
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.corpus_jobs.document_tables import DOCUMENT_SCHEMA
from dr_keras.corpus_jobs.runners import UnitProgress
from dr_keras.data.formats.own_outputs import WORK
from dr_keras.data.formats.reading import SeekableFile
from dr_keras.data.formats.writing import GFileWriter, Output
from dr_keras.data.prepared_manifest import TOKENIZER_FOLDER
from dr_keras.data.tokenizers import Tokenizer, tokenizer_from_config
from dr_keras.rating import score_files

_TEXTS = pyarrow.dictionary(pyarrow.int32(), pyarrow.string())
# What is known of each document of an input shard, in reading order.
READ_SCHEMA = pyarrow.schema(
    [
        *DOCUMENT_SCHEMA,
        pyarrow.field("piece", pyarrow.int32(), nullable=False),
        pyarrow.field("position", pyarrow.int64(), nullable=False),  # in the piece, from 1
        pyarrow.field("source", _TEXTS, nullable=False),
        pyarrow.field("corpus", _TEXTS, nullable=False),
        pyarrow.field("tokens", pyarrow.int64(), nullable=False),
        pyarrow.field("level", pyarrow.float32()),
        pyarrow.field("damage", pyarrow.string()),
    ]
)
ROWS_SCHEMA = pyarrow.schema(
    [
        pyarrow.field("id", pyarrow.string(), nullable=False),
        pyarrow.field("source", _TEXTS, nullable=False),
        pyarrow.field("level", pyarrow.float32(), nullable=False),
        pyarrow.field("damage", pyarrow.string()),
    ]
)


@dataclasses.dataclass(frozen=True)
class PreparingWork:
    """A phase; can be pickled and sent to workers.

    Attributes:
      output: folder of the prepared corpus.
    """

    output: str

    phase = ""
    label = ""

    @property
    def where(self) -> str:
        """The folder of what is written, for messages."""
        return self.output

    @property
    def work(self) -> str:
        """The folder that goes when the corpus is prepared."""
        return os.path.join(self.output, WORK)

    @property
    def temporary(self) -> str:
        """The folder of files that are being written."""
        return os.path.join(self.work, "tmp")

    def facts_path(self, unit: Any) -> str:
        """Where the facts of a unit lie."""
        return os.path.join(self.work, self.phase, f"{unit.name.replace('/', '-')}.json")

    def output_path(self, name: str) -> str:
        """Where a file lies that facts name, from the folder of the corpus."""
        return os.path.join(self.output, name)

    def check_workers(self) -> None:
        """Any process can do it."""

    def load(self) -> Any:
        """Most phases need nothing."""
        return None

    def run(self, unit: Any, tool: Any = None, progress: UnitProgress | None = None) -> dict:
        """See `AnyWork`."""
        raise NotImplementedError

    def counters(self, facts: dict) -> dict[str, int]:
        """Units of each phase."""
        del facts
        return {self.phase: 1}

    def finish(self, unit: Any, facts: dict) -> dict:
        """Writes the facts of a unit, which is done then, and returns them."""
        score_files.write_json(self.facts_path(unit), facts)
        return facts


@dataclasses.dataclass(frozen=True)
class Numbered:
    """A unit that is known by its number.

    Attributes:
      index: from 0.
      size: bytes, for progress.
    """

    index: int
    size: int

    @property
    def name(self) -> str:
        return f"{self.index:05d}"


class HashedFile(GFileWriter):
    """A new file of which the SHA-256 is known once it is written."""

    def __init__(self, path: str):
        super().__init__(path)
        self.digest = hashlib.sha256()

    def write(self, data) -> int:
        data = memoryview(data).cast("B")
        self.digest.update(data)
        return super().write(data)


class HashedOutput(Output):
    """A file whose facts have its SHA-256; its folder is made."""

    def __init__(self, final: str, temporary: str):
        super().__init__(final, temporary)
        tf.io.gfile.makedirs(os.path.dirname(final))
        self._file = HashedFile(self.path)

    def close(self) -> None:
        self._file.close()

    def publish(self) -> dict:
        return {**super().publish(), "sha256": self._file.digest.hexdigest()}


def published(outputs: Sequence[Output], folder: str) -> dict[str, dict]:
    """Closes files and gives them their names; path below a folder -> facts."""
    for output in outputs:
        output.close()
    return {os.path.relpath(output.final, folder): output.publish() for output in outputs}


class Rows(HashedOutput):
    """A Parquet file; each call of `write` makes a row group."""

    def __init__(self, final: str, temporary: str, schema: pyarrow.Schema):
        super().__init__(final, temporary)
        self.schema = schema
        # ids differ and sources repeat, so a dictionary helps the latter only
        repeated = [field.name for field in schema if field.name not in ("id", "key", "content")]
        self._tables = pyarrow.parquet.ParquetWriter(
            self._file, schema, compression="zstd", use_dictionary=repeated
        )

    def write(self, table: pyarrow.Table) -> None:
        self._tables.write_table(table, row_group_size=max(1, len(table)))
        self.records += len(table)

    def close(self) -> None:
        self._tables.close()
        super().close()


class Array(HashedOutput):
    """A .npy file that is written some rows at a time; of no shape it is the bare numbers."""

    def __init__(self, final: str, temporary: str, dtype: np.dtype, shape=None):
        super().__init__(final, temporary)
        self._dtype = np.dtype(dtype).newbyteorder("<")
        if shape is not None:
            header = {
                "descr": np.lib.format.dtype_to_descr(self._dtype),
                "fortran_order": False,
                "shape": tuple(shape),
            }
            np.lib.format.write_array_header_1_0(self._file, header)

    def write(self, rows: np.ndarray) -> None:
        self._file.write(np.ascontiguousarray(rows, self._dtype).reshape(-1))
        self.records += len(rows)


def tokens_path(output: str, shard: int) -> str:
    """The token ids of an input shard, one document after the other."""
    return os.path.join(output, WORK, "read", f"{shard:05d}.tokens")


def table_path(output: str, shard: int) -> str:
    """The documents of an input shard."""
    return os.path.join(output, WORK, "read", f"{shard:05d}.parquet")


def placed_path(output: str, shard: int) -> str:
    """The part of each document of an input shard."""
    return os.path.join(output, WORK, "placed", f"{shard:05d}.npy")


def read_table(output: str, shard: int, columns: list[str] | None = None) -> pyarrow.Table:
    """The documents of an input shard, in reading order."""
    with SeekableFile(table_path(output, shard)) as raw:
        return pyarrow.parquet.ParquetFile(raw).read(columns)


@functools.lru_cache(maxsize=1)
def loaded_tokenizer(output: str, config: str) -> Tokenizer:
    """The tokenizer of a prepared corpus, which is loaded once in a process."""
    return tokenizer_from_config(json.loads(config), os.path.join(output, TOKENIZER_FOLDER))
