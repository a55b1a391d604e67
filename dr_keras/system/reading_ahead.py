"""What the next steps will need is read by a thread while this one computes."""

from collections.abc import Callable, Iterable, Iterator
import queue
import threading
import time
from typing import Generic, TypeVar

from dr_keras.errors import ConfigurationError

Read = TypeVar("Read")


class ReadingAhead(Generic[Read]):
    """An iterator over `read(number)` of some numbers, in their order, a few of them ahead.

    Who reads must be a pure function of the number, so that nothing depends on how far ahead it
    was read; what it raises is raised where its number is asked for. To be used as a context
    manager: leaving it, by an exception too, ends the thread once it has read what it is reading.

    Args:
      read: called in another thread, one number at a time.
      numbers: what it is called with.
      depth: results that may lie ready; they are what this costs in memory. 0: no thread, each is
        read when it is asked for.

    Attributes:
      waited: seconds that were waited for results so far.

    Raises:
      ConfigurationError: a negative depth.
    """

    def __init__(self, read: Callable[[int], Read], numbers: Iterable[int], depth: int = 2):
        if depth < 0:
            raise ConfigurationError(f"read_ahead is {depth}: it must be at least 0.")
        self.waited = 0.0
        self._read, self._numbers, self._depth = read, iter(numbers), depth
        self._ready: queue.SimpleQueue = queue.SimpleQueue()
        self._room = threading.Semaphore(depth)
        self._ended = False
        self._thread = threading.Thread(target=self._read_all, name="reading ahead", daemon=True)

    def __enter__(self) -> "ReadingAhead[Read]":
        if self._depth:
            self._thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self._ended = True
        self._room.release()  # it may be waiting for room
        if self._thread.is_alive():
            self._thread.join()

    def __iter__(self) -> Iterator[Read]:
        return self

    def __next__(self) -> Read:
        started = time.perf_counter()
        if self._depth:
            result, error = self._ready.get()
            self._room.release()
        else:
            result, error = self._next()
        self.waited += time.perf_counter() - started
        if error is not None:
            self._ready.put((None, error))  # nothing comes after it
            raise error
        return result

    def _next(self) -> tuple[Read | None, BaseException | None]:
        try:
            return self._read(next(self._numbers)), None
        except BaseException as error:  # whatever it is, the one who asked is to have it
            return None, error

    def _read_all(self) -> None:
        error = None
        while error is None:
            self._room.acquire()
            if self._ended:
                return
            result, error = self._next()
            self._ready.put((result, error))
            del result  # or it would be held while there is no room
