"""TFRecord files of `tf.train.Example`s, their text in one feature."""

import collections
from collections.abc import Iterator
import functools
import inspect
import zlib

from google.protobuf.message import DecodeError
import tensorflow as tf

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document
from dr_keras.data.formats import kinds
from dr_keras.errors import DataError
import gin

COMPRESSIONS = ("auto", "", "GZIP", "ZLIB")

_REMEDY = f"set {kinds.TEXT_SETTINGS['tfrecord']}"
_FRAME_BYTES = 16  # a record's length (8), its checksum (4), the checksum of the record (4)
_ANY_HEADER = zlib.MAX_WBITS | 32  # of zlib: gzip or zlib, whichever the data begins with


@gin.configurable
def tfrecord_corpus(
    path: files.Paths,
    feature: str = "text",
    id_feature: str | None = "id",
    source_feature: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    compression: str = "auto",
    on_malformed: str = "stop",
    max_documents: int | None = None,
) -> base.Corpus:
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

    Raises:
      DataError: a path names nothing (at once); a file is damaged, a record malformed (when read).
    """
    base.check_choice("tfrecord_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    base.check_choice("tfrecord_corpus.compression", compression, COMPRESSIONS)
    paths = files.find_files(path, "tfrecord")
    features = (feature, id_feature, source_feature)
    read = functools.partial(_read, paths, features, source, compression, on_malformed)
    settings = {"kind": "tfrecord", "paths": paths, "feature": feature}
    return base.Corpus(name or files.default_name(path), read, settings, max_documents)


def _read(
    paths: list[str],
    features: tuple[str, str | None, str | None],
    source: str | None,
    compression: str,
    on_malformed: str,
    skipped: collections.Counter,
) -> Iterator[Document]:
    malformed = base.Malformed(on_malformed, skipped, "tfrecord")
    for path in paths:
        default_source = source or files.stem(path)
        for number, record in read_records(path, compression):
            place = f"{path}, record {number}"
            try:
                example = tf.train.Example.FromString(record)
            except DecodeError:
                malformed("not a tf.train.Example", place)
                continue
            document = read_document(example, features, default_source, place, malformed)
            if document is not None:
                yield document


# A dataset takes 17 ms to be made, which many small files would feel, and longer for every record.
# What is wrapped off is a note on standard error that recommends it.
_iterate = inspect.unwrap(tf.compat.v1.io.tf_record_iterator)


def read_records(path: str, compression: str) -> Iterator[tuple[int, bytes]]:
    """Yields (number from 1, record) of a file.

    Raises:
      DataError: it is cut short or damaged.
    """
    compression = compression_of(path, compression)
    number, length, reason, cause = 0, 0, "", None
    try:
        for record in _iterate(path, tf.io.TFRecordOptions(compression)):
            number += 1
            length += len(record) + _FRAME_BYTES
            yield number, record
        if length != _payload_bytes(path, compression):
            reason = "it ends within a record"
    except tf.errors.OpError as error:
        reason, cause = files.reason(error), error
    if reason:
        raise DataError(
            f"{path}, record {number + 1}: the file is cut short, damaged, or not a TFRecord file "
            f"with compression {compression or 'none'} ({reason}); write or copy it again, or set "
            "tfrecord_corpus.compression"
        ) from cause


def compression_of(path: str, setting: str) -> str:
    """Returns what `tfrecord_corpus.compression` means for a file, as TensorFlow calls it.

    Raises:
      DataError: the file cannot be read, or is compressed in a way that TFRecord files never are.
    """
    if setting != "auto":
        return setting
    found = kinds.tfrecord_compression(path)
    if found not in ("", "gzip", "zlib"):
        raise DataError(
            f"{path}: a TFRecord file compressed by {found}; only gzip and zlib are read:"
            " decompress it first"
        )
    return found.upper()


def _payload_bytes(path: str, compression: str) -> int | None:
    """Returns the number of bytes once decompressed, or None if the compressed data is not whole.

    TensorFlow takes a file that ends within the frame of a record, or a compressed one whose end
    is missing, for a file that ends there.
    """
    if not compression:
        return tf.io.gfile.stat(path).length
    length, inflate = 0, zlib.decompressobj(_ANY_HEADER)
    for chunk in files.read_chunks(path, decompress=False):
        while chunk:
            if inflate.eof:  # gzip files may be joined end to end
                inflate = zlib.decompressobj(_ANY_HEADER)
            length += len(inflate.decompress(chunk))
            chunk = inflate.unused_data
    return length if inflate.eof else None


def read_document(
    example: tf.train.Example,
    features: tuple[str, str | None, str | None],
    default_source: str,
    place: str,
    malformed: base.Malformed,
) -> Document | None:
    found = example.features.feature
    values = []
    for name in features:
        kind = found[name].WhichOneof("kind") if name and name in found else None
        values.append(list(getattr(found[name], kind).value) if kind else [])
    (feature, id_feature, _), (texts, ids, sources) = features, values
    if not texts:
        present = ", ".join(sorted(map(repr, found))[:10]) or "none"
        return malformed(f"no feature {feature!r}", place, f"its features: {present}", _REMEDY)
    if len(texts) > 1 or not isinstance(texts[0], bytes):
        detail = f"{len(texts)} x {type(texts[0]).__name__}"
        return malformed(f"feature {feature!r} is not one byte string", place, detail, _REMEDY)
    if len(ids) > 1 or (ids and isinstance(ids[0], float)):
        return malformed(f"feature {id_feature!r} is not one byte string or integer", place)
    identity = ids[0] if ids else None
    named = len(sources) == 1 and isinstance(sources[0], bytes) and sources[0]
    return base.decoded_document(texts[0], identity, named or default_source, place, malformed)
