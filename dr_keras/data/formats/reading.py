"""Reading files, local ones and what `tf.io.gfile` reaches, compressed or not."""

from collections.abc import Iterator
import io
import os
from typing import BinaryIO

import tensorflow as tf

from dr_keras.data.formats import compression as compressions
from dr_keras.errors import DataError

_CHUNK = 1 << 20


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


def read_chunks(path: str, decompress: bool = True, size: int = _CHUNK) -> Iterator[bytes]:
    """Yields the bytes of a file in chunks of at most `size`.

    Args:
      path: a file.
      decompress: whether a compressed file (see `compression.compression_of`) is decompressed.
      size: bytes.

    Raises:
      DataError: the file cannot be read, or is not whole as compressed data.
    """
    check_name(path)
    kind = ""
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            if decompress:
                kind = compressions.compression_of(path, file.read(compressions.HEAD_BYTES))
                file.seek(0)
            yield from compressions.decompressed(file, kind, size)
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    except compressions.ERRORS as error:
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
    return compressions.compression_of(path, head(path, compressions.HEAD_BYTES))


def read_lines(path: str, max_line_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yields (line number from 1, the line without its end), or (number, None) if it is too long.

    A line that is too long is passed over in chunks: it is never held in memory as a whole.

    Raises:
      DataError: the file cannot be read, or is damaged compressed data.
    """
    number, kept, length = 1, [], 0
    for chunk in read_chunks(path):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            length += len(piece)
            whole = b"".join((*kept, piece)) if length <= max_line_bytes else None
            kept, length = [], 0  # before what is done with the line: it may be a large one
            yield number, whole if whole is None else whole.removesuffix(b"\r")
            number += 1
        length += len(rest)
        if length <= max_line_bytes:
            kept.append(rest)
        else:
            kept = []
    if length > max_line_bytes:
        yield number, None
    elif length:
        yield number, b"".join(kept).removesuffix(b"\r")
