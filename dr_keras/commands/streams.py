"""Standard output and error of a command: they take any text, and name themselves if they fail."""

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

from dr_keras.system import system_errors

STANDARD_OUTPUT = "standard output"


class _Named(io.FileIO):
    """A descriptor whose errors name it; a plain one's say neither what failed nor where."""

    def __init__(self, descriptor: int, called: str):
        super().__init__(descriptor, "w", closefd=False)
        self._called = called

    def write(self, data) -> int | None:
        try:
            return super().write(data)
        except OSError as error:
            error.filename = self._called
            raise


def prepare() -> None:
    """Makes the standard streams fit for a command.

    What a terminal's encoding does not have (an arrow, a file name that is not UTF-8) is printed as
    an escape. What was closed (`>&-`) becomes /dev/null; otherwise the next file to be opened would
    get its number, and with it whatever a library prints.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            _open_null(descriptor)
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)  # PYTHONUNBUFFERED leaves no buffer
    if type(raw) is io.FileIO and raw.fileno() == 1:  # neither a test's stream nor done before
        before, named = sys.stdout, _Named(1, STANDARD_OUTPUT)
        before.flush()
        sys.stdout = io.TextIOWrapper(
            named if raw is buffer else io.BufferedWriter(named),
            encoding=before.encoding,
            errors=before.errors,
            line_buffering=before.line_buffering,
            write_through=before.write_through,
        )
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def is_of_output(error: BaseException) -> bool:
    """Whether it was standard output that could not be written to."""
    return getattr(system_errors.original(error), "filename", None) == STANDARD_OUTPUT


def give_up(stream: TextIO) -> None:
    """A standard stream becomes /dev/null: Python flushes it at exit, which would fail again."""
    with contextlib.suppress(OSError, io.UnsupportedOperation):
        if stream.fileno() in (1, 2):
            _open_null(stream.fileno())


def _open_null(descriptor: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != descriptor:
        os.dup2(null, descriptor)
        os.close(null)
