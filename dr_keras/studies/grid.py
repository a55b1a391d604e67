"""The grid of a study: its cells, which of them are done, and who trains the others.

    <base_dir>/claims/     which process is at which cell

A study is a grid of cells (size x arm x discard fraction x seed) over the parts of a corpus. Any
number of processes, on machines that share the folder, may work at one: each takes what is not done
and not claimed. Within one, `workers` says how many processes train. What is no cell: the trainings
of `MetaEvaluation`, which judge a rater in the midst of meta-training, with its present weights
and a compiled step of their own.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import functools
import os
import threading
import time

import tensorflow as tf

from dr_keras.config import configuration
from dr_keras.data.streams import rows_of
from dr_keras.studies.arm_streams import UNFILTERED, Draw
from dr_keras.studies.cells import WITH_TARGET, Cell, CellFiles, CellTrainer, Material
from dr_keras.studies.elsewhere import Elsewhere, Exchange
from dr_keras.studies.sizes import Protocol, Size, SizeFacts
from dr_keras.studies.summaries import ArmFacts, size_section
from dr_keras.studies.text_bytes import bytes_per_target
from dr_keras.studies.verdicts import too_small_for_verdict
from dr_keras.studies.workers import Pool, Workers, own_threads, sendable
from dr_keras.system.claims import Claims
from dr_keras.system.progress import Progress
from dr_keras.training import flops
from dr_keras.training.target_counts import total_targets
from dr_keras.training.trainers import RepeatedTrainer

_POLL = 5.0  # seconds between looks at what other processes do


class Grid:
    """Runs cells and reads what came of them; a context manager that ends its worker processes.

    Args:
      base_dir: of the study.
      trainers: size -> builds its trainer, smallest size first.
      material: what its cells are trained and measured on; called when they are first read or run.
      draw: cell -> what its batches are drawn from; called where the cell is to be run.
      chosen_by: cell -> what the choice of its arm depends on, beside the data.
      workers: how many processes train.
      sizes_binding: (configurable, argument) where gin may bind `trainers`.
      stale_after: see `Claims`.
      say: prints a line for the user.
      elsewhere: which cells another machine trains.
    """

    def __init__(
        self,
        base_dir,
        trainers: Mapping[str, Callable[[], RepeatedTrainer]],
        material: Callable[[], Material],
        draw: Callable[[Cell], Draw],
        chosen_by: Callable[[Cell], Sequence[str]],
        workers: Workers | None = None,
        sizes_binding: tuple[str, str] | None = None,
        stale_after: float = 600.0,
        say: Callable[[str], None] = print,
        elsewhere: Elsewhere | None = None,
    ):
        self._trainers, self._material = trainers, functools.cache(material)
        self.draw, self._say = draw, say
        self._chosen_by, self._workers = chosen_by, workers or Workers()
        self._sizes_binding = sizes_binding
        self._claims = Claims(os.path.join(base_dir, "claims"), stale_after)
        self._here = CellTrainer(trainers, self._material)
        self._settings: dict[str, str] = {}
        self._pool: Pool | None = None
        self._beside: threading.Thread | None = None
        self._raised: list[BaseException] = []
        self._later: list[str] = []
        self.files = CellFiles(base_dir, self._key)
        self._threads: dict[str, set[int]] = {}
        self._elsewhere = elsewhere or Elsewhere()
        self._exchange = functools.cache(lambda: Exchange(self._elsewhere, self._material()))

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self._end_pool()
        if self._beside is not None:
            self._beside.join()

    def _end_pool(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.__exit__()

    def _key(self, cell: Cell) -> list[str]:
        if cell.size not in self._settings:
            self._settings[cell.size] = self.trainer(cell.size).fingerprint
        chosen = [] if cell.arm == UNFILTERED else [*self._chosen_by(cell)]
        mixed = self._material().mixed_into(cell.size)
        if mixed is not None:
            chosen += [mixed.examples.fingerprint, f"{mixed.share:g}"]
        return [self._material().fingerprint, self._settings[cell.size], *chosen]

    def trainer(self, size: str) -> RepeatedTrainer:
        """The trainer of a size, in this process."""
        return self._here.trainer(size)

    def facts(self, size: str, count_flops: bool = False) -> SizeFacts:
        """What is known of a size apart from its runs."""
        trainer, features = self.trainer(size), self._material().train.features
        length = int(features["tokens"].shape[1]) if "tokens" in features else 1
        known: dict = {"bytes_per_token": bytes_per_target(self._material().test)}
        if count_flops:
            forward = flops.forward_flops(trainer.model, flops.feature_shapes(features))
            tokens = trainer.steps * trainer.batch_size * length
            known |= {"tokens_a_run": tokens, "forward_flops": int(forward)}
        return SizeFacts(
            name=size,
            parameters=trainer.parameters,
            steps=trainer.steps,
            batch_size=trainer.batch_size,
            sequence_length=length,
            **known,
        )

    def found(self, cells: Sequence[Cell]) -> dict[int, dict]:
        """Seed -> what came of the cell, of cells of one arm that are done.

        Raises:
          CellsAwaited: some are to be trained elsewhere; all that were asked for are sent.
        """
        found = {cell.seed: self.files.read(cell) for cell in cells}
        if None in found.values() and self._elsewhere.folder is not None:
            self._exchange().send()
        for cell in cells:
            self._threads.setdefault(cell.size, set()).add(found[cell.seed]["threads"])
        return found

    def threads(self, size: str) -> list[int]:
        """Threads that models of a size had, as far as their cells were read: one number, 0 for
        those that were trained elsewhere."""
        return sorted(self._threads.get(size, ()))

    def section(
        self,
        facts: SizeFacts,
        cells: Mapping[str, Sequence[Cell]],
        arms: Mapping[str, ArmFacts],
        protocol: Protocol,
        may_be_too_small: bool = True,
    ) -> Size:
        """One size of the results, from cells that are done.

        Args:
          facts: see `facts`.
          cells: arm, as the results call it -> its cells.
          arms: arm -> what else is known of it.
          protocol: which arms are compared, and by which metric.
          may_be_too_small: whether there is no verdict on a corpus of too few tokens.
        """
        found = {arm: self.found(of_arm) for arm, of_arm in cells.items()}
        budgets = [cell["budget"] for by_seed in found.values() for cell in by_seed.values()]
        pool = min(int(budget["pool_examples"]) for budget in budgets)
        tokens = total_targets(self._material().test)
        too_small = too_small_for_verdict(pool, tokens, facts.steps, facts.batch_size)
        return size_section(facts, found, arms, protocol, too_small if may_be_too_small else None)

    def start_workers(self, size: str, cells: int) -> None:
        """Starts the processes that so many cells of a size will have, which takes them seconds.

        It is for what this process does with one thread before there is any material.
        """
        pool = self._pool_for(size)
        if pool is not None:
            pool.fill(cells)  # here: the main thread alone can keep Ctrl-C from them

    def begin(self, wanted: Sequence[Cell]) -> None:
        """Has workers run cells of one size beside what the caller does meanwhile.

        The next `run` waits for them. It is for cells that depend on nothing still to be done, the
        unfiltered ones during meta-training, which leaves much of a second core unused. Where this
        process is to train, nothing is begun.
        """
        pending = self._pending(wanted)
        if not pending:
            return
        pool = self._pool_for(wanted[0].size)
        if pool is None:
            return
        pool.fill(len(pending))
        self._material()  # here: this thread needs it, too

        def work() -> None:
            try:
                self._run_in_workers(pending, pool, shown)
            except BaseException as error:
                self._raised.append(error)

        shown = _Shown(0, self._later.append)
        self._beside = threading.Thread(target=work, daemon=True)
        self._beside.start()

    def _finish_beside(self) -> None:
        if self._beside is None:
            return
        self._beside.join()
        self._beside = None
        for line in self._later:
            self._say(line)
        if self._raised:
            raise self._raised.pop()

    def run(self, wanted: Sequence[Cell]) -> None:
        """Runs those cells of one size that are not done, and returns when all are.

        What another process is at is waited for; what it gives up is done here. What is trained
        elsewhere is taken from there as far as it is done; `found` sends the rest.

        Raises:
          DrKerasError: a worker process ended before its work was done; or what a training raises.
        """
        self._finish_beside()
        pending = self._pending(wanted)
        if not pending:
            return
        trainer = self.trainer(wanted[0].size)
        shown = _Shown(sum(trainer.steps_of(c.steps_share) for c in pending.values()))
        if self._elsewhere.takes(trainer.parameters):
            for cell in pending.values():
                self._take_or_add(cell, trainer, shown)
            shown.close()
            return
        pool = self._pool_for(wanted[0].size)
        if pool is not None:
            self._run_in_workers(pending, pool, shown)
        else:
            self._claims.share(
                list(pending),
                lambda name: self.files.read(pending[name]) is not None,
                lambda name: self._run_here(pending[name], shown),
                self._say,
            )
        shown.close()

    def _take_or_add(self, cell: Cell, trainer: RepeatedTrainer, shown: "_Shown") -> None:
        """What came of a cell elsewhere; where nothing did, it is to be trained there."""
        exchange, fingerprint = self._exchange(), self.files.fingerprint(cell)
        draw, outcome = self.draw(cell), exchange.outcome(cell, fingerprint)
        if outcome is not None:
            self._write(cell, self._here.taken(cell, draw, outcome), 0, shown)
            return
        stream, steps = self._here.stream(cell, draw)
        size = cell.size.removesuffix(WITH_TARGET)
        exchange.add(cell, fingerprint, size, trainer, stream.examples, rows_of(stream, steps))

    def _pending(self, wanted: Sequence[Cell]) -> dict[str, Cell]:
        return {c.name: c for c in wanted if self.files.read(c) is None}

    def _pool_for(self, size: str) -> Pool | None:
        """The workers for cells of one size; None where this process is to train, or another
        machine."""
        trainer = self.trainer(size)
        if self._elsewhere.takes(trainer.parameters):
            return None
        count, threads = self._workers.for_model(
            trainer.parameters, trainer.on_one_device and not _has_accelerator()
        )
        trainers = sendable(self._trainers, self._sizes_binding) if count else {}
        if trainers is None:
            self._say("  these models were not bound by gin: they are trained in this process")
        if not trainers:
            return None
        if self._pool is None or self._pool.threads != threads:
            self._end_pool()
            self._pool = Pool(
                trainers, self._material, configuration.parsed_config(), count, threads
            )
        return self._pool

    def _run_here(self, cell: Cell, shown: "_Shown") -> None:
        draw = self.draw(cell)

        def report(step: int, steps: int, logs: dict[str, float]) -> None:
            shown.report(cell, step, steps, logs)

        self._write(cell, self._here.run(cell, draw, report), own_threads(), shown)

    def _write(self, cell: Cell, found: dict, threads: int, shown: "_Shown") -> None:
        self.files.write(cell, {**found, "threads": threads})
        shown.finish(cell, found)

    def _run_in_workers(self, pending: dict[str, Cell], pool: Pool, shown: "_Shown") -> None:
        held: dict[str, contextlib.ExitStack] = {}
        told = 0

        def finish_one() -> None:
            cell, found = pool.wait(shown.report)
            self._write(cell, found, pool.threads, shown)
            held.pop(cell.name).close()
            del pending[cell.name]

        with contextlib.ExitStack() as claims, contextlib.ExitStack() as ended:
            ended.callback(self._end_if_working, pool)
            while pending:
                for name in [name for name in pending if name not in held]:
                    if not pool.has_room:
                        finish_one()
                    claim = claims.enter_context(contextlib.ExitStack())
                    mine = claim.enter_context(self._claims.taken(name, name))
                    done = self.files.read(pending[name]) is not None  # by another process
                    if done:
                        del pending[name]
                    if done or not mine:
                        claim.close()
                        continue
                    held[name] = claim
                    pool.begin(pending[name], self.draw(pending[name]))
                if held:
                    finish_one()
                elif pending:
                    if told != len(pending):
                        told = len(pending)
                        self._say(f"  waiting for {told} in other processes: {next(iter(pending))}")
                    time.sleep(_POLL)

    def _end_if_working(self, pool: Pool) -> None:
        """Before claims are given up: nobody may work on at what another may take."""
        if pool.is_working:
            self._end_pool()


def _has_accelerator() -> bool:
    return any(device.device_type != "CPU" for device in tf.config.list_physical_devices())


class _Shown:
    """Progress of all cells of a call in one line, and a line for each that is done.

    Args:
      steps: of all of them.
      say: prints the lines of those that are done, where there is no line of progress.
    """

    def __init__(self, steps: int, say: Callable[[str], None] | None = None):
        self._line = None if say else Progress("  training", steps)
        self._say = say or self._line.say
        self._steps: dict[str, int] = {}
        self._note = ""

    def report(self, cell: Cell, step: int, steps: int, logs: Mapping[str, float]) -> None:
        """A cell has come this far."""
        self._steps[cell.name] = step
        if "test_loss" in logs:
            self._note = f"{cell.label}: test loss {logs['test_loss']:.3f}"
        if self._line is not None:
            self._line.update(sum(self._steps.values()), self._note)

    def finish(self, cell: Cell, found: Mapping) -> None:
        """A cell is done."""
        record = found["record"]
        step, loss = record["curve"][-1]
        self._steps[cell.name] = int(step)
        seconds = round(record["seconds"])
        self._say(f"  {cell.label}: {step}/{step} steps in {seconds}s  test loss {loss:.3f}")

    def close(self) -> None:
        """All are done."""
        if self._line is not None:
            self._line.close()
