"""Work that several processes or machines share: who does what, without a server.

A piece of work is claimed by creating its file, which the file system does for one process only. A
claim that is being worked on has its file touched now and then; one whose process died or was
stopped grows old, and another process takes it over. Work must therefore be safe to do twice:
results are written whole, and the same work gives the same result.
"""

from collections.abc import Callable, Iterable
import contextlib
import json
import os
import pathlib
import socket
import threading
import time
import uuid

from dr_keras.errors import ConfigurationError


class Claims:
    """Claims in one folder.

    Args:
      folder: that the processes share; made when first needed.
      stale_after: seconds after which a claim that was not touched counts as abandoned. Clocks of
        machines are compared with the file system's, so minutes are safer than seconds.
      poll: seconds between looks at what others do.
    """

    def __init__(self, folder, stale_after: float = 600.0, poll: float = 5.0):
        if stale_after <= 0:
            raise ConfigurationError(f"stale_after is {stale_after} s: it must be above 0.")
        self._folder = pathlib.Path(folder)
        self._stale_after, self._poll = stale_after, poll

    def path(self, name: str) -> pathlib.Path:
        """File of the claim on `name`."""
        return self._folder / f"{name}.claim"

    @contextlib.contextmanager
    def taken(self, name: str):
        """Context: True inside while this process holds the claim on `name`, False if another does.

        The claim is given up at the end of the context, whatever happens in it.
        """
        path = self.path(name)
        token = self._take(path)
        if token is None:
            yield False
            return
        done = threading.Event()
        thread = threading.Thread(target=self._touch, args=(path, token, done), daemon=True)
        thread.start()
        try:
            yield True
        finally:
            done.set()
            thread.join()
            if _owner(path) == token:
                path.unlink(missing_ok=True)

    def _take(self, path: pathlib.Path) -> str | None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._put_aside_if_stale(path)
        token = uuid.uuid4().hex
        holder = {"host": socket.gethostname(), "process": os.getpid(), "token": token}
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        except FileExistsError:
            return None
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(json.dumps(holder) + "\n")
        return token

    def _put_aside_if_stale(self, path: pathlib.Path) -> None:
        if not self._is_stale(path):
            return
        aside = path.with_name(f"{path.name}-{uuid.uuid4().hex}")
        try:
            os.rename(path, aside)  # of two processes that try, one succeeds
        except FileNotFoundError:
            return
        if not self._is_stale(aside):  # another was quicker, and this is its new claim
            with contextlib.suppress(FileExistsError):
                os.link(aside, path)
        aside.unlink(missing_ok=True)

    def _is_stale(self, path: pathlib.Path) -> bool:
        try:
            old = time.time() - path.stat().st_mtime > self._stale_after
        except FileNotFoundError:
            return False
        return old or _is_dead(path)

    def _touch(self, path: pathlib.Path, token: str, done: threading.Event) -> None:
        while not done.wait(self._stale_after / 10):
            if _owner(path) == token:
                with contextlib.suppress(FileNotFoundError):
                    os.utime(path)

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
                with self.taken(name) as mine:
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


def _read(path: pathlib.Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # gone, or being written
        return {}


def _owner(path: pathlib.Path) -> str | None:
    return _read(path).get("token")


def _is_dead(path: pathlib.Path) -> bool:
    """Whether the holder was a process of this machine that is no more."""
    holder = _read(path)
    if holder.get("host") != socket.gethostname():
        return False
    try:
        os.kill(int(holder["process"]), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, KeyError, ValueError):
        pass
    return False
