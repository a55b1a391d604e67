"""The files of a corpus: how they are found and read, and what names they give."""

import os

from dr_keras.data.formats.listing import Paths, find_files
from dr_keras.data.formats.reading import SeekableFile, read_chunks, read_lines, reason
from dr_keras.data.formats.walking import GLOB

__all__ = [
    "Paths", "SeekableFile", "default_name", "find_files", "read_chunks", "read_lines", "reason",
    "stem",
]  # fmt: skip


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
    while len(parts) > 1 and GLOB.search(parts[-1]):
        parts.pop()
    return stem(parts[-1]) or "corpus"
