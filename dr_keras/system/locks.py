"""One writer at a time: who comes second at a folder or file is told who is there.

A local place is locked by the operating system (filelock), which gives the lock up when its process
ends, however it ends. Beside the lock lies a claim (`claims`) that says who holds it; a claim alone
locks what only `tf.io.gfile` reaches, and mounts that cannot lock files. So on another machine,
too, the second is told, and a holder that died is followed: at once on its own machine, after
`claims.STALE_AFTER` seconds on another.

    <folder>/.dr_keras.lock, .dr_keras.claim      a folder's
    .<name>.lock, .<name>.claim                   a file's, beside it

Both go when the holder is done. Their names begin with a dot, so nobody reads them as data. Where
they cannot be written (a read-only folder, a file in a folder's place) nothing is locked: then the
work either only reads, or says itself what is wrong with the place.
"""

from collections.abc import Callable, Iterator
import contextlib
import errno
import functools
import inspect
import os
import pathlib
import threading
import time

import filelock

from dr_keras.errors import DrKerasError
from dr_keras.system.claims import STALE_AFTER, Claims, described, is_of_this_host, this_process
from dr_keras.system.whole_files import is_remote

# Seconds that one who comes second waits, for somebody who is about to end.
WAIT = 1.0
_FOLDER = ".dr_keras"
_POLL = 0.05
_ALONE_ON_HOST = "alone on host"
# What mounts say that cannot lock files.
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

# place -> holder in this process, whose thread may come in again.
_held: dict[str, dict] = {}
_held_guard = threading.Lock()


@contextlib.contextmanager
def alone(
    path: str | os.PathLike,
    doing: str,
    error: type[DrKerasError],
    wait: float | None = None,
    is_file: bool = False,
) -> Iterator[None]:
    """Context in which no other process, and no other thread of this one, is in one at `path`.

    A thread that is in it may enter it again, as one study does for each of its parts.

    Args:
      path: a folder, made if it is missing, or a file (`is_file`), local or remote.
      doing: what is done there, in words: "filter_corpus", "an export".
      error: the class of what is raised.
      wait: seconds that another is given to end; None: `WAIT`.
      is_file: whether `path` is a file.

    Raises:
      error: another is there; says who, where, since when, and what to do.
    """
    path = os.fspath(path).removeprefix("file://")
    key = path.rstrip("/") if is_remote(path) else os.path.realpath(path)
    us = this_process(doing)
    give_up_at = time.monotonic() + (WAIT if wait is None else wait)
    while (here := _enter(key, us)) is not us:
        if here["thread"] == us["thread"]:
            yield
            return
        if time.monotonic() > give_up_at:
            raise error(_refusal(path, is_file, here))
        time.sleep(_POLL)
    try:
        with contextlib.ExitStack() as stack:
            holder = _lock(stack, key, doing, give_up_at, is_file)
            if holder is not None:
                raise error(_refusal(path, is_file, holder))
            yield
    finally:
        with _held_guard:
            _held.pop(key, None)


def alone_at(
    argument: str, doing: str, error: type[DrKerasError], is_file: bool = False
) -> Callable:
    """Decorator: the function runs `alone` at the path that its argument of this name holds."""

    def decorate(function: Callable) -> Callable:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def locked(*arguments, **named):
            given = signature.bind(*arguments, **named)
            given.apply_defaults()
            with alone(given.arguments[argument], doing, error, is_file=is_file):
                return function(*arguments, **named)

        # gin looks at it without following __wrapped__
        setattr(locked, "__signature__", signature)  # noqa: B010
        return locked

    return decorate


def is_lock(name: str) -> bool:
    """Whether a file of this name in a folder is of the folder's lock, and nobody's data."""
    return name.startswith((f"{_FOLDER}.lock", f"{_FOLDER}.claim"))


def _enter(key: str, us: dict) -> dict:
    """Who of this process holds `key` now: `us`, if nobody did."""
    with _held_guard:
        held = _held.get(key)
        if held is None or held["process"] != us["process"]:  # a parent's is none of ours
            _held[key] = held = us
        return held


def _lock(
    stack: contextlib.ExitStack, key: str, doing: str, give_up_at: float, is_file: bool
) -> dict | None:
    """Enters lock and claim into the stack; the holder where that is another.

    Where nobody can lock, for want of rights or space, it enters nothing.
    """
    folder, base = os.path.split(key) if is_file else (key, _FOLDER)
    name = f".{base}" if is_file else base
    claims = Claims(folder)
    while True:
        late = time.monotonic() > give_up_at
        try:
            with contextlib.ExitStack() as attempt:
                free = is_remote(key) or _lock_local(attempt, folder, f"{name}.lock", give_up_at)
                alone_on_host = free == _ALONE_ON_HOST
                if free and attempt.enter_context(claims.taken(name, doing, alone_on_host)):
                    stack.push(attempt.pop_all())
                    return None
        except FileNotFoundError:  # a folder that another made for itself, and took away again
            if late:
                return None
        except claims.errors:
            if not _holder(claims, name):
                return None
        if late:
            return _holder(claims, name)
        time.sleep(_POLL)


def _holder(claims: Claims, name: str) -> dict:
    with contextlib.suppress(*claims.errors):
        return claims.holder(name)
    return {}


def _lock_local(
    stack: contextlib.ExitStack, folder: str, name: str, give_up_at: float
) -> str | bool:
    """False where another has the lock; else `_ALONE_ON_HOST`, or True where there are no locks."""
    path = os.path.join(folder, name)
    stack.enter_context(_made(pathlib.Path(folder)))
    lock = filelock.FileLock(path)
    try:
        lock.acquire(timeout=max(0.0, give_up_at - time.monotonic()), poll_interval=_POLL)
    except filelock.Timeout:
        return False
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
            raise
        with contextlib.suppress(OSError):  # of no use to anybody
            os.unlink(path)
        return True

    def release() -> None:
        # While it is held: who opened this file before finds it unlinked and tries again.
        with contextlib.suppress(OSError):
            os.unlink(path)
        lock.release()

    stack.callback(release)
    return _ALONE_ON_HOST


@contextlib.contextmanager
def _made(folder: pathlib.Path) -> Iterator[None]:
    """The folder; what was made of it and its parents goes at the end if nothing is in it."""
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            for parent in made:
                parent.rmdir()


def _refusal(path: str, is_file: bool, holder: dict) -> str:
    age = holder.get("age", 0.0)
    silent = ""
    if age > STALE_AFTER / 5 and not is_of_this_host(holder):
        silent = (
            f" It was last heard of {age:.0f} s ago; where it died, this works from"
            f" {STALE_AFTER:.0f} s on."
        )
    return (
        f"{path} is being written to by {described(holder)}: wait until it is done, stop"
        f" it, or name another {'file' if is_file else 'folder'}.{silent}"
    )
