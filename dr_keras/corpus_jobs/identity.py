"""By what a corpus is known: its files' names, sizes, times and bytes, and its documents.

Names are relative to the folder that all files have in common, so a corpus is the same by an
absolute or relative path, as `file://`, from another directory, and after a move or a copy. Files
of the same names, sizes and times are taken to be the same. Where only times differ, as after a
copy, a digest of the bytes decides.

No job writes over what it reads, and none writes to a place that nobody named.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import dataclasses
import functools
import hashlib
import os

import numpy as np
import tensorflow as tf

from dr_keras.data.documents import Document, update_digest
from dr_keras.data.formats import own_outputs
from dr_keras.data.formats.reading import local_path, names_in, place, reason, sha256
from dr_keras.errors import ConfigurationError, DataError

# in manifests: sums over documents with, and without, their sources
WITH_SOURCES, TEXTS = "input_fingerprint", "text_fingerprint"


@dataclasses.dataclass(frozen=True)
class InputFile:
    """A file and how to tell that it changed.

    Attributes:
      path: as it was found.
      size: bytes.
      modified: time of its last change, ns.
      name: its path below the folder that all files of the input have in common.
    """

    path: str
    size: int
    modified: int
    name: str

    def to_dict(self) -> dict:
        """JSON-able."""
        return dict(vars(self))


def input_files(paths: Sequence[str]) -> list[InputFile]:
    """Size and age of every file, as found now. Raises DataError where one cannot be read."""
    return [InputFile(path, *_stat(path), name) for path, name in zip(paths, relative_names(paths))]


def _stat(path: str) -> tuple[int, int]:
    """Size and time. TensorFlow's time is in whole seconds: two writes may share one."""
    local = local_path(path)
    with _read(path):
        if local is not None:
            local_stat = os.stat(local)
            return local_stat.st_size, local_stat.st_mtime_ns
        stat = tf.io.gfile.stat(path)
    return int(stat.length), int(stat.mtime_nsec)


@contextlib.contextmanager
def _read(path: str) -> Iterator[None]:
    """Raises DataError where what is done with a file in the block fails."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except tf.errors.OpError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from error


def same_time(recorded: int, now: int) -> bool:
    """Whether two times of a file agree; earlier versions recorded whole seconds."""
    return recorded == now or (recorded % 10**9 == 0 and recorded == now - now % 10**9)


def relative_names(paths: Sequence[str]) -> list[str]:
    """What paths are called below the folder that they have in common."""
    split = [place(path).split("/") for path in paths]
    common = os.path.commonprefix([parts[:-1] for parts in split])
    return ["/".join(parts[len(common) :]) for parts in split]


def short_name(inputs: Sequence[InputFile]) -> str:
    """Eight hex digits that change when a file is added, removed or changed."""
    facts = repr([(os.path.basename(f.path), f.size, f.modified) for f in inputs])
    return hashlib.sha256(facts.encode("utf-8", "surrogateescape")).hexdigest()[:8]


def digest(file: InputFile) -> str:
    """Hex SHA-256 of the bytes of a file. Raises DataError where it cannot be read."""
    return _digest(place(file.path), file.size, file.modified)


@functools.lru_cache(maxsize=1 << 16)
def _digest(path: str, size: int, modified: int) -> str:
    del size, modified  # they say which state of the file was read
    with _read(path):
        return sha256(path)


def changes(recorded: Sequence[Mapping], now: Sequence[InputFile]) -> list[str]:
    """In what files differ from those on record; empty where they are the same.

    Args:
      recorded: of each file what `InputFile.to_dict` says, and `sha256` where it is known; records
        of before there were names have none.
      now: the files. Only of those whose time differs are the bytes read.
    """
    paths = [file["path"] for file in recorded]
    known = [file["name"] for file in recorded if file.get("name") is not None]
    names = known if len(known) == len(paths) else relative_names(paths)
    old, new = dict(zip(names, recorded)), {file.name: file for file in now}
    found = [f"input {file.path} (is new)" for name, file in new.items() if name not in old]
    found += [f"input {old[name]['path']} (is missing)" for name in old if name not in new]
    for name, file in new.items():
        before = old.get(name)
        if before is None:
            continue
        if before["size"] != file.size:
            size = f"{before['size']} bytes then, {file.size} now"
            found.append(f"input {file.path} (has changed: {size})")
        elif same_time(before["modified"], file.modified):
            continue
        elif before.get("sha256") != digest(file):
            found.append(f"input {file.path} (was written to since)")
    if not found and list(old) != list(new):
        found.append("the order of the input files")
    return found


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


class Fingerprint:
    """SHA-256 sums over documents that know no order and no shards.

    Args:
      values: those of documents seen before, as `to_dict` gives them.
    """

    def __init__(self, values: Mapping[str, str] | None = None):
        values = values or {}
        self._sums = {name: int(values.get(name, "0"), 16) for name in (WITH_SOURCES, TEXTS)}

    def add(self, document: Document) -> None:
        self._add(WITH_SOURCES, document.id, document.source, document.text)
        self._add(TEXTS, document.id, document.text)

    def _add(self, name: str, *parts: str) -> None:
        found = hashlib.sha256()
        update_digest(found, "\0".join(parts[:-1]) + "\0")
        update_digest(found, parts[-1])
        value = int.from_bytes(found.digest())
        self._sums[name] = (self._sums[name] + value) % 2**256

    def merge(self, other: "Fingerprint") -> None:
        for name, value in other._sums.items():
            self._sums[name] = (self._sums[name] + value) % 2**256

    def to_dict(self) -> dict[str, str]:
        """`input_fingerprint` of ids, sources and texts, `text_fingerprint` of ids and texts."""
        return {name: f"{value:064x}" for name, value in self._sums.items()}


def check_scored_texts(
    manifest: Mapping, found: Fingerprint, scores: str, changed: Callable[[], list[str]] = list
) -> None:
    """Raises DataError where scores are of other texts than those that were read.

    Args:
      manifest: that of the scores. One without either fingerprint vouches for nothing.
      found: of the documents read.
      scores: the score file.
      changed: gives the files that are known to have changed, see `changes`.
    """
    ours = found.to_dict()
    name = next((name for name in (TEXTS, WITH_SOURCES) if manifest.get(name)), None)
    if name is None or manifest[name] == ours[name]:
        return
    files = changed()
    where = f"; since then: {'; '.join(files[:8])}" if files else ""
    raise DataError(
        f"The corpus is not the one that {scores} is about: a text changed under its id, or copies"
        f" are missing ({name} {ours[name][:12]} and not {manifest[name][:12]}{where}). Score it"
        " again (dr-keras score-corpus --overwrite)."
    )


def keys_of(ids: Sequence[str], size: int = 12) -> np.ndarray:
    """Hashes that stand for ids where millions are in memory: [N], `size` sortable bytes each.

    Of 12 bytes, no two of 10^12 different ids are expected to agree.
    """
    encoded = (id.encode("utf-8", "surrogatepass") for id in ids)
    return np.array([hashlib.blake2b(id, digest_size=size).digest() for id in encoded], f"S{size}")
