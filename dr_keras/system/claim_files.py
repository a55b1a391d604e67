"""The files that claims are made of, in a local folder and where only `tf.io.gfile` reaches.

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
"""

import contextlib
import json
import os
import pathlib
import time
import uuid

from dr_keras.system import holders


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
        left_behind = alone_on_host and holders.is_of_this_host(holder)
        return old or left_behind or holders.is_dead(holder)

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
            if age > self._stale_after or holders.is_dead(holder):
                self._remove(path)
            else:
                found[token] = {**holder, "age": age}
        return found

    def _remove(self, path: str) -> None:
        with contextlib.suppress(self._tf.errors.NotFoundError):
            self._gfile.remove(path)
