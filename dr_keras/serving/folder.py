"""The files of an exported rater: what they are, their sizes and checksums.

Nothing here opens what is not a plain file, follows a folder that `rater.json` does not name, or
holds more of a file than a piece in memory: a folder that somebody else made may hold anything.
"""

from collections.abc import Iterable
import errno
import os
import stat

import tensorflow as tf

from dr_keras.data.formats.kinds import SPECIAL
from dr_keras.data.formats.reading import local_path, names_in, sha256
from dr_keras.errors import ArtefactError

FILE, FOLDER, NOTHING, LOOSE_LINK = "a file", "a folder", "nothing", "a link to nothing"
GRAPH = "saved_model.pb"
# What TensorFlow opens by itself, below a folder with a graph.
_READ_BY_TENSORFLOW = ("saved_model.", "fingerprint.pb", "variables/variables.", "debug/saved_")
_FOLDERS = ("", "variables", "debug")
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, **SPECIAL}


def what_is(path: str) -> str:
    """What lies at a path, links followed: FILE, FOLDER, NOTHING or, in words, something else.

    Nothing is opened, so a pipe that nobody writes to is no reason to wait.
    """
    local = local_path(path)
    if local is None:
        if tf.io.gfile.isdir(path):
            return FOLDER
        return FILE if tf.io.gfile.exists(path) else NOTHING
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(local).st_mode), "no file")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        return LOOSE_LINK if os.path.islink(local) else NOTHING


def read_small(path: str, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes.

    Raises:
      ArtefactError: it is something else, or larger.
    """
    found = what_is(path)
    if found != FILE:
        raise ArtefactError(f"{path} is {found}, and should be a file: copy the rater again.")
    size = int(tf.io.gfile.stat(path).length)
    if size > most:
        raise ArtefactError(
            f"{path} has {size:,} bytes, and {most:,} are the most that it may have: copy or export"
            " the rater again."
        )
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read(size)


def check_sizes(directory: str, expected: dict[str, int]) -> None:
    """Raises ArtefactError unless the files are there, whole, and all that TensorFlow will read."""
    for name, size in expected.items():
        path = os.path.join(directory, name)
        found = what_is(path)
        if found == NOTHING:
            raise ArtefactError(
                f"{directory} is only part of a rater: the file {name} is missing. Copy or export"
                " it again."
            )
        if found != FILE:
            raise ArtefactError(
                f"{directory} is no whole rater: {name} is {found}, and should be a file. Copy or"
                " export it again."
            )
        length = int(tf.io.gfile.stat(path).length)
        if length != size:
            raise ArtefactError(
                f"{directory} is only part of a rater: {name} has {length} bytes and should"
                f" have {size}. Copy or export it again."
            )
    if GRAPH not in expected:
        raise ArtefactError(f"{directory} is no rater: the file {GRAPH} is missing.")
    for folder in graph_folders(expected):
        _refuse_others(directory, folder, expected)


def graph_folders(names: Iterable[str]) -> list[str]:
    """The folders that hold a graph, of all files of a rater; "" is the rater's own."""
    return sorted(os.path.dirname(name) for name in names if os.path.basename(name) == GRAPH)


def _refuse_others(directory: str, folder: str, expected: dict[str, int]) -> None:
    for inner in _FOLDERS:
        place = os.path.join(directory, folder, inner)
        if what_is(place) != FOLDER:
            continue
        for entry in names_in(place):
            below = os.path.join(inner, entry)
            name = os.path.join(folder, below)
            if name in expected or name == "rater.json":
                continue
            found = what_is(os.path.join(directory, name))
            is_read = below.startswith(_READ_BY_TENSORFLOW)
            if is_read or found not in (FILE, FOLDER, LOOSE_LINK, NOTHING):
                raise ArtefactError(
                    f"{directory} has {found} named {name!r} that its rater.json does not list:"
                    " remove it, or copy the rater again."
                )


def check_sums(directory: str, expected: dict[str, str]) -> None:
    """Raises ArtefactError where a file that is there has another content than it should."""
    for name, checksum in expected.items():
        if sha256(os.path.join(directory, name)) != checksum:
            raise ArtefactError(
                f"{directory} is damaged: the content of {name} is not what was written. Copy or"
                " export the rater again."
            )


def has_sum(name: str) -> bool:
    """Whether a file's checksum is stored: not the variables', which TensorFlow checks itself."""
    return "variables" not in name.split("/")


def checksums(directory: str, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files that have one."""
    return {name: sha256(os.path.join(directory, name)) for name in names if has_sum(name)}


def sizes(directory: str, but: str) -> dict[str, int]:
    """Bytes of all files below a folder that was just written, by path, without the file `but`."""
    found = {}
    for folder, _, names in tf.io.gfile.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory).replace(os.sep, "/")
            if relative != but:
                found[relative] = int(tf.io.gfile.stat(path).length)
    return dict(sorted(found.items()))
