"""Stages of a longer study: each is done once, timed, and its peak memory noted.

A stage's record lies in <base_dir>/stages/<name>.json and is written when the stage is done, so
that a later call reuses it and an interrupted one leaves none. <base_dir>/stages/layout.json says
which version of the files these are.
"""

from collections.abc import Callable, Mapping
import contextlib
import json
import multiprocessing
import os
import pathlib
import sys
import threading
import time

from dr_keras.errors import CheckpointError
from dr_keras.system import whole_files
from dr_keras.system.claims import Claims
from dr_keras.system.progress import duration

# Counts up when the files of a study mean something else.
LAYOUT = 2


def resident_bytes() -> int:
    """Resident memory now of this process and of those that it started with multiprocessing.

    Pages that several of them have are counted for each. Where /proc does not exist: the peak so
    far of this process alone.
    """
    processes = ["self", *(str(child.pid) for child in multiprocessing.active_children())]
    pages = 0
    try:
        for process in processes:
            with contextlib.suppress(ProcessLookupError, *([] if process == "self" else [OSError])):
                with open(f"/proc/{process}/statm", encoding="ascii") as file:
                    pages += int(file.read().split()[1])
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


class MemoryPeak:
    """Context manager: `bytes` is the largest resident memory seen, sampled every `interval` s."""

    def __init__(self, interval: float = 0.1):
        self._interval, self.bytes = interval, 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        while not self._stop.is_set():
            self.bytes = max(self.bytes, resident_bytes())
            self._stop.wait(self._interval)

    def __enter__(self):
        self.bytes = resident_bytes()
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self._stop.set()
        self._thread.join()
        self.bytes = max(self.bytes, resident_bytes())


class Stages:
    """Runs the stages of one study in order.

    Args:
      base_dir: of the study.
      say: prints a line for the user.
      claims: of the processes that share the study, each of whose stages one of them does; None
        where there are no others.

    Raises:
      CheckpointError: the folder holds a study that another version of dr_keras laid out otherwise.
    """

    def __init__(self, base_dir, say: Callable[[str], None] = print, claims: Claims | None = None):
        self._folder = pathlib.Path(base_dir) / "stages"
        self._say, self._claims = say, claims
        self.records: dict[str, dict] = {}
        self._check_layout(base_dir)

    def _check_layout(self, base_dir) -> None:
        record, named = {"layout": LAYOUT}, self.is_done("layout")
        if not named and not any(self._folder.glob("*.json")):
            self._write("layout", record)
        elif not named or self._read("layout") != record:
            raise CheckpointError(
                f"{base_dir} holds a study of another version of dr_keras, whose stages and cells"
                " mean something else: go on with the version that began it, or name a new"
                " base_dir."
            )

    def shared(self, name: str, work: Callable[[], dict]) -> dict:
        """As `run`, done by one of the processes that share the study."""
        assert self._claims is not None
        self._claims.share([name], self.is_done, lambda stage: self.run(stage, work), self._say)
        return self.result(name)

    def run(self, name: str, work: Callable[[], dict | None]) -> dict:
        """`work()`'s result, or that of an earlier call.

        Args:
          name: of the stage; also of its file.
          work: does the stage and returns what JSON can hold; called again whenever the stage has
            not been finished.
        """
        if self.is_done(name):
            result = self.result(name)
            self._say(f"[{name}] done before, in {duration(self.records[name]['seconds'])}")
            return result
        self._say(f"[{name}]")
        interrupted = f"interrupted-{name}"
        spent = self._read(interrupted)["seconds"] if self.is_done(interrupted) else 0.0
        begin = time.monotonic()
        with MemoryPeak() as peak:
            try:
                result = work() or {}
            except BaseException:
                self._write(interrupted, {"seconds": spent + time.monotonic() - begin})
                raise
        record = {
            "seconds": spent + time.monotonic() - begin,
            "peak_memory_bytes": peak.bytes,
            "result": result,
        }
        self._write(name, record)
        self._path(interrupted).unlink(missing_ok=True)
        self.records[name] = record
        return result

    def is_done(self, name: str) -> bool:
        """Whether a stage's record is there, by this process or another."""
        return self._path(name).exists()

    def result(self, name: str) -> dict:
        """The result of a stage that is done."""
        if name not in self.records:
            self.records[name] = self._read(name)
        return self.records[name]["result"]

    def _path(self, name: str) -> pathlib.Path:
        return self._folder / f"{name}.json"

    def _read(self, name: str) -> dict:
        return json.loads(self._path(name).read_text(encoding="utf-8"))

    def _write(self, name: str, record: Mapping) -> None:
        whole_files.write_text(self._path(name), json.dumps(record, indent=1) + "\n")

    @property
    def peak_memory_bytes(self) -> int:
        """The most of all stages, of all processes together."""
        return max((r["peak_memory_bytes"] for r in self.records.values()), default=0)

    def timings(self) -> dict[str, dict]:
        """Stage -> {"seconds", "peak_memory_bytes"}, in the order they ran."""
        return {
            name: {key: record[key] for key in ("seconds", "peak_memory_bytes")}
            for name, record in self.records.items()
        }
