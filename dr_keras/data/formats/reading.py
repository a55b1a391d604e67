"""Reading files, local ones and what `tf.io.gfile` reaches, compressed or not.

Compression is told by the first bytes, else by the file's name. Damaged or cut-off data, joined
streams and bytes after the end: what is read is whole or an error.
"""

import bz2
from collections.abc import Iterator
import gzip
import hashlib
import io
import os
import re
from typing import Any, BinaryIO
import zlib

import pyarrow
import tensorflow as tf

from dr_keras.errors import DataError

HEAD_BYTES = 12
READABLE = ("", "gzip", "bz2", "zstd")
SUFFIXES = {"": "", "gzip": ".gz", "bz2": ".bz2", "zstd": ".zst", "zlib": ".zlib"}
# What decompression raises for data that is not whole.
_ERRORS = (EOFError, zlib.error, OSError, pyarrow.ArrowException)

_BZ2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # of data; of the end, where there is none
COMPRESSIONS = {
    ".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd", ".zlib": "zlib",
}  # fmt: skip

# "-00000-of-01024" (TensorFlow, Beam), ".part-00001", "_0007", ".part1" (split, Spark, downloads)
_SHARD = re.compile(r"(?:[-_.](?:part|shard|chunk|split)|[-_.])[-_.]?\d+(?:[-_]of[-_]\d+)?$")
_CHUNK = 1 << 20


def stem(path: str) -> str:
    """Returns the name of a file or directory without its suffixes: a default name."""
    name = os.path.basename(os.path.normpath(path))
    return name.split(".")[0] or name


def bare(path: str) -> tuple[str, str]:
    """Returns (name in lower case without what says shard and compression, that compression).

    "c4-train.json-00000-of-01024.GZ" gives ("c4-train.json", "gzip"); "" for no compression.
    """
    name, compression = os.path.basename(path).lower(), ""
    while True:
        shorter, suffix = os.path.splitext(name)
        if suffix in COMPRESSIONS and not compression and shorter:
            name, compression = shorter, COMPRESSIONS[suffix]
            continue
        shorter = _SHARD.sub("", name)
        if shorter == name or not shorter:
            return name, compression
        name = shorter


def reason(error: tf.errors.OpError) -> str:
    """Returns what went wrong, without the operations that TensorFlow puts before and after it."""
    return error.message.rsplit("}} ", 1)[-1].split(" [Op:")[0]


def local_path(path: str) -> str | None:
    """Returns the path as the operating system knows it, or None for a file of another system."""
    path = path.removeprefix("file://")
    return None if "://" in path else path


def place(path: str | os.PathLike) -> str:
    """Returns a path in the one form that does not depend on how it was typed.

    Links are not followed: a file's own name is what its default source is made of.
    """
    local = local_path(os.fspath(path))
    return os.fspath(path).rstrip("/") if local is None else os.path.abspath(local)


def names_in(folder: str) -> list[str]:
    """Returns the names in a folder, sorted; those of local ones may be of any bytes.

    Raises:
      OSError, tf.errors.OpError: there is no such folder, or it cannot be read.
    """
    local = local_path(folder)
    if local is not None:
        return sorted(os.listdir(local or "."))  # TensorFlow's own fails at a name not in UTF-8
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))


def shown(path: str) -> str:
    """Returns a name as it can be printed on one line: bytes that are not UTF-8 as `\\xff`."""
    path = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return path if path and path.isprintable() else repr(path)[1:-1] or "''"


