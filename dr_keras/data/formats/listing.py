"""Finding files: what paths, globs, folders and lists of these name, each file once.

Every file of a folder is read or is told of: see `Found.say`.
"""

from collections.abc import Iterable, Iterator, Sequence
import concurrent.futures
import dataclasses
import functools
import logging
import os

from dr_keras.data.formats import kinds, names, reading, walking
from dr_keras.data.formats.own_outputs import without_outputs
from dr_keras.errors import ConfigurationError, DataError

Paths = str | os.PathLike | Sequence[str | os.PathLike]

_NAMED_AT_MOST = 5  # files of one reason
_READERS = 16  # of first bytes at a time: each is a request where files are far away

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Found:
    """The files that are read, and why others are not.

    Attributes:
      kind: what they all are: "jsonl", "parquet", "tfrecord" or "text".
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
                where = "of this glob" if walking.GLOB.search(entry) else f"in this {folder}"
                raise DataError(f"{reading.shown(entry)}: no file {where} {what}")


def list_corpus(path: Paths, text_suffixes: tuple[str, ...] = names.TEXT) -> Found:
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
    passed_over, note = dict(met.outputs), names.COMPANION[0]
    of_kind: dict[str, list[str]] = {}
    for file, what in _look(met.files, text_suffixes):
        if what.kind is not None:
            of_kind.setdefault(what.kind, []).append(file)
        elif met.files[file] and not (len(met.files) > 1 and names.is_companion(file)):
            raise kinds.refusal(file, what)
        else:
            passed_over[file] = note if names.is_companion(file) else what.reason
    notes = [file for file in of_kind.get("text", ()) if names.is_companion(file)]
    only_notes = len(of_kind) == 1 and notes == of_kind.get("text")
    if len(of_kind) > 1 or (only_notes and not all(map(names.is_companion, passed_over))):
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


def find_files(path: Paths, kind: str, text_suffixes: tuple[str, ...] = names.TEXT) -> list[str]:
    """Returns the files that `path` names, for a reader of one kind, and logs what is passed over.

    Files that are named, by themselves or by a glob, are taken for what the caller says they are.
    From a folder come those that are of the kind (`kinds.what_is`); names that begin with a dot or
    an underscore are passed over without a word, as are folders named so.

    Args:
      path: file, glob, folder, or a list of these, local or through `tf.io.gfile`.
      kind: "jsonl", "parquet", "tfrecord" or "text".
      text_suffixes: how the names of text files end.

    Raises:
      DataError: an entry names nothing, or a folder without such files.
    """
    met = _meet(path)
    passed_over = dict(met.outputs)
    in_folders = [file for file in met.files if file not in met.by_caller]
    for file, what in _look(in_folders, text_suffixes):
        if what.kind != kind:
            passed_over[file] = what.reason or f"{what.kind}, not {kind}"
    for file in met.by_caller:
        reading.check_name(file)
        if reason := kinds.irregular(file):
            raise DataError(f"{reading.shown(file)}: it is {reason}; name a file")
    read = [file for file in met.files if file not in passed_over]
    passed_over.update(met.repeated)
    suffixes = text_suffixes if kind == "text" else names.RECORDS[kind]
    met.require(
        read,
        f"ends in {', '.join(suffixes)} (or these and .gz, .bz2, .zst); there is"
        f" {listed(passed_over) or 'nothing'}; name the files, or give a glob",
        "directory",
    )
    Found(kind, read, passed_over).say()
    return read


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
    suffixes = [suffix for of_kind in names.RECORDS.values() for suffix in of_kind]
    return f"{', '.join([*suffixes, *text_suffixes])} (.gz, .bz2 or .zst may follow)"


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
        how, files = walking.expand(entry)
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
