"""Worker processes on this machine: how they begin, and that they end with who began them.

On Linux and macOS they are forked by a server, a process that has imported TensorFlow and has done
nothing with it (no operation, no threads of its own): so many workers import it once, in the
background, and share its pages. Elsewhere each imports it. Either way a worker has nothing of the
memory of the process that began it.
"""

from collections.abc import Iterator
import contextlib
import multiprocessing
from multiprocessing import forkserver
import os
import signal
import threading

from dr_keras.system.progress import hidden_errors


def worker_context():
    """The `multiprocessing` context of all workers; its server is started if there is none yet.

    The server has the environment of the moment in which it is started.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dr_keras.system.preloaded"])
    with ignoring_interrupts():
        forkserver.ensure_running()
    return context


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """A process that is started inside ignores Ctrl-C, which is its parent's to deal with."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def begin_worker(threads: int) -> None:
    """What a worker does first: leaves Ctrl-C to its parent, ends with it, has so many threads.

    Args:
      threads: of TensorFlow, in an operation and for operations side by side.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with hidden_errors(shown_if_failed=True):  # lines that its libraries print
        import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _end_with_parent() -> None:
    """Ends this process when its parent is gone, which cannot say so if it was killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
