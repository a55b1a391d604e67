"""Files that are whole or not there: written under another name, then renamed."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
from contextlib import AbstractContextManager
import errno
import functools
import io
import os
import pathlib
import uuid

from dr_keras.errors import ConfigurationError

UNFINISHED = "unfinished-"


def is_remote(path: str) -> bool:
    """Whether only `tf.io.gfile` reaches a path."""
    return "://" in path


def write_text(path: str | os.PathLike, text: str, errors: str = "strict") -> None:
    """Writes UTF-8 text to `path`, in place of what was there, and makes its folder.

    Args:
      path: of the file; it has its name only once it is whole.
      text: the content.
      errors: as for `str.encode`; "replace" for text that may hold lone surrogates.
    """
    write_bytes(path, text.encode("utf-8", errors))


def write_bytes(path: str | os.PathLike, content: bytes) -> None:
    """Writes `content` to `path`, in place of what was there, and makes its folder."""
    with replacing(path) as temporary, opened(temporary, "wb") as file:
        file.write(content)


def write_arrays(path: str | os.PathLike, arrays: Mapping, compressed: bool = True) -> None:
    """Writes an `.npz` file of named arrays to `path`, as `write_bytes` does."""
    import numpy as np  # as the doctor runs without it

    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def opened(path: str, mode: str = "r") -> AbstractContextManager:
    """A file to read or write, local or remote; as text it is UTF-8."""
    if not is_remote(path):
        return open(path, mode, encoding=None if "b" in mode else "utf-8")
    import tensorflow as tf  # Only a remote path is worth the seconds that this takes.

    return tf.io.gfile.GFile(path, mode)


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[str]:
    """Yields the name of a new file that becomes `path` once the block ends without an exception.

    Otherwise it is removed, and what was at `path` stays. The folder is made. The name ends as
    `path` does; processes that share a folder get names of their own. The path may be remote.

    Raises:
      ConfigurationError: a device or pipe is at `path`, which a file must not take the place of.
      OSError: with a file name, whoever raised it in the block.
      tf.errors.OpError: the same of a remote path.
    """
    path = os.fspath(path)
    folder, name = os.path.split(path)
    temporary = os.path.join(folder, f"{UNFINISHED}{uuid.uuid4().hex[:12]}-{name}")
    make: Callable[[str], object]
    put: Callable[[str, str], object]
    if is_remote(path):
        import tensorflow as tf

        files, failure = tf.io.gfile, tf.errors.OpError
        make, put = files.makedirs, functools.partial(files.rename, overwrite=True)
    else:
        if os.path.isdir(path):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if os.path.exists(path) and not os.path.isfile(path):
            raise ConfigurationError(f"{path} is a device or a pipe: name a file.")
        files, failure = os, OSError
        make, put = functools.partial(os.makedirs, exist_ok=True), os.replace
    with writing(path):
        make(folder or ".")
        try:
            yield temporary
            put(temporary, path)
        except BaseException:
            with contextlib.suppress(failure):
                files.remove(temporary)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike) -> Iterator[None]:
    """Gives an OSError that names no file, as `file.write` raises it, the name `path`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = os.fspath(path)
        raise


def remove_unfinished(folder: str | os.PathLike) -> None:
    """Removes what killed processes left of files in `folder`, where nobody else writes now."""
    for path in pathlib.Path(folder).glob(f"{UNFINISHED}*"):
        path.unlink(missing_ok=True)
