"""Finding and reading files: local ones, and what `tf.io.gfile` reaches."""

import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from dr_keras.data.formats.own_outputs import without_outputs
from dr_keras.errors import ConfigurationError, DataError

Paths = str | os.PathLike | Sequence[str | os.PathLike]

_CHUNK = 1 << 20
_GLOB = re.compile(r"[*?\[]")
_SHARD = re.compile(r"-\d{3,}-of-\d{3,}$")


def find_files(path: Paths, suffixes: Sequence[str]) -> list[str]:
    """Returns the files that `path` names, sorted within each entry, each once.

    Args:
      path: a file, a glob, a directory, or a list of these. From a directory come the files below
        it whose name ends in a suffix (or in one plus ".gz"); names that start with a dot or an
        underscore are passed over, as are folders named so.
      suffixes: e.g. (".jsonl",).

    Raises:
      DataError: an entry names nothing, or a directory without such files.
    """
    entries = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not entries:
        raise ConfigurationError("the list of paths is empty; name at least one file")
    found: dict[str, None] = {}
    for entry in entries:
        found.update(dict.fromkeys(_expand(os.path.expanduser(os.fspath(entry)), suffixes)))
    return list(found)


def _expand(path: str, suffixes: Sequence[str]) -> list[str]:
    try:
        if tf.io.gfile.isdir(path):
            found = _data_among(list(_walk(path)), path)
            files = [file for file in found if _has_suffix(file, suffixes)]
            if not files:
                raise DataError(
                    f"{path}: no file in this directory ends in {', '.join(suffixes)} (or these "
                    "and .gz); name the files, or give a glob such as "
                    f"{os.path.join(path, '*')}"
                )
            return sorted(files)
        if tf.io.gfile.exists(path):  # before the glob: a file name may hold a bracket
            return [path]
        matches = tf.io.gfile.glob(path) if _GLOB.search(path) else []
        files = sorted(file for file in matches if not tf.io.gfile.isdir(file))
        files = _data_among(files, path)
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be looked up ({reason(error)})") from error
    if not files:
        raise DataError(
            f"{path}: no file matches; check the spelling of the glob"
            if _GLOB.search(path)
            else f"{path}: no such file or directory; check the path"
        )
    return files


def _data_among(files: list[str], path: str) -> list[str]:
    """What is no output of dr_keras. Raises DataError where a path names nothing else."""
    left, passed = without_outputs(files)
    if passed and not left:
        first, what = next(iter(passed.items()))
        raise DataError(
            f"{path}: there is nothing but what dr_keras wrote ({first}: {what}); name the files"
            " that hold the corpus"
        )
    return left


def _walk(directory: str) -> Iterator[str]:
    for folder, subfolders, files in tf.io.gfile.walk(directory):
        inner = os.path.relpath(folder, directory).split(os.sep)
        if any(name.startswith((".", "_")) and name not in (".", "..") for name in inner):
            continue
        for name in files:
            if not name.startswith((".", "_")):
                yield os.path.join(folder, name)


def _has_suffix(file: str, suffixes: Sequence[str]) -> bool:
    return without_shard(file).lower().removesuffix(".gz").endswith(tuple(suffixes))


def without_shard(path: str) -> str:
    """Returns the path without the "-00000-of-00010" that a sharded file ends in."""
    return _SHARD.sub("", path)


def stem(path: str) -> str:
    """Returns the name of a file or directory without its suffixes: a default name."""
    name = os.path.basename(os.path.normpath(path))
    return name.split(".")[0] or name


def default_name(path: Paths) -> str:
    """Returns the name of a corpus that is given none: what its (first) path is called.

    For a glob that is the folder before the first wildcard, so that it is a name and no pattern.
    """
    first = path if isinstance(path, str | os.PathLike) else list(path)[0]
    parts = os.path.normpath(os.path.expanduser(os.fspath(first))).split(os.sep)
    while len(parts) > 1 and _GLOB.search(parts[-1]):
        parts.pop()
    return stem(parts[-1]) or "corpus"


def read_lines(path: str, max_line_bytes: int) -> Iterator[tuple[int, bytes | None]]:
    """Yields (line number from 1, the line without its end), or (number, None) if it is too long.

    A line that is too long is passed over in chunks: it is never held in memory as a whole.

    Raises:
      DataError: the file cannot be read, or is a damaged gzip file.
    """
    number, kept, length = 1, [], 0
    for chunk in read_chunks(path, decompress=path.lower().endswith(".gz")):
        *ended, rest = chunk.split(b"\n")
        for piece in ended:
            length += len(piece)
            if length > max_line_bytes:
                yield number, None
            else:
                yield number, b"".join((*kept, piece)).removesuffix(b"\r")
            number, kept, length = number + 1, [], 0
        length += len(rest)
        if length <= max_line_bytes:
            kept.append(rest)
        else:
            kept = []
    if length > max_line_bytes:
        yield number, None
    elif length:
        yield number, b"".join(kept).removesuffix(b"\r")


def reason(error: tf.errors.OpError) -> str:
    """Returns what went wrong, without the operations that TensorFlow puts before and after it."""
    return error.message.rsplit("}} ", 1)[-1].split(" [Op:")[0]


class SeekableFile(io.RawIOBase):
    """A file of `tf.io.gfile` as what other libraries expect of a Python file, read only."""

    def __init__(self, path: str):
        super().__init__()
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


def read_chunks(path: str, decompress: bool = False) -> Iterator[bytes]:
    """Yields the bytes of a file in chunks of at most 1 MB, gunzipped if asked for.

    Raises:
      DataError: the file cannot be read, or is a damaged gzip file.
    """
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            stream = gzip.GzipFile(fileobj=file) if decompress else file
            while chunk := stream.read(_CHUNK):
                yield chunk
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: not a whole gzip file ({error}); fetch or compress it again"
        ) from error
