"""`elsewhere(path)`: another process that holds the lock of a folder or file."""

import contextlib
import pathlib
import subprocess
import sys

import pytest

from dr_keras.system import locks

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Tests that run in the background of a shell inherit that SIGINT is ignored.
HOLD = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from dr_keras.system import locks
from dr_keras.errors import DataError
with locks.alone(sys.argv[1], "the first run", DataError, is_file=sys.argv[2] == "file"):
    print("in", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def elsewhere(monkeypatch):
    """`with elsewhere(path, is_file=False) as process`: inside, `process` holds the lock."""
    monkeypatch.setattr(locks, "WAIT", 0.2)

    @contextlib.contextmanager
    def hold(path, is_file: bool = False):
        command = [sys.executable, "-c", HOLD, str(path), "file" if is_file else "folder"]
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        with process:
            assert process.stdout.readline() == "in\n"
            try:
                yield process
            finally:
                process.stdin.close()
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    process.kill()  # or the end of this context would wait for ever
                    raise

    return hold
