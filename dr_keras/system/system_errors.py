"""What the operating system refuses, in one line: the path, what the system says, what to do.

Known are Python's `OSError` (also as gin and h5py raise it), TensorFlow's errors of file operations
and a lack of memory. TensorFlow raises the same classes for files and for computations, and sets no
`op` in eager mode; what tells them apart are the words of the C library at the end of a message:
`<path>; No space left on device`. Everything else is no error of the operating system: a number
that only a defect brings about (EBADF, EINVAL, EPIPE, ...) is in no table here.
"""

import errno
import os
import re
import sys

from dr_keras.system import whole_files

_THEN_AGAIN = "then run the same command again"
_REMEDIES = {
    errno.ENOSPC: f"make room on that disk or name a place on another one, {_THEN_AGAIN}",
    errno.EDQUOT: f"your quota is used up: remove files or name another place, {_THEN_AGAIN}",
    errno.EFBIG: "a limit on the size of files is reached: raise it (`ulimit -f`), or name a place"
    f" on another file system, {_THEN_AGAIN}",
    errno.EROFS: "it lies on a disk that is mounted read-only: name another place",
    errno.EACCES: "this user may not do that there: change the permissions, or name another place",
    errno.EPERM: "this user may not do that there: change the permissions, or name another place",
    errno.ENOENT: "check the name and that the folder it lies in is there",
    errno.ENOTDIR: "a file stands where a folder is needed: name another place, or move that file",
    errno.EISDIR: "it is a folder and a file is needed: name a file, or move that folder",
    errno.EEXIST: "something of that name is there already: name another place, or move it",
    errno.ENOTEMPTY: "the folder is not empty: name another place, or empty it",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "its links lead round in a circle: repair them, or name the file itself",
    errno.EMFILE: f"allow more open files (`ulimit -n 4096`), {_THEN_AGAIN}",
    errno.ENFILE: f"the machine has too many files open: close other programs, {_THEN_AGAIN}",
    errno.EBUSY: f"another program uses it: wait for that to end, {_THEN_AGAIN}",
    errno.EIO: "the disk or network share fails: see the system's log (dmesg)",
    errno.ESTALE: f"the network share was lost: mount it again, {_THEN_AGAIN}",
    errno.ENXIO: "there is no device behind it: name a file",
    errno.ENODEV: "there is no device behind it: name a file",
    errno.ENOMEM: f"memory is used up: use fewer workers or a larger machine, {_THEN_AGAIN}",
    errno.ECONNREFUSED: f"check the network and the address, {_THEN_AGAIN}",
    errno.ECONNRESET: f"check the network, {_THEN_AGAIN}",
    errno.ENETUNREACH: f"check the network, {_THEN_AGAIN}",
    errno.EHOSTUNREACH: f"check the network and the address, {_THEN_AGAIN}",
    errno.ETIMEDOUT: f"check the network, {_THEN_AGAIN}",
}
_NUMBERS = {os.strerror(number): number for number in _REMEDIES}
_MEMORY = "use smaller batches or models, fewer workers, or a machine with more memory"
_OUT_OF_MEMORY = re.compile(r"OOM when allocating|out of memory|failed to allocate", re.IGNORECASE)
# HDF5 says in its text what and where; h5py hands on the number only, and not always that.
_HDF5 = re.compile(r"name = '(?P<path>[^']*)'(?:.|\n)*errno = (?P<number>\d+), error message = '")
# TensorFlow's names of operations, before and after what it says.
_OPERATIONS = re.compile(r"^.*\}\} | \[Op:.*$|^\s*\(\d+\) [A-Za-z_ ]+: ")
_UNFINISHED = re.compile(rf"(?<![^/]){whole_files.UNFINISHED}[0-9a-f]{{12}}-")
_FILE = re.compile(r"(?P<path>.+); (?P<says>[^;]+)")
_NO_FOLDER = re.compile(r"(?P<path>\S.*) is not a directory")
_SCHEME = re.compile(
    r"File system scheme '(?P<scheme>.*)' not implemented \(file: '(?P<path>.*)'\)"
)
_REMOTE = re.compile(r"\b(?!https?:)[a-z][a-z0-9+.-]*://[^\s,;'\")]+")
_REMOTE_REMEDIES = {
    "PermissionDeniedError": "check your credentials for it",
    "UnauthenticatedError": "check your credentials for it",
    "NotFoundError": "check the name",
    "AlreadyExistsError": "name another place, or remove it",
    "FailedPreconditionError": "check the name and your settings for it",
    "ResourceExhaustedError": f"wait, or raise the quota, {_THEN_AGAIN}",
    "UnavailableError": f"check the network, {_THEN_AGAIN}",
    "DeadlineExceededError": f"check the network, {_THEN_AGAIN}",
    "AbortedError": f"check the network, {_THEN_AGAIN}",
}  # fmt: skip


