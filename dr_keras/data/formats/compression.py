"""Compressed data: told by its first bytes, else by the file's name; read and written.

Damaged or cut-off data, joined streams and bytes after the end: what is read is whole or an error.
"""

import bz2
from collections.abc import Iterator
import gzip
import io
from typing import Any
import zlib

import pyarrow

from dr_keras.data.formats import names

HEAD_BYTES = 12
READABLE = ("", "gzip", "bz2", "zstd")
SUFFIXES = {"": "", "gzip": ".gz", "bz2": ".bz2", "zstd": ".zst", "zlib": ".zlib"}
# What decompression raises for data that is not whole.
ERRORS = (EOFError, zlib.error, OSError, pyarrow.ArrowException)

_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # of data; of the end, where there is none


def compression_of(path: str, head: bytes) -> str:
    """Returns "gzip", "bz2", "zstd", "zlib" or "" for none.

    Args:
      path: asked where the first bytes say nothing.
      head: the first `HEAD_BYTES` bytes of the file, fewer if it is shorter.
    """
    if head.startswith(b"\x1f\x8b\x08"):
        return "gzip"
    if head.startswith(b"BZh") and head[4:10] in _BZ2_BLOCKS:
        return "bz2"
    # a frame; one to be skipped, as parallel compressors put first
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18" and head[0] >> 4 == 5:
        return "zstd"
    return names.bare(path)[1]


def decompressed(file: Any, compression: str, size: int) -> Iterator[bytes]:
    """Yields the content of an open binary file in chunks of at most `size` bytes.

    Raises:
      one of `ERRORS`: the data is not whole.
    """
    if not compression:
        while chunk := file.read(size):
            yield chunk
        return
    if not file.read(1):
        raise EOFError("it is empty")
    file.seek(0)
    if compression == "bz2":
        yield from _bz2(file, size)
        return
    if compression == "gzip":
        stream = gzip.GzipFile(fileobj=file)
    elif compression == "zstd":
        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(_Raw(file), "r"), "zstd")
    else:
        raise OSError(f"{compression} is read in TFRecord files only")
    while chunk := stream.read(size):
        yield chunk


def _bz2(file: Any, size: int) -> Iterator[bytes]:
    """Python's own reader takes a damaged second stream for the end of the file."""
    stream, data = bz2.BZ2Decompressor(), b""
    while True:
        if stream.eof:
            data = stream.unused_data or file.read(size)
            if not data:
                return
            stream = bz2.BZ2Decompressor()
        elif stream.needs_input:
            data = file.read(size)
            if not data:
                raise EOFError("it ends before its end-of-stream marker")
        if chunk := stream.decompress(data, size):
            yield chunk
        data = b""


class _Raw(io.RawIOBase):
    """A file of `tf.io.gfile` with the attributes that pyarrow asks for."""

    def __init__(self, file: Any):
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)


def compressed_writer(raw: Any, compression: str) -> Any:
    """Returns a file whose `write` compresses into `raw`; the same writes give the same bytes.

    Args:
      raw: a binary file, to be closed after what is returned (which may be `raw`).
      compression: one of `READABLE`.
    """
    if compression == "gzip":  # no time and no name, which would differ
        return gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
    if compression == "bz2":
        return bz2.BZ2File(raw, "wb")
    if compression == "zstd":
        return pyarrow.CompressedOutputStream(pyarrow.PythonFile(raw, "w"), "zstd")
    return raw
