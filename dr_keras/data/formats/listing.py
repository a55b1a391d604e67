"""Finding files: what paths, globs, folders and lists of these name, each file once.

Every file of a folder is read or is told of: see `Found.say`.
"""

from collections.abc import Iterable, Iterator, Sequence
import concurrent.futures
import dataclasses
import functools
import logging
import os
import re

import tensorflow as tf

from dr_keras.data.formats import kinds, reading
from dr_keras.data.formats.own_outputs import without_outputs
from dr_keras.errors import ConfigurationError, DataError

GLOB = re.compile(r"[*?\[]")

Paths = str | os.PathLike | Sequence[str | os.PathLike]

_NAMED_AT_MOST = 5  # files of one reason
_READERS = 16  # of first bytes at a time: each is a request where files are far away

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Found:
    """The files that are read, and why others are not.

    Attributes:
      kind: what they all are: the name of a format.
      paths: the files, sorted within each path that was given.
      passed_over: file -> why it is not read.
    """

    kind: str
    paths: list[str]
    passed_over: dict[str, str]

    def say(self) -> None:
        """Logs one line about the files that are passed over, if there are any."""
        if self.passed_over:
            count = len(self.passed_over)
            _logger.warning(
                "%d file%s passed over: %s",
                count, " is" if count == 1 else "s are", listed(self.passed_over),
            )  # fmt: skip


@dataclasses.dataclass
class _Met:
    """Files in the order in which they were met, each under its first name.

    Attributes:
      files: path -> whether it was named by itself, and not by a folder or glob.
      by_caller: those that were named by themselves or by a glob.
      outputs: path -> why files of folders and globs are never looked into.
      repeated: path -> that it is a file that was met before.
      entries: folder or glob -> the first names of its files.
    """

    files: dict[str, bool] = dataclasses.field(default_factory=dict)
    by_caller: dict[str, None] = dataclasses.field(default_factory=dict)
    outputs: dict[str, str] = dataclasses.field(default_factory=dict)
    repeated: dict[str, str] = dataclasses.field(default_factory=dict)
    entries: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    def require(self, read: Iterable[str], what: str, folder: str = "folder") -> None:
        """Raises DataError that no file `what`, for a folder or glob that gives none to read."""
        read = set(read)
        for entry, files in self.entries.items():
            if read.isdisjoint(files):
                where = "of this glob" if GLOB.search(entry) else f"in this {folder}"
                raise DataError(f"{reading.shown(entry)}: no file {where} {what}")


def list_corpus(path: Paths, text_suffixes: tuple[str, ...] = kinds.TEXT) -> Found:
    """Returns the files that are named, all of one kind, which the files themselves tell.

    Files of a folder or glob that cannot be read are passed over, and so are a README and the
    like beside records, however they are named. A file that is named by itself is read or refused.

    Args:
      path: file, glob, folder, or a list of these.
      text_suffixes: how the names of text files end.

    Raises:
      DataError: a path names nothing that can be read, or a file is not what its name says.
      ConfigurationError: there are files of several kinds.
    """
    met = _meet(path)
    passed_over, note = dict(met.outputs), kinds.COMPANION[0]
    of_kind: dict[str, list[str]] = {}
    for file, what in _look(met.files, text_suffixes):
        if what.kind is not None:
            of_kind.setdefault(what.kind, []).append(file)
        elif met.files[file] and not (len(met.files) > 1 and kinds.is_companion(file)):
            raise kinds.refusal(file, what)
        else:
            passed_over[file] = note if kinds.is_companion(file) else what.reason
    notes = [file for file in of_kind.get("text", ()) if kinds.is_companion(file)]
    only_notes = len(of_kind) == 1 and notes == of_kind.get("text")
    if len(of_kind) > 1 or (only_notes and not all(map(kinds.is_companion, passed_over))):
        # a README beside records, or beside what cannot be read, is no document
        of_kind["text"] = [file for file in of_kind.get("text", ()) if file not in set(notes)]
        passed_over.update(dict.fromkeys(notes, note))
    of_kind = {kind: files for kind, files in sorted(of_kind.items()) if files}
    passed_over.update(met.repeated)
    read = {file for files in of_kind.values() for file in files}
    met.require(
        read,
        "can be read as a corpus: names must end in"
        f" {_endings(text_suffixes)}; there is {listed(passed_over) or 'nothing'}",
    )
    if len(of_kind) > 1:
        examples = "; ".join(f"{kind}: {files[0]}" for kind, files in of_kind.items())
        raise ConfigurationError(
            f"{reading.shown(_entries(path)[0])}: files of several kinds ({', '.join(of_kind)}),"
            f" such as {examples}: name the files of one kind, or join them by mixture_corpus in a"
            " gin file."
        )
    ((kind, files),) = of_kind.items()
    return Found(kind, files, passed_over)


