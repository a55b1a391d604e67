"""Where a file lies, in a form that does not depend on how its path was typed."""

import os
from typing import BinaryIO

_LOCAL = "file://"


def local_path(path: str | os.PathLike) -> str | None:
    """The path on this machine, without `file://`; None for other schemes."""
    path = os.fspath(path).removeprefix(_LOCAL)
    return None if "://" in path else path


def place(path: str | os.PathLike) -> str:
    """A path in the one form that does not depend on the working directory or on `file://`.

    Links are not followed: a file's own name is what its default source is made of.
    """
    local = local_path(path)
    return os.fspath(path).rstrip("/") if local is None else os.path.abspath(local)


def open_binary(path: str | os.PathLike) -> BinaryIO:
    """A file to read and seek in. Many small local files are opened quicker without TensorFlow."""
    local = local_path(path)
    if local is not None:
        return open(local, "rb")
    from dr_keras.data.corpora.files import SeekableFile

    return SeekableFile(os.fspath(path))
