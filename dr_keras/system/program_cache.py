"""Compiled programs, kept from one process to the next.

XLA can keep the machine code it compiles in a folder and load it the next time. It reads where from
TF_XLA_FLAGS, once, when TensorFlow's first operation runs; so commands call `use` before they
import TensorFlow, and processes that they start inherit what it sets.

    ~/.cache/dr_keras/programs/<key>/    programs of one TensorFlow on one kind of processor
                                         ($XDG_CACHE_HOME in place of ~/.cache, where it is set)

A program is found by a hash of all of its operations, which TensorFlow compares in full, and of the
session's settings, its threads among them. The key stands for what else machine code depends on:
TensorFlow's library, the processor and its instructions, the cores in use, XLA's flags. So code of
another machine is never run, though it shares the home folder. Programs of GPUs and TPUs are not
kept: what these are made for, drivers among them, is not in the key.

What TensorFlow would fail at is seen to beforehand: a damaged file is removed, and where nothing
can be written programs are only read. The folders of all keys together are bounded: what was not
used for longest goes first.
"""

from collections.abc import Iterator, Mapping, MutableMapping
import contextlib
import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
import pathlib
import platform
import re
import shutil
import stat
import time

from dr_keras.errors import ConfigurationError

# Names a folder in place of the user's own, or is "off". The same as the flag --program_cache.
VARIABLE = "DR_KERAS_PROGRAM_CACHE"
OFF = "off"
HELP = (
    f"folder of compiled programs, which later commands load, or {OFF!r} for none (default: below"
    f" ~/.cache). The same as the environment variable {VARIABLE}"
)
LARGEST_BYTES = 1 << 30
# Below this, the next programs might not find room, and an error of TensorFlow would end the run.
LEAST_ROOM_BYTES = 512 << 20
# No file that was used a moment ago is removed: another process may be about to read it.
_IN_USE_SECONDS = 3600.0