def find_files(path: Paths, kind: str, text_suffixes: tuple[str, ...] | None = None) -> list[str]:
    """Returns the files that `path` names, for a reader of one kind, and logs what is passed over.

    Files that are named, by themselves or by a glob, are taken for what the caller says they are.
    From a folder come those that are of the kind (`kinds.what_is`); names that begin with a dot or
    an underscore are passed over without a word, as are folders named so.

    Args:
      path: file, glob, folder, or a list of these, local or through `tf.io.gfile`.
      kind: name of a format.
      text_suffixes: how the names of text files end; None: as the format says.

    Raises:
      DataError: an entry names nothing, or a folder without such files.
    """
    suffixes = kinds.suffixes_of(kinds.TEXT if text_suffixes is None else text_suffixes)
    met = _meet(path)
    passed_over = dict(met.outputs)
    in_folders = [file for file in met.files if file not in met.by_caller]
    for file, what in _look(in_folders, suffixes["text"]):
        if what.kind != kind:
            passed_over[file] = what.reason or f"{what.kind}, not {kind}"
    for file in met.by_caller:
        reading.check_name(file)
        if reason := kinds.irregular(file):
            raise DataError(f"{reading.shown(file)}: it is {reason}; name a file")
    read = [file for file in met.files if file not in passed_over]
    passed_over.update(met.repeated)
    met.require(
        read,
        f"ends in {', '.join(suffixes[kind])} (or these and .gz, .bz2, .zst); there is"
        f" {listed(passed_over) or 'nothing'}; name the files, or give a glob",
        "directory",
    )
    Found(kind, read, passed_over).say()
    return read


def default_name(path: Paths) -> str:
    """Returns the name of a corpus that is given none: what its (first) path is called.

    For a glob that is the folder before the first wildcard, so that it is a name and no pattern.
    """
    first = path if isinstance(path, str | os.PathLike) else list(path)[0]
    parts = os.path.normpath(os.path.expanduser(os.fspath(first))).split(os.sep)
    while len(parts) > 1 and GLOB.search(parts[-1]):
        parts.pop()
    return reading.stem(parts[-1]) or "corpus"


def listed(reasons: dict[str, str]) -> str:
    """Returns "a.csv, b.csv and 7 more (a table); c (empty)": files by why they are not read."""
    by_reason: dict[str, list[str]] = {}
    for path, reason in reasons.items():
        by_reason.setdefault(reason, []).append(reading.shown(path))
    parts = []
    for reason, files in by_reason.items():
        more = len(files) - _NAMED_AT_MOST
        rest = f" and {more} more" if more > 0 else ""
        parts.append(f"{', '.join(files[:_NAMED_AT_MOST])}{rest} ({reason})")
    return "; ".join(parts)


def _endings(text_suffixes: tuple[str, ...]) -> str:
    suffixes = [
        suffix for of_kind in kinds.suffixes_of(text_suffixes).values() for suffix in of_kind
    ]
    return f"{', '.join(suffixes)} (.gz, .bz2 or .zst may follow)"


def _entries(path: Paths) -> list[str]:
    entries = [path] if isinstance(path, str | os.PathLike) else list(path)
    if not entries:
        raise ConfigurationError("the list of paths is empty; name at least one file")
    return [os.path.expanduser(os.fspath(entry)).removeprefix("file://") for entry in entries]


def _look(
    files: Iterable[str], text_suffixes: tuple[str, ...]
) -> Iterator[tuple[str, kinds.FileKind]]:
    """Yields each file and what it is, in order."""
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        found = pool.map(functools.partial(kinds.what_is, text_suffixes=text_suffixes), files)
        yield from zip(files, found)


def _meet(path: Paths) -> _Met:
    met, first = _Met(), {}
    for entry in _entries(path):
        how, files = _expand(entry)
        if how != "name":
            met.entries[entry] = []
            files, outputs = without_outputs(files)
            met.outputs.update(outputs)
            if outputs and not files:
                raise DataError(
                    f"{reading.shown(entry)}: there is nothing but what dr_keras wrote,"
                    f" {listed(outputs)}; name the files that hold the corpus"
                )
        for file in files:
            local = reading.local_path(file)
            name = first.setdefault(file if local is None else os.path.realpath(local), file)
            if name in met.files:
                same = "named twice" if name == file else f"the same file as {reading.shown(name)}"
                met.repeated[file] = f"{same}, and read once"
            met.files[name] = met.files.get(name, False) or how == "name"
            if how != "folder":
                met.by_caller[name] = None
            if how != "name":
                met.entries[entry].append(name)
    return met


def _expand(path: str) -> tuple[str, list[str]]:
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
        if not any(kinds.is_hidden(name) and name not in (".", "..") for name in inner):
            yield from (os.path.join(folder, name) for name in files if not kinds.is_hidden(name))


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
            if kinds.is_hidden(entry.name):
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
