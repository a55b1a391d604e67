"""TFRecord files of `tf.train.Example`s, their text in one feature. Never cut: the format has no
places to begin in the middle."""

from collections.abc import Iterator, Sequence
import inspect
import struct
import zlib

import tensorflow as tf

from dr_keras.data.corpora.base import Corpus, check_choice
from dr_keras.data.formats import reading
from dr_keras.data.formats.base import DECOMPRESS, Part, register
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.tf_examples import ExampleFormat, ExampleOutput
from dr_keras.errors import DataError
import gin

COMPRESSIONS = ("auto", "", "GZIP", "ZLIB")

_FRAME_BYTES = 16  # a record's length (8), its checksum (4), the checksum of the record (4)
_ANY_HEADER = zlib.MAX_WBITS | 32  # of zlib: gzip or zlib, whichever the data begins with


@gin.configurable
def tfrecord_corpus(
    path: Paths,
    feature: str = "text",
    id_feature: str | None = "id",
    source_feature: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    compression: str = "auto",
    on_malformed: str = "stop",
    max_documents: int | None = None,
    group_feature: str | None = None,
    label_features: Sequence[str] | None = None,
) -> Corpus:
    """A corpus of TFRecord files.

    A file that was cut short is found out unless it is uncompressed and was cut exactly between
    two records: the format has no mark of its end.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      feature: the bytes feature with the text, in UTF-8.
      id_feature: the feature of the id (bytes or integer); records without it, or None, get the
        hash of source and text.
      source_feature: the bytes feature of the source; records without it, or None, get `source`.
      source: source of records that name none; None for the name of the file.
      name: name of the corpus; None for the name of the first path.
      compression: "" for none, "GZIP", "ZLIB", or "auto": by what the file begins with or its name
        (.gz, .zlib).
      on_malformed: "stop" at a malformed record with its file and number (from 1), or "skip" and
        count it. Damage to a file itself always stops.
      max_documents: stop after so many.
      group_feature: the feature (bytes or integer) whose value documents share that must lie in one
        part, such as the page that they are versions of; records without it are in no group.
      label_features: features by which a choice is audited, such as ['language', 'licence']; for
        evaluation only. One text or number each counts, all else is not known.

    Raises:
      DataError: a path names nothing (at once); a file is damaged, a record malformed (when read).
    """
    return file_corpus("tfrecord", **locals())


class TFRecord(ExampleFormat):
    """Files of TFRecord, compressed or not."""

    name = "tfrecord"
    suffixes = (".tfrecord", ".tfrecords", ".tfrec")
    corpus = staticmethod(tfrecord_corpus)

    def begins(self, content):
        """Whether data begins with a length and the masked CRC-32C of these 8 bytes."""
        if len(content) < 12:
            return False
        crc = 0xFFFFFFFF
        for byte in content[:8]:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        crc ^= 0xFFFFFFFF
        masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
        return struct.pack("<I", masked) == content[8:12]

    is_plain = begins  # a length may look like the beginning of other data

    def refused(self, path, named, content, compression):
        if compression in ("", "gzip", "zlib"):
            return None
        read = "only gzip and zlib are read"
        return f"a TFRecord file compressed by {compression}; {read}", DECOMPRESS

    def check(self, fields):
        check_choice("tfrecord_corpus.compression", fields["compression"], COMPRESSIONS)

    def stored(self, part, fields):
        return self._records(part.path, fields["compression"])

    def parts(self, path, size, part_bytes):
        return [Part(path, size=size)], self._compressed(path)

    def output(self, path, temporary, like, fields):
        compression = self._compression(like, fields["compression"])
        final = f"{path}.tfrecord{reading.SUFFIXES[compression.lower()]}"
        return _TFRecords(final, temporary, compression)

    def _compressed(self, path: str) -> str:
        """How a file is compressed."""
        stored = reading.head(path, reading.HEAD_BYTES)
        return "" if self.is_plain(stored) else reading.compression_of(path, stored)

    def _compression(self, path: str, setting: str) -> str:
        """What `tfrecord_corpus.compression` means for a file, as TensorFlow calls it.

        Raises:
          DataError: the file cannot be read, or is compressed in a way that TFRecord files never
            are.
        """
        if setting != "auto":
            return setting
        found = self._compressed(path)
        if refused := self.refused(path, True, b"", found):
            raise DataError(f"{path}: {refused[0]}: {refused[1]}")
        return found.upper()

    def _records(self, path: str, compression: str) -> Iterator[bytes]:
        """The records of a file.

        Raises:
          DataError: it is cut short or damaged.
        """
        compression = self._compression(path, compression)
        number, length, wrong, cause = 0, 0, "", None
        try:
            for record in _iterate(path, tf.io.TFRecordOptions(compression)):
                number += 1
                length += len(record) + _FRAME_BYTES
                yield record
            if length != _payload_bytes(path, compression):
                wrong = "it ends within a record"
        except tf.errors.OpError as error:
            wrong, cause = reading.reason(error), error
        if wrong:
            raise DataError(
                f"{path}, record {number + 1}: the file is cut short, damaged, or not a TFRecord"
                f" file with compression {compression or 'none'} ({wrong}); write or copy it again,"
                " or set tfrecord_corpus.compression"
            ) from cause


# A dataset takes 17 ms to be made, which many small files would feel, and longer for every record.
# What is wrapped off is a note on standard error that recommends it.
_iterate = inspect.unwrap(tf.compat.v1.io.tf_record_iterator)


def _payload_bytes(path: str, compression: str) -> int | None:
    """Returns the number of bytes once decompressed, or None if the compressed data is not whole.

    TensorFlow takes a file that ends within the frame of a record, or a compressed one whose end
    is missing, for a file that ends there.
    """
    if not compression:
        return tf.io.gfile.stat(path).length
    length, inflate = 0, zlib.decompressobj(_ANY_HEADER)
    for chunk in reading.read_chunks(path, decompress=False):
        while chunk:
            if inflate.eof:  # gzip files may be joined end to end
                inflate = zlib.decompressobj(_ANY_HEADER)
            length += len(inflate.decompress(chunk))
            chunk = inflate.unused_data
    return length if inflate.eof else None


class _TFRecords(ExampleOutput):
    """Compressed as the input was."""

    def __init__(self, final: str, temporary: str, compression: str):
        super().__init__(final, temporary)
        self.writer = tf.io.TFRecordWriter(self.path, compression or None)


register(TFRecord())
