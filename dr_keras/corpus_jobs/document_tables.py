"""Tables of documents without their texts, and how rows of them reach the unit that compares them.

What is read of an input shard leaves a table, a row a document, in reading order. Duplicates are
found where rows that may agree are together: in buckets, by a prefix of a hash. An `Exchange` takes
rows from the units of one round to those of the next, shard to bucket and back, through files: a
unit holds what it sends, or what was sent to it, and nobody holds all.
"""

from collections.abc import Sequence
import hashlib
import os

import numpy as np
import pyarrow as pa

from dr_keras.data.documents import Document, utf8, utf8_size
from dr_keras.data.formats.reading import open_binary
from dr_keras.system.whole_files import write_bytes

# What the table of a shard has to hold; it may hold more. `key` is all of `Document.key`, because
# the part is decided by its digits; `content` is the first half of the `content_key`: that any two
# of 10^10 documents agree in 128 bits by chance has the probability 10^-19. `group` is "" for none.
# `bands` is there where near-duplicates are looked for (`near_duplicates.NearDuplicates`).
DOCUMENT_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("key", pa.binary(32), nullable=False),
        pa.field("content", pa.binary(16), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
        pa.field("bytes", pa.int64(), nullable=False),
    ]
)


def document_columns(documents: Sequence[Document]) -> dict[str, pa.Array]:
    """The columns of `DOCUMENT_SCHEMA` of some documents, in reading order."""
    columns: dict[str, list] = {
        "id": [document.id for document in documents],
        "key": [bytes.fromhex(document.key) for document in documents],
        "content": [bytes.fromhex(document.content_key)[:16] for document in documents],
        "group": [document.group for document in documents],
        "count": [document.count for document in documents],
        "bytes": [utf8_size(document.text) for document in documents],
    }
    return {field.name: pa.array(columns[field.name], field.type) for field in DOCUMENT_SCHEMA}


def bucket_of(words: np.ndarray, buckets: int) -> np.ndarray:
    """The bucket, int64 [n], of hashes by their first 64 bits, uint64 [n]."""
    return ((words >> np.uint64(32)) * np.uint64(buckets) >> np.uint64(32)).astype(np.int64)


def words_of(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """Fixed-size binary values as uint64 [n, width / 8] that sort as their bytes do."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    width = column.type.byte_width
    found = [np.zeros([0, width // 8], np.uint64)]
    for chunk in chunks:
        raw = np.frombuffer(chunk.buffers()[1], np.uint8) if len(chunk) else np.zeros(0, np.uint8)
        raw = raw[chunk.offset * width : (chunk.offset + len(chunk)) * width]
        found.append(raw.reshape(-1, width).view(">u8").astype(np.uint64))
    return np.concatenate(found)


def numbers(rows: pa.Table, names: Sequence[str]) -> np.ndarray:
    """Columns of a table as uint64 [n, number of names]."""
    return np.stack([rows[name].to_numpy().astype(np.uint64) for name in names], axis=1)


def table_of(columns: Sequence, schema: pa.Schema) -> pa.Table:
    """Arrays or lists of values as a table."""
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema)]
    return pa.Table.from_arrays(arrays, schema=schema)


def text_words(texts: Sequence[str]) -> np.ndarray:
    """128 bits of the SHA-256 of each text as uint64 [n, 2]."""
    digests = b"".join(hashlib.sha256(utf8(text)).digest()[:16] for text in texts)
    return np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)


class Clusters:
    """Rows that agree, together.

    Attributes:
      order: row numbers sorted by the values, equal ones in the order they came in, int64 [n].
      starts: where each cluster begins in `order`, int64 [clusters].
    """

    def __init__(self, *values: np.ndarray):
        """Args:
        values: integers [n], or [n, k]; rows agree that agree in all of them.
        """
        columns = [column for value in values for column in np.atleast_2d(value.T)]
        count = len(values[0])
        self.order = np.lexsort(columns[::-1]) if count else np.zeros(0, np.int64)
        is_first = np.ones(count, bool)
        if count:
            ordered = [column[self.order] for column in columns]
            is_first[1:] = np.any([column[1:] != column[:-1] for column in ordered], axis=0)
        self.starts = np.flatnonzero(is_first)

    @property
    def sizes(self) -> np.ndarray:
        """Rows of each cluster."""
        return np.diff(np.append(self.starts, len(self.order)))

    @property
    def first(self) -> np.ndarray:
        """The row of each cluster that came first."""
        return self.order[self.starts]

    def members(self, cluster: int) -> np.ndarray:
        """The rows of one cluster, as they came."""
        end = self.starts[cluster + 1] if cluster + 1 < len(self.starts) else len(self.order)
        return self.order[self.starts[cluster] : end]


class Exchange:
    """Rows on their way from the units of one round to those of the next.

    A sender writes one file: int64 [receivers + 1] places, little-endian, then the rows for each
    receiver as a stream of Arrow, nothing where there are none. A receiver reads 16 bytes and its
    rows of each.

    Args:
      folder: of the files.
      name: what they are called.
      schema: of the rows.
      senders, receivers: how many units there are in either round.
    """

    def __init__(self, folder: str, name: str, schema: pa.Schema, senders: int, receivers: int):
        self.folder, self.name, self.schema = folder, name, schema
        self.senders, self.receivers = senders, receivers

    def path(self, sender: int) -> str:
        """Where a sender's rows lie."""
        return os.path.join(self.folder, f"{self.name}-{sender:05d}")

    def send(self, sender: int, rows: pa.Table, to: np.ndarray) -> dict[str, dict]:
        """Writes rows; those for one receiver keep their order.

        Args:
          sender: whose they are.
          rows: in `schema`.
          to: receiver of each row, int64 [n].

        Returns:
          The name of the file -> its `bytes`.
        """
        order = np.argsort(to, kind="stable")
        rows = rows.take(pa.array(order)) if len(order) else rows
        ends = np.searchsorted(to[order], np.arange(self.receivers), side="right")
        parts, begin = [], 0
        for end in ends.tolist():
            parts.append(_stream(rows.slice(begin, end - begin)) if end > begin else b"")
            begin = end
        places = np.cumsum([8 * (self.receivers + 1), *map(len, parts)]).astype("<i8")
        content = b"".join([places.tobytes(), *parts])
        write_bytes(self.path(sender), content)
        return {os.path.basename(self.path(sender)): {"bytes": len(content)}}

    def receive(self, receiver: int) -> pa.Table:
        """All rows that were sent to a receiver, by sender, each in the order it sent them."""
        found = [self.schema.empty_table()]
        for sender in range(self.senders):
            with open_binary(self.path(sender)) as file:
                file.seek(8 * receiver)
                start, end = np.frombuffer(file.read(16), "<i8").tolist()
                if end > start:
                    file.seek(start)
                    found.append(pa.ipc.open_stream(file.read(end - start)).read_all())
        return pa.concat_tables(found)


def _stream(rows: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return sink.getvalue().to_pybytes()
