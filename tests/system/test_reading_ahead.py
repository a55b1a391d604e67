"""Results in order, a few of them ahead; errors where they belong; a thread that ends."""

import threading
import time

import pytest

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system.reading_ahead import ReadingAhead


def until(condition):
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.002)


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_results_come_in_order_whatever_the_depth(depth):
    with ReadingAhead(lambda n: n * n, range(3, 30), depth) as ahead:
        assert list(ahead) == [n * n for n in range(3, 30)]
        with pytest.raises(StopIteration):
            next(ahead)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_no_more_lies_ready_than_the_depth(depth):
    read = []
    with ReadingAhead(lambda n: read.append(n) or n, range(100), depth) as ahead:
        for taken in range(4):
            until(lambda taken=taken: len(read) == taken + depth)
            time.sleep(0.01)
            assert len(read) == taken + depth
            assert next(ahead) == taken
    assert len(read) <= 4 + depth


def test_without_depth_nothing_is_read_before_it_is_asked_for():
    read, threads = [], threading.active_count()
    with ReadingAhead(lambda n: read.append(n) or n, range(5), 0) as ahead:
        assert threading.active_count() == threads and not read
        assert next(ahead) == 0 and read == [0]


@pytest.mark.parametrize("depth", [0, 4])
def test_an_error_is_raised_where_its_number_is_asked_for(depth):
    def read(number):
        if number == 2:
            raise DataError("shard 2 is cut short")
        return number

    with ReadingAhead(read, range(9), depth) as ahead:
        assert [next(ahead), next(ahead)] == [0, 1]
        with pytest.raises(DataError, match="shard 2 is cut short"):
            next(ahead)


@pytest.mark.parametrize("depth", [1, 2])
def test_leaving_ends_the_thread_after_what_it_is_reading(depth):
    threads, may_read = threading.active_count(), threading.Event()
    read = []

    def slow(number):
        may_read.wait(20)
        read.append(number)
        return number

    with pytest.raises(KeyboardInterrupt), ReadingAhead(slow, range(100), depth):
        assert threading.active_count() == threads + 1
        may_read.set()
        raise KeyboardInterrupt
    assert threading.active_count() == threads and len(read) <= depth


def test_what_was_waited_for_is_counted():
    def slow(number):
        time.sleep(0.03)
        return number

    with ReadingAhead(slow, range(3), 0) as ahead:
        list(ahead)
        assert 0.09 <= ahead.waited < 2
    with ReadingAhead(lambda n: n, range(2), 2) as ahead:
        until(lambda: ahead._ready.qsize() == 2)
        list(zip(range(2), ahead))
        assert ahead.waited < 0.09


def test_a_negative_depth_is_refused():
    with pytest.raises(ConfigurationError, match="read_ahead is -1: it must be at least 0"):
        ReadingAhead(lambda n: n, range(2), -1)
