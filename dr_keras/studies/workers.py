"""Processes that train the cells of a study, each with its share of the cores.

This process hands cells out, holds the claims on them, shows how far all of them are and writes
what comes of them; a worker trains. So a cell is written whole or not at all, whatever happens to
a worker, and other processes and machines that share the folder see one claim a cell.

Nothing here imports TensorFlow before it is needed: a worker sets its threads first.
"""

from collections.abc import Callable, Mapping
import contextlib
import copy
import dataclasses
import multiprocessing
from multiprocessing import connection
import os
import pickle
import threading
import time
import traceback

from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.system import processes, program_names
import gin

# Above so many parameters a second thread is worth having.
SMALL = 2_000_000
# Seconds between two reports of a worker.
_REPORT_EVERY = 0.5


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Workers:
    """How many processes train the models of a study, and with how many threads each.

    A second thread inside one training step of a small model brings a factor of 1.07 to 1.22; a
    second process brings nearly 2. So, unless they are set, models of up to 2 million parameters
    have one thread each and one worker a core, and larger ones are trained one after the other in
    this process, with all of its threads; so is everything where there is an accelerator, or a
    strategy of several devices.

    How many workers there are changes no figure. How many threads a model has changes its last
    bits, so that it is a setting of the study, and every cell says it.

    Args:
      count: processes; 0 trains in this one, with the threads that it has. None as said above.
      threads_a_model: threads of TensorFlow in each. None: 1 for small models, else all cores.

    Raises:
      ConfigurationError: a number is negative, or no threads.
    """

    count: int | None = None
    threads_a_model: int | None = None

    def __post_init__(self):
        if self.count is not None and self.count < 0:
            raise ConfigurationError(f"Workers.count is {self.count}: it must be at least 0.")
        if self.threads_a_model is not None and self.threads_a_model < 1:
            raise ConfigurationError(
                f"Workers.threads_a_model is {self.threads_a_model}: it must be at least 1."
            )

    def for_model(self, parameters: int, one_device: bool) -> tuple[int, int]:
        """(processes, threads of each) for models of this size.

        Raises:
          ConfigurationError: this process, which is to train, has another number of threads.
        """
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        small = parameters <= SMALL and one_device
        threads = self.threads_a_model or (1 if small else cores)
        count = self.count
        if count is None:
            count = max(1, cores // threads) if small or self.threads_a_model else 0
        if count:
            return count, threads
        if self.threads_a_model not in (None, own_threads()):
            raise ConfigurationError(
                f"Workers.threads_a_model is {self.threads_a_model}, but this process trains the"
                f" models itself and has {own_threads()} threads: set Workers.count (or --workers)"
                " to at least 1."
            )
        return 0, own_threads()


def own_threads() -> int:
    """Threads that an operation of TensorFlow may have in this process."""
    import tensorflow as tf

    return tf.config.threading.get_intra_op_parallelism_threads() or os.cpu_count() or 1


@dataclasses.dataclass(frozen=True)
class FromBinding:
    """A function that gin binds, in a mapping, found by its name in whichever process calls it."""

    configurable: str
    argument: str
    key: str

    def __call__(self):
        bound = gin.get_bindings(self.configurable, resolve_references=False)[self.argument]
        return copy.deepcopy(bound)[self.key]()  # a copy of a reference is what it refers to


def sendable(
    trainers: Mapping[str, Callable], binding: tuple[str, str] | None = None
) -> dict[str, Callable] | None:
    """Trainers as another process can have them; None where they cannot leave this one.

    Args:
      trainers: size -> builds its trainer.
      binding: (configurable, argument) where gin may bind that mapping.
    """
    found = {}
    for size, build in trainers.items():
        try:
            pickle.dumps(build)
            found[size] = build
        except (pickle.PicklingError, AttributeError, TypeError):
            if binding is None or binding[1] not in gin.get_bindings(
                binding[0], resolve_references=False
            ):
                return None
            found[size] = FromBinding(*binding, size)
    return found


@dataclasses.dataclass
class _Worker:
    process: multiprocessing.Process
    pipe: connection.Connection
    has_material: bool = False
    cell: object | None = None
    sender: threading.Thread | None = None

    def send(self, content) -> None:
        """Sends without waiting until it is read: a worker reads once TensorFlow is imported."""
        self.sender = threading.Thread(
            target=_send, args=(self.pipe, content, self.sender), daemon=True
        )
        self.sender.start()


class Pool:
    """Worker processes for the cells of one study; a context manager that ends them.

    Args:
      trainers: see `sendable`.
      material: what they train on; see `cells.Material`. Called when the first cell is handed out.
      configuration: gin bindings, which every worker parses.
      count: how many, begun as they are needed.
      threads: of each.
    """

    def __init__(
        self,
        trainers: Mapping[str, Callable],
        material: Callable,
        configuration: str,
        count: int,
        threads: int,
    ):
        self._given, self._material = (configuration, trainers), material
        self._count, self.threads = count, threads
        self._workers: list[_Worker] = []

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        for worker in self._workers:
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join()

    @property
    def has_room(self) -> bool:
        """Whether one more cell can be begun."""
        return self._idle() is not None or len(self._workers) < self._count

    @property
    def is_working(self) -> bool:
        """Whether a cell was begun and is not done."""
        return any(worker.cell is not None for worker in self._workers)

    def _idle(self) -> _Worker | None:
        return next((worker for worker in self._workers if worker.cell is None), None)

    def begin(self, cell, draw) -> None:
        """Hands a cell to a worker that has none."""
        worker = self._idle() or self._start()
        worker.cell = cell
        if not worker.has_material:
            worker.has_material = True
            worker.send(self._material().bare())
        worker.send((cell, draw))

    def fill(self, cells: int) -> None:
        """Starts the workers that so many cells will have; they get ready meanwhile."""
        while len(self._workers) < min(self._count, cells):
            self._start()

    def _start(self) -> _Worker:
        context = processes.worker_context()
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self.threads), daemon=True)
        with processes.ignoring_interrupts():
            process.start()
        theirs.close()
        worker = _Worker(process, ours)
        worker.send(self._given)
        self._workers.append(worker)
        return worker

    def wait(self, report: Callable) -> tuple:
        """Waits for a worker to finish; (cell, what came of it).

        Args:
          report: called with (cell, step, steps, logs) now and then.

        Raises:
          DrKerasError: a worker ended before its work was done.
          Exception: what the training raised.
        """
        while True:
            pipes = {worker.pipe: worker for worker in self._workers if worker.cell is not None}
            for pipe in connection.wait(list(pipes)):
                worker = pipes[pipe]
                try:
                    kind, content = pipe.recv()
                except (EOFError, ConnectionResetError):
                    raise self._lost(worker) from None
                if kind == "step":
                    report(worker.cell, *content)
                elif kind == "done":
                    cell, worker.cell = worker.cell, None
                    return cell, content
                else:
                    raise content

    def _lost(self, worker: _Worker) -> DrKerasError:
        worker.process.join(5)
        doing = f"trained {worker.cell.label}" if worker.cell else "was to train"
        return DrKerasError(
            f"The process that {doing} ended before it was done (exit status"
            f" {worker.process.exitcode}: killed, or out of memory). Finished cells stay, and none"
            " is half done: run the same command again to go on, with fewer --workers if memory is"
            " short."
        )


