"""Going through folders and globs."""

from collections.abc import Iterator
import os
import re

import tensorflow as tf

from dr_keras.data.formats import kinds, names, reading
from dr_keras.errors import DataError

GLOB = re.compile(r"[*?\[]")


def expand(path: str) -> tuple[str, list[str]]:
    """Returns "name", "glob" or "folder", which the path is, and its files, sorted.

    Files of a folder are those below it that are not hidden; a glob names no folders.

    Raises:
      DataError: nothing is there, or it cannot be looked up, or is a pipe or the like.
    """
    reading.check_name(path)
    place = reading.shown(path)
    if reason := kinds.irregular(path):
        raise DataError(f"{place}: it is {reason}; name a file")
    try:
        if tf.io.gfile.isdir(path):
            return "folder", sorted(_walk(path))
        if tf.io.gfile.exists(path):  # before the glob: a file name may hold a bracket
            return "name", [path]
        matches = tf.io.gfile.glob(path) if GLOB.search(path) else []
        files = sorted(file for file in matches if not tf.io.gfile.isdir(file))
    except tf.errors.OpError as error:
        raise DataError(f"{place}: cannot be looked up ({reading.reason(error)})") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{place}: a name that is not UTF-8 lies there,"
            f" {reading.shown(os.fsdecode(error.object))}, and globs cannot pass it over; rename"
            " it, or name the files without a glob"
        ) from error
    if not files:
        raise DataError(
            f"{place}: no file matches; check the spelling of the glob"
            if GLOB.search(path)
            else f"{place}: no such file or directory; check the path"
        )
    return "glob", files


def _walk(directory: str) -> Iterator[str]:
    """Yields the files below a folder that are not hidden, and goes into no folder twice."""
    if reading.local_path(directory) is not None:
        yield from _walk_local(directory)
        return
    for folder, _, files in tf.io.gfile.walk(directory, onerror=_raise):
        inner = os.path.relpath(folder, directory).split(os.sep)
        if not any(names.is_hidden(name) and name not in (".", "..") for name in inner):
            yield from (os.path.join(folder, name) for name in files if not names.is_hidden(name))


def _raise(error: Exception) -> None:
    raise error


def _walk_local(directory: str) -> Iterator[str]:
    visited: set[str] = set()
    folders, links = [directory], []  # links last, so that files go by their own names
    while folders or links:
        folder = folders.pop() if folders else links.pop(0)
        if (real := os.path.realpath(folder)) in visited:
            continue
        visited.add(real)
        try:
            with os.scandir(folder) as scan:
                entries = sorted(scan, key=lambda entry: (entry.is_symlink(), entry.name))
        except OSError as error:
            raise DataError(
                f"{reading.shown(folder)}: the folder cannot be read ({error.strerror}); allow it,"
                " or name the files"
            ) from error
        for entry in entries:
            if names.is_hidden(entry.name):
                continue
            if not _is_folder(entry):
                yield entry.path
            elif entry.is_symlink():
                links.append(entry.path)
            else:
                folders.append(entry.path)


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle: a file that cannot be read
        return False
