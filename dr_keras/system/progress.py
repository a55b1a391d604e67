"""A long run at a terminal: one line that says how far it is, and Ctrl-C answered between steps.

What libraries print there by themselves can be hidden.
"""

from collections.abc import Iterator
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from typing import TextIO


def duration(seconds: float) -> str:
    """12s, 3m05s or 2h07m."""
    seconds = int(round(seconds))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02d}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"


@contextlib.contextmanager
def hidden_errors(shown_if_failed: bool = False) -> Iterator[None]:
    """Hides what libraries write to the file descriptor of standard error, not to `sys.stderr`.

    Args:
      shown_if_failed: whether it is shown after all where an exception leaves the block.
    """
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as hidden:
        os.dup2(hidden.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            if failed and shown_if_failed:
                hidden.seek(0)
                sys.stderr.write(hidden.read().decode(errors="replace"))


class Progress:
    """Prints progress on a terminal in place, elsewhere as a line every few seconds.

    Args:
      label: what is going on.
      total: units in all.
      unit: what is counted.
      done: units already there when this run began; they do not count for the rate.
      stream: where to print; standard error by default, so that output can be piped.
      interval: seconds between lines where the stream is no terminal.
    """

    def __init__(
        self,
        label: str,
        total: int,
        unit: str = "steps",
        done: int = 0,
        stream: TextIO | None = None,
        interval: float = 10.0,
    ):
        self.label, self.total, self.unit = label, total, unit
        self._stream = stream if stream is not None else sys.stderr
        self._terminal = getattr(self._stream, "isatty", lambda: False)()
        self._interval = 0.2 if self._terminal else interval
        self._first = done
        self._done = done
        self._begin = time.monotonic()
        self._rate_from: tuple[float, int] | None = None
        self._printed = 0.0
        self._width = 0

    def update(self, done: int, note: str = "") -> None:
        """`done` units are finished now; `note` carries the metric that matters."""
        self._done = done
        now = time.monotonic()
        if self._rate_from is None and done > self._first:
            # The first unit holds the compilation, which would make the rest look slow.
            self._rate_from = (now, done)
            self._printed = 0.0
        if now - self._printed < self._interval and done < self.total:
            return
        self._printed = now
        self._write(f"{self.label} {done}/{self.total} {self.unit}{self._rate(now)}", note)

    def _rate(self, now: float) -> str:
        if self._rate_from is None or self._done <= self._rate_from[1]:
            return ""
        since, first = self._rate_from
        rate = (self._done - first) / max(now - since, 1e-9)
        left = (self.total - self._done) / rate
        if rate >= 100:
            shown = f"{rate:,.0f}/s"
        else:
            shown = f"{rate:.1f}/s" if rate >= 1 else f"{1 / rate:.1f}s each"
        return f"  {shown}  {duration(left)} left" if left > 0 else f"  {shown}"

    def say(self, line: str) -> None:
        """Prints a line of its own; on a terminal in place of the progress, which follows below."""
        if self._terminal:
            line = f"\r{line}{' ' * max(0, self._width - len(line))}"
            self._width = 0
        self._put(f"{line}\n")

    def close(self, note: str = "") -> None:
        """Ends the line with the time it took."""
        spent = duration(time.monotonic() - self._begin)
        self._write(f"{self.label} {self._done}/{self.total} {self.unit} in {spent}", note)
        if self._terminal:
            self._put("\n")

    def _write(self, line: str, note: str) -> None:
        line = f"{line}  {note}" if note else line
        if self._terminal:
            padding = " " * max(0, self._width - len(line))
            self._put(f"\r{line}{padding}")
            self._width = len(line)
        else:
            self._put(f"{line}\n")

    def _put(self, text: str) -> None:
        # Work goes on where nobody can be told of it any more (`2>&1 | head`, a full disk).
        with contextlib.suppress(OSError):
            self._stream.write(text)
            self._stream.flush()


class Interruption:
    """Context manager: `requested` holds the signal's number once one has come.

    The first signal only sets the flag, so that a step is never cut in two and the run can be
    saved; a second Ctrl-C interrupts at once. Outside the main thread, where Python takes no
    signal handlers, it does nothing.
    """

    def __init__(self) -> None:
        self.requested: int | None = None
        self._previous: dict = {}

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number, frame):
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = number
        print("\nstopping after this step; the run is being saved", flush=True)

    def __exit__(self, *exception):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def leave(self) -> None:
        """Ends the program the way the signal would have."""
        if self.requested == signal.SIGINT:
            raise KeyboardInterrupt
        if self.requested is not None:
            raise SystemExit(128 + self.requested)