def _send(pipe: connection.Connection, content, before: threading.Thread | None) -> None:
    """After another sender; that a worker is gone is noticed where its answer is waited for."""
    if before is not None:
        before.join()
    with contextlib.suppress(OSError):
        pipe.send(content)


def _serve(pipe: connection.Connection, threads: int) -> None:
    """What a worker does: trains the cells that come through the pipe until there are no more."""
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            processes.begin_worker(threads)
            trainer = _prepared(pipe)
            while True:
                cell, draw = pipe.recv()
                found = trainer.run(cell, draw, _reporter(pipe))
                pipe.send(("done", found))
        except (EOFError, BrokenPipeError, ConnectionResetError):
            raise
        except Exception as error:
            pipe.send(("failed", _sendable_error(error)))


def _prepared(pipe: connection.Connection):
    """What trains the cells: all that takes time comes before the material is waited for."""
    program_names.install()  # so that every worker finds what one of them compiled
    from dr_keras.config import configuration
    from dr_keras.studies.cells import CellTrainer

    bindings, trainers = pipe.recv()
    configuration.parse([], bindings)
    material = pipe.recv()
    return CellTrainer(trainers, lambda: material)


def _reporter(pipe: connection.Connection) -> Callable:
    """Sends the steps that are done, at most twice a second, and the last test loss with them."""
    last, known = 0.0, {}

    def report(step: int, steps: int, logs: dict[str, float]) -> None:
        nonlocal last
        known.update({name: value for name, value in logs.items() if name == "test_loss"})
        if time.monotonic() - last > _REPORT_EVERY or step == steps:
            last = time.monotonic()
            pipe.send(("step", (step, steps, dict(known))))

    return report


def _sendable_error(error: Exception) -> Exception:
    """An error as it was; its traceback as text where it is a defect or cannot be sent."""
    if isinstance(error, DrKerasError | OSError):
        with contextlib.suppress(Exception):
            pickle.loads(pickle.dumps(error))
            return error
    return RuntimeError(f"in a worker process:\n{''.join(traceback.format_exception(error))}")
