"""Memory of this process, handed back to the system while something frees much of it."""

from collections.abc import Iterator
import contextlib
import ctypes
import threading


@contextlib.contextmanager
def handed_back(every: float = 0.5) -> Iterator[None]:
    """What is freed inside goes back to the system now and then, and not only to the allocator.

    XLA's compiler allocates and frees many small blocks; glibc keeps their pages. Of the quick
    start's meta-step they were 570 MB, still resident when the step first needed its own
    temporaries: the peak of a whole run. Does nothing with another C library.

    Args:
      every: seconds.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is None:
        yield
        return
    done = threading.Event()

    def hand_back() -> None:
        while not done.wait(every):
            trim(0)

    thread = threading.Thread(target=hand_back, daemon=True, name="handed-back")
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        trim(0)
