"""What dr_keras itself wrote into a folder, so that it is never read as a corpus.

A job marks what it writes before anybody can see it:

    <output_dir>/_work/job.json         while a corpus is filtered
    <output_dir>/manifest.json          from then on; lists the files and the input
    <score file>.unfinished/            while a score file is made; with a job.json where it is
                                        made in parts, which lie there
    <score file>.manifest.json          from then on
    <score file>.errors.jsonl           belongs to the score file
    <prepared>/manifest.json, _work/    of a prepared corpus likewise; all files below its folder
                                        are its own
    <sidecar>/manifest.json             of scores by file, in each of its folders; while they are
                                        written <sidecar>.unfinished/job.json
    unfinished-0123456789ab-<name>      a file that is being written

Who writes these takes the names from here.
"""

from collections.abc import Iterator, Sequence
import functools
import json
import os
import re

import tensorflow as tf

from dr_keras.data.formats import reading
from dr_keras.system.whole_files import UNFINISHED

MANIFEST = "manifest.json"
WORK = "_work"
JOB = "job.json"
ERRORS = "errors.jsonl"
MANIFEST_SUFFIX = ".manifest.json"
UNFINISHED_SUFFIX = ".unfinished"
ERRORS_SUFFIX = ".errors.jsonl"
KEPT, DROPPED = "kept-", "dropped-"
PREPARED = "dr_keras prepared corpus"
SIDECAR = "dr_keras scores by file"

_SHARD = re.compile(rf"^({KEPT}|{DROPPED})\d{{5}}(-of-\d{{5}})?\.")
_TEMPORARY = re.compile(rf"\.tmp-(?:probe|[0-9a-f]{{8}})$|^{UNFINISHED}[0-9a-f]{{12}}-")


def without_outputs(files: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Parts files that a folder or a glob gave into what may be data, and what dr_keras wrote.

    The records that a finished job kept are data, unless their own input is among the files: then
    reading both would read everything twice.

    Args:
      files: paths, as `tf.io.gfile` opens them.

    Returns:
      The files that may be data, in order; passed over path -> what it is.
    """
    folders = {folder: _Folder(folder) for folder in {os.path.dirname(path) for path in files}}
    names = {os.path.basename(path) for path in files}
    left, passed = [], {}
    for path in files:
        folder, name = os.path.split(path)
        what = folders[folder].output(name, names)
        if what is None:
            left.append(path)
        else:
            passed[path] = what
    return left, passed


class _Folder:
    """The marks in one folder."""

    def __init__(self, folder: str):
        self._folder = folder
        self._in_work = _is_work(folder)
        self._in_prepared = _is_prepared(folder) or _is_prepared(os.path.dirname(folder))
        try:
            self._names = set(reading.names_in(folder))
        except (OSError, tf.errors.OpError):
            self._names = set()  # whoever reads the files says why that cannot be
        self._in_sidecar = self._marked(MANIFEST, SIDECAR) is not None
        found = self._marked(MANIFEST, "dr_keras filtered") or {}
        files = found.get("files")
        self._files = set(files) if isinstance(files, dict) else set()
        self._inputs = {os.path.basename(path) for path in paths_of(found)} - self._files
        self._finished = bool(found)
        self._unfinished = WORK in self._names and tf.io.gfile.exists(
            os.path.join(folder, WORK, JOB)
        )

    def output(self, name: str, names: set[str]) -> str | None:
        """What the file is if it is no data; `names` are those of all files that were found."""
        if self._in_work or _TEMPORARY.search(name):
            return "what an unfinished job needs"
        if self._in_prepared:
            return "of a prepared corpus"
        if self._in_sidecar:
            return "of scores by file"
        if self._finished and name == MANIFEST:
            return "the manifest of a filtered corpus"
        if name in self._files:
            if not name.startswith(KEPT):
                return "what filter_corpus dropped or could not read"
            return "what filter_corpus kept of the same files" if self._inputs & names else None
        if self._unfinished and not self._finished and (_SHARD.search(name) or name == ERRORS):
            return "the output of an unfinished filter_corpus"
        for suffix in (MANIFEST_SUFFIX, ERRORS_SUFFIX):
            if name.endswith(suffix) and self._is_score_file(name.removesuffix(suffix)):
                return "about a score file"
        return "a score file" if self._is_score_file(name) else None

    @functools.cache  # noqa: B019  lives as long as the search
    def _is_score_file(self, name: str) -> bool:
        return name + UNFINISHED_SUFFIX in self._names or bool(
            self._marked(name + MANIFEST_SUFFIX, "dr_keras")
        )

    def _marked(self, name: str, format: str) -> dict | None:
        """The content of a JSON file that says so of itself."""
        return _marked(os.path.join(self._folder, name), format) if name in self._names else None


def _marked(path: str, format: str) -> dict | None:
    """See `_Folder._marked`."""
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            found = json.loads(file.read())
    except (tf.errors.OpError, ValueError, RecursionError):
        return None
    ours = isinstance(found, dict) and str(found.get("format", "")).startswith(format)
    return found if ours else None


def _is_prepared(folder: str) -> bool:
    """Whether a folder holds a prepared corpus, or one that is being prepared."""
    marks = (os.path.join(folder, MANIFEST), os.path.join(folder, WORK, JOB))
    return any(tf.io.gfile.exists(mark) and bool(_marked(mark, PREPARED)) for mark in marks)


def _is_work(folder: str) -> bool:
    """Whether a folder lies in that of an unfinished score file."""
    inner, name = folder, os.path.basename(folder)
    while name:
        if name.endswith(UNFINISHED_SUFFIX) and tf.io.gfile.exists(os.path.join(inner, JOB)):
            return True
        inner = os.path.dirname(inner)
        name = os.path.basename(inner)
    return False


def paths_of(described) -> Iterator[str]:
    """The paths of all files in what a corpus or a manifest says of its input."""
    if isinstance(described, list):
        for item in described:
            yield from paths_of(item)
    elif isinstance(described, dict):
        if isinstance(described.get("path"), str) and "size" in described:
            yield described["path"]
        paths = described.get("paths")
        yield from paths if isinstance(paths, list) else ()
        for name, value in described.items():
            if name not in ("paths", "settings", "counts", "by_source", "files"):
                yield from paths_of(value)
