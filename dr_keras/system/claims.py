"""Work that several processes or machines share: who does what, without a server.

A piece of work is claimed by a file, local or wherever `tf.io.gfile` reaches. A claim that is being
worked on has its file touched now and then; one whose process died or was stopped grows old, and
another process takes it over. Work must therefore be safe to do twice: results are written whole,
and the same work gives the same result.

How far "one holder at a time" goes:

  - In a local folder (a network mount among them) creating a file is done for one process only.
    `<name>.claim` is that file.
  - Object stores have no such thing. Everybody who wants a claim writes a file of its own,
    `<name>.claim-<token>`, and then lists them: who sees no other holds the claim; who sees an
    earlier token withdraws; who sees a later one waits until that is gone, at most `settle`
    seconds. Of two, the one who writes last always sees the other, so there are never two holders
    where a list shows every file that was written before it began, as GCS, S3 and HDFS do; there
    may be none, and then the call is repeated. A store that lists late can give two.
  - Everywhere, a holder that slept for longer than `stale_after` may wake up beside its successor.

Both kinds `take` a claim (True where it is ours now), `touch` it and `give_up` one that is ours,
and know its `holder`; `errors` is what they raise where files cannot be read or written.

A holder, a process that others can name, is a dict as JSON keeps it:

    host, process, thread    names of the machine and process, and the thread's number there
    place                    boot and process namespace in which `process` means something, or ""
    started                  when the process began, in whatever unit the system tells, or ""
    since                    seconds since 1970 when it took hold
    doing                    what it is at, in words
    token                    of this hold alone
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import datetime
import functools
import json
import os
import pathlib
import socket
import subprocess
import threading
import time
import uuid

from dr_keras.errors import ConfigurationError
from dr_keras.system.whole_files import is_remote

STALE_AFTER = 600.0


def this_process(doing: str = "") -> dict:
    """A new holder: the calling thread."""
    return {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "thread": threading.get_ident(),
        "place": _place(),
        "started": _started(os.getpid()),
        "since": round(time.time(), 3),
        "doing": doing,
        "token": uuid.uuid4().hex,
    }


def is_of_this_host(holder: dict) -> bool:
    return holder.get("host") == socket.gethostname()


def is_dead(holder: dict) -> bool:
    """Whether the holder was a process of this machine that is no more; False where in doubt.

    A process of the same number that began at another time is another one. In another container
    numbers mean other processes, so nothing is said about its holders.
    """
    if not is_of_this_host(holder):
        return False
    try:
        process = int(holder["process"])
        boot, _, namespace = str(holder.get("place", "")).partition(" ")
        our_boot, _, our_namespace = _place().partition(" ")
        if boot and our_boot and boot != our_boot:
            return True  # this machine was started anew since
        if namespace and namespace != our_namespace:
            return False
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, KeyError, TypeError, ValueError, OverflowError):
        return False
    known, now = holder.get("started"), _started(process)
    return bool(known and now and known != now)


def described(holder: dict) -> str:
    """The holder in words, for one line: "filter_corpus, process 12 on host, since ... UTC"."""
    try:
        process, host = int(holder["process"]), str(holder["host"])
    except (KeyError, TypeError, ValueError):
        return "another process, which has not written its name yet"
    doing = str(holder.get("doing") or "another run")
    since = holder.get("since")
    when = ""
    if isinstance(since, (int, float)):
        at = datetime.datetime.fromtimestamp(since, datetime.UTC)
        when = f", since {at:%Y-%m-%d %H:%M:%S} UTC"
    if is_of_this_host(holder) and process == os.getpid():
        return f"{doing} in another thread of this process ({process} on {host}){when}"
    return f"{doing}, process {process} on {host}{when}"


@functools.cache
def _place() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except (OSError, ValueError):
        return ""


def _started(process: int) -> str:
    """When a process began, as the system says it; "" where it says nothing."""
    try:
        stat = pathlib.Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace")
        return stat.rpartition(")")[2].split()[19]  # the name in brackets may hold anything
    except (OSError, IndexError):
        pass
    try:
        command = ["ps", "-o", "lstart=", "-p", str(process)]
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
        return found.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _parsed(text: str) -> dict:
    """The last whole line: some file systems append where others write anew."""
    for line in reversed(text.splitlines()):
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            return found if isinstance(found, dict) else {}
    return {}


class LocalFiles:
    """`<folder>/<name>.claim`, created by one process only, touched by its time."""

    errors = (OSError,)

    def __init__(self, folder: pathlib.Path, stale_after: float):
        self._folder, self._stale_after = folder, stale_after

    def path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.claim"

    def take(self, name: str, mine: dict, alone_on_host: bool) -> bool:
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        self._put_aside_if_stale(path, alone_on_host)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(json.dumps(mine) + "\n")
        except BaseException:  # a claim without a name would be in everybody's way
            path.unlink(missing_ok=True)
            raise
        return True

    def give_up(self, name: str, mine: dict) -> None:
        path = self.path(name)
        if self._read(path).get("token") == mine["token"]:
            path.unlink(missing_ok=True)

    def touch(self, name: str, mine: dict) -> None:
        path = self.path(name)
        if self._read(path).get("token") == mine["token"]:
            os.utime(path)

    def holder(self, name: str) -> dict:
        path = self.path(name)
        found = self._read(path)
        if not found or self._is_stale(path, alone_on_host=False):
            return {}
        with contextlib.suppress(FileNotFoundError):
            found["age"] = time.time() - path.stat().st_mtime
        return found

    def _put_aside_if_stale(self, path: pathlib.Path, alone_on_host: bool) -> None:
        if not self._is_stale(path, alone_on_host):
            return
        aside = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
        try:
            os.rename(path, aside)  # of two processes that try, one succeeds
        except FileNotFoundError:
            return
        if not self._is_stale(aside, alone_on_host):  # another was quicker: its new claim
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)

    def _is_stale(self, path: pathlib.Path, alone_on_host: bool) -> bool:
        try:
            old = time.time() - path.stat().st_mtime > self._stale_after
        except FileNotFoundError:
            return False
        holder = self._read(path)
        left_behind = alone_on_host and is_of_this_host(holder)
        return old or left_behind or is_dead(holder)

    def _read(self, path: pathlib.Path) -> dict:
        try:
            return _parsed(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # gone, or being written
            return {}


class RemoteFiles:
    """`<folder>/<name>.claim-<token>`, one for everybody who wants it; touched in its content."""

    def __init__(self, folder: str, stale_after: float, settle: float):
        import tensorflow as tf  # a local folder is not worth the seconds that this takes

        self._tf, self._gfile = tf, tf.io.gfile
        self.errors = (OSError, tf.errors.OpError)
        self._folder, self._stale_after, self._settle = folder, stale_after, settle

    def take(self, name: str, mine: dict, alone_on_host: bool = False) -> bool:
        self._gfile.makedirs(os.path.dirname(self._prefix(name)))
        if self._alive(name):
            return False
        try:
            self._write(name, mine)
            if self._is_elected(name, mine["token"]):
                return True
        except BaseException:
            self.give_up(name, mine)
            raise
        self.give_up(name, mine)
        return False

    def _is_elected(self, name: str, token: str) -> bool:
        give_up_at = time.monotonic() + self._settle
        while True:
            found = self._alive(name, but=token)
            if not found:  # unless this process slept, and others took its claim for abandoned
                return self._gfile.exists(f"{self._prefix(name)}{token}")
            if min(found) < token or time.monotonic() > give_up_at:
                return False
            time.sleep(self._settle / 50)

    def give_up(self, name: str, mine: dict) -> None:
        self._remove(f"{self._prefix(name)}{mine['token']}")

    def touch(self, name: str, mine: dict) -> None:
        if self._gfile.exists(f"{self._prefix(name)}{mine['token']}"):
            self._write(name, mine)

    def holder(self, name: str) -> dict:
        found = self._alive(name)
        return found[min(found)] if found else {}

    def _prefix(self, name: str) -> str:
        return f"{os.path.join(self._folder, name)}.claim-"

    def _write(self, name: str, mine: dict) -> None:
        with self._gfile.GFile(f"{self._prefix(name)}{mine['token']}", "w") as file:
            file.write(json.dumps({**mine, "touched": time.time()}) + "\n")

    def _alive(self, name: str, but: str = "") -> dict[str, dict]:
        """Token -> holder with its `age`; files that were left behind are removed."""
        folder, start = os.path.split(self._prefix(name))
        try:
            names = self._gfile.listdir(folder)
        except self._tf.errors.NotFoundError:
            return {}
        found = {}
        for file in names:
            token = file[len(start) :]
            if not file.startswith(start) or token == but:
                continue
            path = os.path.join(folder, file)
            try:
                with self._gfile.GFile(path, "r") as opened:
                    holder = _parsed(opened.read())
                modified = self._gfile.stat(path).mtime_nsec / 1e9
            except self._tf.errors.NotFoundError:
                continue
            # Some file systems know no time; what is just being written has no content yet.
            age = time.time() - max(modified, holder.get("touched", 0.0))
            age = age if modified or holder else 0.0
            if age > self._stale_after or is_dead(holder):
                self._remove(path)
            else:
                found[token] = {**holder, "age": age}
        return found

    def _remove(self, path: str) -> None:
        with contextlib.suppress(self._tf.errors.NotFoundError):
            self._gfile.remove(path)


class Claims:
    """Claims in one folder.

    Args:
      folder: that the processes share, a local path or one of `tf.io.gfile`; made when first
        needed.
      stale_after: seconds after which a claim that was not touched counts as abandoned. Clocks of
        machines are compared with each other's or with the file system's, so minutes are safer
        than seconds.
      poll: seconds between looks at what others do.
      settle: seconds that a process waits for another which wants the same remote claim.
    """

    def __init__(
        self, folder, stale_after: float = STALE_AFTER, poll: float = 5.0, settle: float = 5.0
    ):
        if stale_after <= 0:
            raise ConfigurationError(f"stale_after is {stale_after} s: it must be above 0.")
        self._stale_after, self._poll = stale_after, poll
        self._files: LocalFiles | RemoteFiles = (
            RemoteFiles(os.fspath(folder), stale_after, settle)
            if is_remote(os.fspath(folder))
            else LocalFiles(pathlib.Path(folder), stale_after)
        )

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What a claim may raise where its folder cannot be read or written."""
        return self._files.errors

    def holder(self, name: str) -> dict:
        """Who holds the claim on `name`, see above, with `age`, seconds since it was touched.

        Empty where nobody does who is alive, or the file is just being written.
        """
        return self._files.holder(name)

    @contextlib.contextmanager
    def taken(self, name: str, doing: str = "", alone_on_host: bool = False) -> Iterator[bool]:
        """Context: True inside while this process holds the claim on `name`, False if another does.

        The claim is given up at the end of the context, whatever happens in it.

        Args:
          name: of the piece of work.
          doing: what it is, in words, for those who come second.
          alone_on_host: the caller knows that no process of this host holds the claim, so that one
            which is there under its name was left by a dead process.
        """
        mine = this_process(doing)
        if not self._files.take(name, mine, alone_on_host):
            yield False
            return
        done = threading.Event()
        thread = threading.Thread(target=self._touch, args=(name, mine, done), daemon=True)
        try:
            thread.start()
            yield True
        finally:
            done.set()
            if thread.is_alive():
                thread.join()
            with contextlib.suppress(*self.errors):  # the work is done; the claim grows old
                self._files.give_up(name, mine)

    def _touch(self, name: str, mine: dict, done: threading.Event) -> None:
        while not done.wait(self._stale_after / 10):
            with contextlib.suppress(*self.errors):  # the next time, or it grows old
                self._files.touch(name, mine)

    def share(
        self,
        names: Iterable[str],
        is_done: Callable[[str], bool],
        work: Callable[[str], object],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Does everything in `names`, in order, that is not done and that nobody else is doing.

        Returns when all of it is done, by whomever; what another process gives up is done here.

        Args:
          names: of the pieces of work.
          is_done: name -> whether its result is there.
          work: does one and leaves its result; what it raises ends the call.
          say: prints a line when there is nothing left but to wait for others.
        """
        pending, told = list(names), 0
        while pending:
            before = len(pending)
            for name in list(pending):
                if is_done(name):
                    pending.remove(name)
                    continue
                with self.taken(name, name) as mine:
                    if not mine:
                        continue
                    if not is_done(name):  # by another, since the look above
                        work(name)
                pending.remove(name)
            if not pending:
                return
            if len(pending) == before:
                if told != len(pending):
                    say(f"  waiting for {len(pending)} in other processes: {pending[0]} ...")
                    told = len(pending)
                time.sleep(self._poll)
