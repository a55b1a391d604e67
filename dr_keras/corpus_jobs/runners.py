"""Who does the units of a job: this process, or several on this machine.

A runner is called with (work, units, tool, progress) and returns when all units are done; it
leaves their facts on disk. It knows nothing about what is done: the same runners score, filter and
prepare. `dr_keras.corpus_jobs.beam.runner` is one that hands units to Beam.

This module imports no TensorFlow, so that workers can be started before that takes its seconds.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import multiprocessing
import os
from typing import Any, Protocol

from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.system import processes

# bytes done since the last call
UnitProgress = Callable[[int], None]


class Unit(Protocol):
    """What is done at a time; can be pickled.

    Attributes:
      name: no other unit of the phase has it.
      size: bytes, for progress.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...


class AnyWork(Protocol):
    """What is done with every unit; can be pickled and sent to workers.

    Doing a unit a second time writes the same files. It is done when its facts have their name,
    which they get last.

    Attributes:
      label: what the phase is called before users.
      where: the folder of its files, for messages.
    """

    @property
    def label(self) -> str: ...

    @property
    def where(self) -> str: ...

    def facts_path(self, unit: Any) -> str:
        """Where the facts of a unit lie: `files` in them is name -> `bytes` and more."""

    def output_path(self, name: str) -> str:
        """Where a file lies that facts name."""

    def check_workers(self) -> None:
        """Raises ConfigurationError where other processes cannot do it."""

    def load(self) -> Any:
        """What a process needs once for all its units (a rater, a tokenizer), or None."""

    def run(self, unit: Any, tool: Any = None, progress: UnitProgress | None = None) -> dict:
        """Does a unit with what `load` gives; returns its facts, which are also on disk."""

    def counters(self, facts: dict) -> Mapping[str, int]:
        """What the facts of a unit add to the counters of whoever runs it."""


Runner = Callable[[Any, Sequence[Any], Any, UnitProgress], None]


def in_process(work: AnyWork, units: Sequence[Unit], tool: Any, progress: UnitProgress) -> None:
    """One unit after the other, here."""
    for unit in units:
        done = 0

        def report(size: int) -> None:
            nonlocal done
            # sizes of records are not all there is to a file, and the sum has to come out
            size = min(size, unit.size - done)
            done += size
            progress(size)

        work.run(unit, tool, report)
        progress(unit.size - done)


class InProcesses:
    """Units spread over processes of this machine; each loads the rater or tokenizer once.

    As a context it starts its processes, and keeps them from one phase to the next.
    """

    def __init__(self, workers: int, threads: int):
        self._workers, self._threads = workers, threads
        self._pool: concurrent.futures.ProcessPoolExecutor | None = None
        self._kept = False

    def __call__(
        self, work: AnyWork, units: Sequence[Unit], tool: Any, progress: UnitProgress
    ) -> None:
        work.check_workers()
        if self._pool is None:
            self._pool = self._started(min(self._workers, len(units) or 1))
        others = set(multiprocessing.active_children()) - set(self._pool._processes.values())
        done = False
        try:
            futures = {self._pool.submit(_run_in_worker, unit, work): unit for unit in units}
            for future in concurrent.futures.as_completed(futures):
                future.result()
                progress(futures[future].size)
            done = True
        except concurrent.futures.process.BrokenProcessPool as error:
            raise DrKerasError(
                "A worker process ended before its work was done (killed, or out of memory). No"
                " shard is half done: run the same command again to go on, with fewer workers if"
                " memory is short."
            ) from error
        except BaseException:
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise
        finally:
            if not (done and self._kept):
                self._close()

    def _started(self, workers: int) -> concurrent.futures.ProcessPoolExecutor:
        return concurrent.futures.ProcessPoolExecutor(
            max_workers=workers,
            mp_context=processes.worker_context(),
            initializer=processes.begin_worker,
            initargs=(self._threads,),
        )

    def __enter__(self) -> "InProcesses":
        self._kept = True
        if self._pool is None:
            self._pool = self._started(self._workers)
            for _ in range(self._workers):  # each starts one, as none is idle yet
                self._pool.submit(int)
        return self

    def __exit__(self, kind, *_) -> None:
        self._kept = False
        if kind is not None and self._pool is not None:  # nobody waits for what they have begun
            for process in list(self._pool._processes.values()):
                process.terminate()
        self._close()

    def _close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._pool = None


def in_processes(workers: int, threads_per_worker: int | None = None) -> InProcesses:
    """A runner that spreads units over processes of this machine.

    Args:
      workers: how many.
      threads_per_worker: threads of TensorFlow in each; None: the cores, shared evenly.

    Raises:
      ConfigurationError: a number is not positive.
      DrKerasError: (when run) a worker was killed. What was done stays; the job can be resumed.
    """
    threads = threads_per_worker or max(1, (os.cpu_count() or 1) // max(1, workers))
    if workers < 1 or threads < 1:
        raise ConfigurationError(
            f"workers is {workers} and threads_per_worker {threads_per_worker}: both must be at"
            " least 1."
        )
    return InProcesses(workers, threads)


def _run_in_worker(unit: Unit, work: AnyWork) -> None:
    work.run(unit, work.load())