_FLAGS = "TF_XLA_FLAGS"
_FOLDER = "--tf_xla_persistent_cache_directory"
_OWN_FLAGS = ("--tf_xla_persistent_cache_device_types=CPU",)
_READ_ONLY = "--tf_xla_persistent_cache_read_only=true"
# Settings of TensorFlow that change programs and are not among the session's.
_SETTINGS = (
    "XLA_FLAGS", "TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS",
    "TF_ENABLE_ONEDNN_OPTS",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Use:
    """What became of a request to keep programs.

    Attributes:
      folder: where they lie; None where none are kept or read.
      reason: why none are kept, for people; empty where they are, and where nobody wanted them.
    """

    folder: str | None
    reason: str = ""


def use(
    place: str | None = None,
    environment: MutableMapping[str, str] = os.environ,
    largest_bytes: int = LARGEST_BYTES,
) -> Use:
    """Has TensorFlow keep and find compiled programs; before its first operation.

    Args:
      place: a folder, made if missing; "off" for none; None for what DR_KERAS_PROGRAM_CACHE says,
        or else the user's cache folder.
      environment: TF_XLA_FLAGS is set there, and for processes to come DR_KERAS_PROGRAM_CACHE.
      largest_bytes: of all keys together, once this call is over; later programs come on top.

    Raises:
      ConfigurationError: `place` names a folder that cannot be used. The default one is gone
        without, and the result says why.
    """
    _take_back(environment)
    named = place or environment.get(VARIABLE) or None
    if named == OFF or _is_set_by_the_user(environment):
        return Use(None)
    try:
        folder, may_write = _prepared(named, environment, largest_bytes)
    except _Unusable as unusable:
        if named:
            raise ConfigurationError(
                f"{named} cannot keep compiled programs: {unusable}. Name another folder, or"
                f" {OFF!r} to go without (--program_cache, {VARIABLE})."
            ) from None
        return Use(None, str(unusable))
    flags = [f'{_FOLDER}="{folder}"', *_OWN_FLAGS, *([] if may_write else [_READ_ONLY])]
    environment[_FLAGS] = " ".join([*_flags(environment), *flags])
    environment[VARIABLE] = str(folder.parent)
    reason = "" if may_write else f"{folder} cannot be written, or its disk is full"
    return Use(str(folder), reason)


class _Unusable(Exception):
    """Why a folder cannot be used, for people."""


def _flags(environment: Mapping[str, str]) -> list[str]:
    """The flags one by one; spaces within quotes do not end one."""
    return re.findall(r"""(?:[^\s"']|"[^"]*"|'[^']*')+""", environment.get(_FLAGS, ""))


def _take_back(environment: MutableMapping[str, str]) -> None:
    """Removes the flags that a process which started this one set; its key may be another."""
    flags, root = _flags(environment), environment.get(VARIABLE)
    if root and any(flag.startswith(f'{_FOLDER}="{root}{os.sep}') for flag in flags):
        own = (f"{_FOLDER}=", *_OWN_FLAGS, _READ_ONLY)
        environment[_FLAGS] = " ".join(flag for flag in flags if not flag.startswith(own))


def _is_set_by_the_user(environment: Mapping[str, str]) -> bool:
    """Whether the flags leave no place for ours, or dump what is compiled, which must be then."""
    flags = environment.get(_FLAGS, "").strip()
    in_a_file = bool(flags) and not flags.startswith("-")
    return in_a_file or _FOLDER in flags or "dump" in environment.get("XLA_FLAGS", "")


def _prepared(
    named: str | None, environment: Mapping[str, str], largest_bytes: int
) -> tuple[pathlib.Path, bool]:
    """The folder of this machine's key, in order, and whether it can be written."""
    root = pathlib.Path(named).expanduser() if named else _default_root(environment)
    folder = root.absolute() / key(environment)
    if any(character in str(folder) for character in "\"'\n"):
        raise _Unusable(f"TensorFlow takes no quotes in its name ({folder})")
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        found = folder.stat()
    except OSError as error:
        raise _Unusable(f"{folder} cannot be made ({error.strerror})") from None
    # Whoever may write there has their code run by this process.
    if hasattr(os, "getuid") and (found.st_uid != os.getuid() or found.st_mode & 0o022):
        raise _Unusable(f"others than you may write to {folder} (chmod go-w mends that)")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise _Unusable(f"{folder} cannot be read")
    if not os.access(folder, os.W_OK):
        return folder, False
    _remove_damaged(folder)
    _remove_oldest(folder.parent, largest_bytes)
    return folder, shutil.disk_usage(folder).free >= LEAST_ROOM_BYTES


def _default_root(environment: Mapping[str, str]) -> pathlib.Path:
    given = environment.get("XDG_CACHE_HOME", "")
    try:
        home = pathlib.Path(given) if os.path.isabs(given) else pathlib.Path.home() / ".cache"
    except RuntimeError:
        raise _Unusable("this user has no home folder") from None
    return home / "dr_keras" / "programs"


def key(environment: Mapping[str, str] = os.environ) -> str:
    """Name of the folder of programs that fit this TensorFlow, machine and settings."""
    cores = (
        os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    )
    facts = [
        *_tensorflow(),
        platform.system(),
        platform.machine(),
        *_processor(),
        f"cores {cores}",
        *(f"{name}={environment.get(name, '')}" for name in _SETTINGS),
    ]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _tensorflow() -> list[str]:
    """Which TensorFlow this is, without importing it."""
    found = importlib.util.find_spec("tensorflow")
    if found is None or found.origin is None:
        raise _Unusable("TensorFlow is not installed")
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        facts = [importlib.metadata.version("tensorflow")]
        # Builds of one version differ in size.
        for library in sorted(pathlib.Path(found.origin).parent.glob("libtensorflow*")):
            facts.append(f"{library.name} {library.stat().st_size}")
        return facts
    raise _Unusable("which version of TensorFlow this is cannot be told")


def _processor() -> list[str]:
    """Model and instructions of the processor; elsewhere than on Linux what Python knows."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return [platform.processor(), platform.node()]
    wanted = ("model name", "flags", "Features", "CPU implementer", "CPU part", "CPU variant")
    return sorted({line for line in lines if line.split("\t")[0].strip() in wanted})


def _remove_damaged(folder: pathlib.Path) -> None:
    """Removes programs that were not written to their end, which TensorFlow would fail at."""
    for path in folder.glob("*.pb"):
        with contextlib.suppress(OSError):
            if not is_whole(path):
                path.unlink()


def is_whole(path: pathlib.Path) -> bool:
    """Whether a file is a message of fields with lengths that end where the file does.

    TensorFlow writes programs under other names and renames them, so that a killed process leaves
    none in part; a machine that lost its power may. What lies inside the fields is not looked at.
    """
    fields = set()
    # A look is no use: what was not used for longest goes first.
    unnoticed = os.open(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    with open(unnoticed, "rb") as file:
        size = os.fstat(unnoticed).st_size
        while file.tell() < size:
            tag = _varint(file)
            if tag is None or tag & 7 not in (0, 2):
                return False
            length = _varint(file)
            if length is None:
                return False
            if tag & 7 == 2:
                if file.tell() + length > size:
                    return False
                file.seek(length, os.SEEK_CUR)
            fields.add(tag >> 3)
    return {1, 2, 3} <= fields  # key, operations and machine code


def _varint(file) -> int | None:
    """The next number of a protocol buffer; None where it is none."""
    found = 0
    for place in range(10):
        byte = file.read(1)
        if not byte:
            return None
        found |= (byte[0] & 0x7F) << (7 * place)
        if byte[0] < 0x80:
            return found
    return None


def _remove_oldest(root: pathlib.Path, largest_bytes: int) -> None:
    """Removes programs, oldest use first, until all keys together have so many bytes at most."""
    files = sorted(_files(root))
    total = sum(size for _, size, _ in files)
    now = time.time()
    for used, size, path in files:
        is_left_over = path.suffix != ".pb"
        if now - used < _IN_USE_SECONDS or not (total > largest_bytes or is_left_over):
            continue
        with contextlib.suppress(OSError):
            path.unlink()
            total -= size


def _files(root: pathlib.Path) -> Iterator[tuple[float, int, pathlib.Path]]:
    """(last use, bytes, path) of the files one folder below `root`."""
    for path in root.glob("*/xla_compile_cache*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if stat.S_ISREG(found.st_mode):
                yield max(found.st_atime, found.st_mtime), found.st_size, path