def explained(error: BaseException) -> str | None:
    """`<path>: <what the system says>; <what to do>`, or None if `error` is not the system's."""
    error = original(error)
    if isinstance(error, MemoryError):
        said = str(error)
        return f"out of memory{f' ({said})' if said else ''}; {_MEMORY}"
    if isinstance(error, OSError | RuntimeError):
        return _of_python(error)
    # Where TensorFlow was not imported, it raised nothing.
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is not None and isinstance(error, tensorflow.errors.OpError):
        return _of_tensorflow(type(error), error.message or "")
    return None


def original(error: BaseException) -> BaseException:
    """The error itself: gin raises a copy of a subclass, which has lost number and file name."""
    while (inner := error.__context__) is not None and type(error).__mro__[1] is type(inner):
        error = inner
    return error


def _of_python(error: OSError | RuntimeError) -> str | None:
    number, paths = getattr(error, "errno", None), _paths(error)
    found = _HDF5.search(str(error))
    if found is not None:
        number, paths = int(found["number"]), paths or found["path"]
    if number not in _REMEDIES:
        return None
    # Without a path, what was raised may say more than the number: where it looked, for instance.
    says = os.strerror(number) if paths else getattr(error, "strerror", None)
    return _line(paths, says or os.strerror(number), _REMEDIES[number])


def _paths(error: BaseException) -> str:
    names = (getattr(error, "filename", None), getattr(error, "filename2", None))
    shown = [os.fsdecode(name) for name in names if isinstance(name, str | bytes | os.PathLike)]
    return " -> ".join(shown)


def _of_tensorflow(kind: type, message: str) -> str | None:
    if kind.__name__ == "ResourceExhaustedError" and _OUT_OF_MEMORY.search(message):
        return f"out of memory ({_plain(message)}); {_MEMORY}"
    for line in message.splitlines():
        line = _plain(line)
        found = _FILE.fullmatch(line)
        if found is not None and found["says"] in _NUMBERS:
            number = _NUMBERS[found["says"]]
            return _line(found["path"], found["says"], _REMEDIES[number])
        found = _NO_FOLDER.fullmatch(line)
        if found is not None and kind.__name__ == "FailedPreconditionError":
            return _line(found["path"], os.strerror(errno.ENOTDIR), _REMEDIES[errno.ENOTDIR])
        found = _SCHEME.fullmatch(line)
        if found is not None:
            return _line(
                found["path"],
                f"TensorFlow has no file system for {found['scheme']}:// here",
                "copy the files to this machine, or name a place that it can reach",
            )
    found = _REMOTE.search(message)
    if found is not None and kind.__name__ in _REMOTE_REMEDIES:
        return _line(found.group(), _plain(message), _REMOTE_REMEDIES[kind.__name__])
    return None


def _plain(message: str) -> str:
    """The first line, without names of operations."""
    line = message.strip().splitlines()[0]
    while (shorter := _OPERATIONS.sub("", line)) != line:
        line = shorter
    return line.strip()


def _line(path: str, says: str, remedy: str) -> str:
    path = _UNFINISHED.sub("", path)  # the name by which the user knows it
    return f"{path}: {says}; {remedy}" if path else f"{says}; {remedy}"
