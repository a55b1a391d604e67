"""What every test gets: quiet logs, the TensorFlow backend, and no gin bindings left by others."""

import hashlib
import logging
import os
from pathlib import Path
import sys
import time

# Both are read when TensorFlow and Keras are first imported, so they are set before any test is.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("MPLBACKEND", "Agg")

import hypothesis
import pytest

from dr_keras.system import program_cache, program_names
import gin

# What one run compiled, the next loads; so do processes that tests start. `git clean` removes it.
ROOT = Path(__file__).resolve().parent.parent
program_cache.use(os.environ.get(program_cache.VARIABLE) or f"{ROOT}/.pytest_cache/programs")

# An example that takes long on a busy machine is no failure.
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")


def fail_at_own_deprecated_calls(record: logging.LogRecord) -> bool:
    """TensorFlow logs what it deprecates: "From <file of the caller>:<line>: ... is deprecated"."""
    said = record.getMessage()
    ours = said.startswith(f"From {Path(__file__).parents[1] / 'dr_keras'}{os.sep}")
    if ours and " is deprecated" in said:
        raise DeprecationWarning(said)
    return True


logging.getLogger("tensorflow").addFilter(fail_at_own_deprecated_calls)

# On two cores, without the tests marked `long`.
TARGET_SECONDS = 600

_session_start = time.monotonic()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Programs have the names of their test, whichever tests this process ran before it."""
    if "tensorflow" in sys.modules:
        program_names.install()
        program_names.begin("t" + hashlib.sha256(item.nodeid.encode()).hexdigest()[:8])


@pytest.fixture(autouse=True)
def clean_gin_config():
    """Each test starts without bindings and unlocked, whatever the one before it parsed."""
    gin.clear_config()
    yield
    gin.clear_config()


def pytest_terminal_summary(terminalreporter, config):
    seconds = time.monotonic() - _session_start
    if seconds > TARGET_SECONDS and config.option.markexpr == "not long":
        terminalreporter.write_line(
            f"WARNING: the tests took {seconds:.0f} s; the target is {TARGET_SECONDS} s on two "
            "cores. The slowest are listed above.",
            yellow=True,
        )


@pytest.fixture
def float64():
    """Keras computes in float64 inside the test; what it was before is put back afterwards."""
    import keras  # here, so that tests without TensorFlow stay quick

    before, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    yield
    keras.config.set_floatx(before)
    keras.config.set_dtype_policy(policy)


@pytest.fixture
def stacked_as():
    """(values of a plain model, of one with recomputed blocks) -> the former as the latter."""
    import numpy as np

    def convert(plain, likes):
        plain, likes = [np.asarray(value) for value in plain], list(likes)
        differ = [n for n, (a, b) in enumerate(zip(plain, likes)) if a.shape != tuple(b.shape)]
        if not differ:
            return plain
        first, count = differ[0], likes[differ[0]].shape[0]
        each = (len(plain) - len(likes)) // (count - 1)  # weights of one block
        blocks = [plain[first + n * each : first + (n + 1) * each] for n in range(count)]
        stacked = [np.stack(values) for values in zip(*blocks)]
        found = [*plain[:first], *stacked, *plain[first + count * each :]]
        assert [a.shape for a in found] == [tuple(b.shape) for b in likes]
        return found

    return convert


@pytest.fixture
def no_room_beyond():
    """A context in which this process can make no file larger than so many bytes: a full disk."""
    import contextlib
    import resource

    @contextlib.contextmanager
    def limited(size):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited
