"""Work that several processes or machines share: who does what, without a server.

A piece of work is claimed by a file, local or wherever `tf.io.gfile` reaches. A claim that is being
worked on has its file touched now and then; one whose process died or was stopped grows old, and
another process takes it over. Work must therefore be safe to do twice: results are written whole,
and the same work gives the same result.

How far "one holder at a time" goes is said in `claim_files`.
"""

from collections.abc import Callable, Iterable, Iterator
import contextlib
import os
import pathlib
import threading
import time

from dr_keras.errors import ConfigurationError
from dr_keras.system import holders
from dr_keras.system.claim_files import LocalFiles, RemoteFiles
from dr_keras.system.whole_files import is_remote

STALE_AFTER = 600.0


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

    def path(self, name: str) -> pathlib.Path:
        """File of the claim on `name` in a local folder."""
        return self._files.path(name)

    def holder(self, name: str) -> dict:
        """Who holds the claim on `name`, see `holders`, with `age`, seconds since it was touched.

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
        mine = holders.this_process(doing)
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
