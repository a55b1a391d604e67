"""The progress line on a terminal and in a log."""

import io

import pytest

from dr_keras.system import progress
from dr_keras.system.progress import Progress, duration


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    "seconds, text",
    [(0, "0s"), (59.4, "59s"), (59.6, "1m00s"), (185, "3m05s"), (3599.6, "1h00m"), (7620, "2h07m")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_log_gets_a_line_every_interval_and_the_last_one(clock):
    stream = io.StringIO()
    bar = Progress("training", 100, "steps", stream=stream, interval=10)
    for done in range(1, 101):
        clock.now += 1
        bar.update(done, f"loss {done}")
    bar.close("loss 100")
    lines = stream.getvalue().splitlines()
    # The first unit, one line each ten seconds, the last unit, the end.
    assert [line.split()[1] for line in lines] == [
        "1/100",
        "11/100",
        "21/100",
        "31/100",
        "41/100",
        "51/100",
        "61/100",
        "71/100",
        "81/100",
        "91/100",
        "100/100",
        "100/100",
    ]
    assert lines[1] == "training 11/100 steps  1.0/s  1m29s left  loss 11"
    assert lines[-1] == "training 100/100 steps in 1m40s  loss 100"


def test_the_first_unit_does_not_count_for_the_rate(clock):
    """It holds the compilation."""
    stream = io.StringIO()
    bar = Progress("training", 10, stream=stream, interval=0)
    clock.now += 50
    bar.update(1)
    clock.now += 2
    bar.update(2)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "training 1/10 steps"
    assert lines[1] == "training 2/10 steps  2.0s each  16s left"


def test_units_done_before_do_not_count_for_the_rate(clock):
    stream = io.StringIO()
    bar = Progress("training", 1000, done=900, stream=stream, interval=0)
    for done in (901, 902, 903):
        clock.now += 1
        bar.update(done)
    assert stream.getvalue().splitlines()[-1] == "training 903/1000 steps  1.0/s  1m37s left"


def test_a_terminal_line_is_overwritten_whole(clock):
    stream = Terminal()
    bar = Progress("training", 3, stream=stream)
    bar.update(0, "a long note about the compilation")
    clock.now += 1
    bar.update(1)
    bar.close()
    first, second, last = stream.getvalue().split("\r")[1:]
    assert second.startswith("training 1/3 steps") and len(second) == len(first)
    assert last.rstrip(" \n") == "training 1/3 steps in 1s" and last.endswith("\n")
