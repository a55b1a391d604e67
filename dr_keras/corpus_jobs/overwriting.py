"""No job writes over what it reads, and none writes to a place that nobody named."""

from collections.abc import Callable, Iterable
import functools
import os

import tensorflow as tf

from dr_keras.data.formats import own_outputs
from dr_keras.data.formats.reading import local_path, names_in, place
from dr_keras.errors import ConfigurationError


def require_name(path: str | os.PathLike | None, setting: str, what: str = "file") -> None:
    """Raises ConfigurationError where a path was given that names nothing; None is no path."""
    if path is not None and not os.fspath(path).strip():
        raise ConfigurationError(f"{setting} is empty: name the {what} to write.")


def refuse_overwriting(outputs: Iterable[str], inputs: Iterable[str]) -> None:
    """Raises ConfigurationError where a job would replace, remove or bury what it reads.

    Files are compared by what they are: links of both kinds are followed. A folder among the
    outputs is one that the job removes, so no input may lie in it.
    """
    taken: dict[object, str] = {}
    resolved = functools.lru_cache(os.path.realpath)
    for path in inputs:
        taken.update(dict.fromkeys(_keys(path, resolved), path))
    for output in outputs:
        keys = _keys(output, resolved)
        clash = [key for key in keys if key in taken]
        if not clash and tf.io.gfile.isdir(output):
            below = tuple(f"{key}/" for key in keys if isinstance(key, str))
            clash = [key for key in taken if isinstance(key, str) and key.startswith(below)]
        if clash:
            raise ConfigurationError(
                f"{output} would be written over the input {taken[clash[0]]}: choose another place"
                " for the output. No flag overwrites an input."
            )


def _keys(path: str, resolved: Callable[[str], str]) -> set:
    """What a file is known by: where it lies, once links are followed, and its inode."""
    local = local_path(path)
    if local is None:
        return {place(path)}
    folder, name = os.path.split(os.path.abspath(local))
    found = os.path.join(folder, name)
    keys: set = {resolved(found) if os.path.islink(found) else os.path.join(resolved(folder), name)}
    try:
        stat = os.stat(found)
        keys.add((stat.st_dev, stat.st_ino))
    except OSError:
        pass  # is not there yet, so it is no input
    return keys


def of_scores(path: str) -> list[str]:
    """What is written, or removed, where a score file is made."""
    return [
        path,
        path + own_outputs.MANIFEST_SUFFIX,
        path + own_outputs.ERRORS_SUFFIX,
        path + own_outputs.UNFINISHED_SUFFIX,
    ]


def of_filter(output_dir: str) -> list[str]:
    """What is written, or removed, where a corpus is filtered."""
    fixed = (own_outputs.MANIFEST, own_outputs.ERRORS, own_outputs.WORK)
    return [os.path.join(output_dir, name) for name in (*fixed, *shard_outputs(output_dir))]


def shard_outputs(output_dir: str) -> list[str]:
    """Names in a folder that begin as those of kept and dropped records do, sorted."""
    if not tf.io.gfile.isdir(output_dir):
        return []
    begin = (own_outputs.KEPT, own_outputs.DROPPED)
    return [name for name in names_in(output_dir) if name.startswith(begin)]
