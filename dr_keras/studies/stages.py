"""Stages of a longer study: each is done once, timed, and its peak memory noted.

A stage's record lies in <base_dir>/stages/<name>.json and is written when the stage is done, so
that a later call reuses it and an interrupted one leaves none.
"""

from collections.abc import Callable
import json
import os
import pathlib
import sys
import threading
import time

from dr_keras.system import whole_files
from dr_keras.system.progress import duration


def resident_bytes() -> int:
    """Resident memory of this process now; its peak so far where /proc does not exist."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


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
    """

    def __init__(self, base_dir, say: Callable[[str], None] = print):
        self._folder = pathlib.Path(base_dir) / "stages"
        self._say = say
        self.records: dict[str, dict] = {}

    def run(self, name: str, work: Callable[[], dict | None]) -> dict:
        """`work()`'s result, or that of an earlier call.

        Args:
          name: of the stage; also of its file.
          work: does the stage and returns what JSON can hold; called again whenever the stage has
            not been finished.
        """
        path = self._folder / f"{name}.json"
        if path.exists():
            before = json.loads(path.read_text(encoding="utf-8"))
            self._say(f"[{name}] done before, in {duration(before['seconds'])}")
            self.records[name] = before
            return before["result"]
        self._say(f"[{name}]")
        spent = self._spent(name)
        begin = time.monotonic()
        with MemoryPeak() as peak:
            try:
                result = work() or {}
            except BaseException:
                self._note_interruption(name, spent + time.monotonic() - begin)
                raise
        record = {
            "seconds": spent + time.monotonic() - begin,
            "peak_memory_bytes": peak.bytes,
            "result": result,
        }
        self._write(path, record)
        self._interrupted(name).unlink(missing_ok=True)
        self.records[name] = record
        return result

    def is_done(self, name: str) -> bool:
        """Whether a stage's record is there, by this process or another."""
        return (self._folder / f"{name}.json").exists()

    def result(self, name: str) -> dict:
        """The result of a stage that is done."""
        if name not in self.records:
            path = self._folder / f"{name}.json"
            self.records[name] = json.loads(path.read_text(encoding="utf-8"))
        return self.records[name]["result"]

    def _interrupted(self, name: str) -> pathlib.Path:
        return self._folder / f"interrupted-{name}.json"

    def _spent(self, name: str) -> float:
        """Seconds that interrupted calls have already put into a stage."""
        path = self._interrupted(name)
        return json.loads(path.read_text(encoding="utf-8"))["seconds"] if path.exists() else 0.0

    def _note_interruption(self, name: str, seconds: float) -> None:
        self._write(self._interrupted(name), {"seconds": seconds})

    def _write(self, path: pathlib.Path, record: dict) -> None:
        whole_files.write_text(path, json.dumps(record, indent=1) + "\n")

    def timings(self) -> dict[str, dict]:
        """Stage -> {"seconds", "peak_memory_bytes"}, in the order they ran."""
        return {
            name: {key: record[key] for key in ("seconds", "peak_memory_bytes")}
            for name, record in self.records.items()
        }