def check_name(path: str) -> None:
    """Raises DataError for a name that TensorFlow cannot pass on to the operating system."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{shown(path)}: the name of this file is not UTF-8, and only such names can be read;"
            " rename it"
        ) from error
    if "\0" in path:
        raise DataError(f"{path!r}: no file can have such a name; check the path")


class SeekableFile(io.RawIOBase):
    """A file of `tf.io.gfile` as what other libraries expect of a Python file, read only."""

    def __init__(self, path: str):
        super().__init__()
        check_name(path)
        self._file = tf.io.gfile.GFile(path, "rb")

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._file.seek(offset, whence)
        return self._file.tell()

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(-1 if size is None else size)

    def close(self) -> None:
        self._file.close()
        super().close()


def open_binary(path: str | os.PathLike) -> BinaryIO:
    """Opens a file to read and seek in. Small local files are opened quicker without TensorFlow."""
    local = local_path(os.fspath(path))
    return SeekableFile(os.fspath(path)) if local is None else open(local, "rb")


def sha256(path: str | os.PathLike) -> str:
    """Hex SHA-256 of the bytes of a file. Raises OSError or tf.errors.OpError."""
    digest = hashlib.sha256()
    with open_binary(path) as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def read_chunks(
    path: str, decompress: bool = True, size: int = _CHUNK, start: int = 0
) -> Iterator[bytes]:
    """Yields the bytes of a file in chunks of at most `size`.

    Args:
      path: a file.
      decompress: whether a compressed file (see `compression_of`) is decompressed.
      size: bytes.
      start: bytes of the file, as it is stored, that are left out.

    Raises:
      DataError: the file cannot be read, or is not whole as compressed data.
    """
    kind = ""
    try:
        with SeekableFile(path) as file:
            if decompress:
                kind = compression_of(path, file.read(HEAD_BYTES))
            if decompress or start:
                file.seek(start)
            yield from _decompressed(file, kind, size)
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    except _ERRORS as error:
        raise DataError(
            f"{path}: not a whole {kind} file ({error}); fetch or compress it again"
        ) from error


def head(path: str, size: int) -> bytes:
    """Returns the first bytes of a file as they are stored, at most `size`.

    Raises:
      DataError: the file cannot be read.
    """
    local = local_path(path)
    if local is None:
        return next(read_chunks(path, decompress=False, size=size), b"")
    try:
        with open(local, "rb") as file:
            return file.read(size)
    except OSError as error:
        raise DataError(f"{shown(path)}: cannot be read ({error.strerror})") from error


def file_compression(path: str) -> str:
    """Returns how a file is compressed: "", "gzip", "bz2", "zstd" or "zlib".

    Raises:
      DataError: the file cannot be read.
    """
    return compression_of(path, head(path, HEAD_BYTES))


def read_lines(
    path: str, max_line_bytes: int, start: int | None = None, end: int | None = None
) -> Iterator[tuple[int, bytes | None]]:
    """Yields (line number from 1, the line without its end), or (number, None) if it is too long.

    A line that is too long is passed over in chunks: it is never held in memory as a whole.

    Args:
      path: a file.
      max_line_bytes: of a line that is not too long.
      start, end: of an uncompressed file, only the lines that begin in this range of bytes, which
        are numbered from its beginning.

    Raises:
      DataError: the file cannot be read, or is damaged compressed data.
    """
    if start is None:
        yield from enumerate(_lines(read_chunks(path), max_line_bytes), 1)
    elif start < end:
        before = start - (start > 0)  # with the rest of a line of the range before, perhaps empty
        chunks = read_chunks(path, decompress=False, start=before)
        lines = _lines(chunks, max_line_bytes, end - before)
        if start:
            next(lines, None)
        yield from enumerate(lines, 1)


def _lines(
    chunks: Iterator[bytes], max_line_bytes: int, end: int | None = None
) -> Iterator[bytes | None]:
    """Lines without their ends, None for one that is too long; none that begins at `end`."""
    kept, length, begin = [], 0, 0
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            length += len(piece)
            begin += length + 1
            whole = b"".join((*kept, piece)) if length <= max_line_bytes else None
            kept, length = [], 0  # before what is done with the line: it may be a large one
            yield whole if whole is None else whole.removesuffix(b"\r")
            if end is not None and begin >= end:
                return
        length += len(rest)
        if length <= max_line_bytes:
            kept.append(rest)
        else:
            kept = []
    if length > max_line_bytes:
        yield None
    elif length:
        yield b"".join(kept).removesuffix(b"\r")


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
    return bare(path)[1]


def _decompressed(file: Any, compression: str, size: int) -> Iterator[bytes]:
    """Yields the content of an open binary file in chunks of at most `size` bytes.

    Raises:
      one of `_ERRORS`: the data is not whole.
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
        stream = pyarrow.CompressedInputStream(pyarrow.PythonFile(file, "r"), "zstd")
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
