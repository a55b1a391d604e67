"""Tests of dr_keras.system.memory."""

import concurrent.futures
import ctypes
import multiprocessing
from pathlib import Path
import threading
import time

import pytest

from dr_keras.system import memory

STATUS = Path("/proc/self/status")
BLOCKS, SIZE = 60_000, 1000


def resident() -> int:
    return int(STATUS.read_text().split("VmRSS:")[1].split()[0]) * 1024


def freed_below_a_block_in_use() -> bytes:
    """Frees 60 MB in small blocks, below one that stays: glibc keeps their pages."""
    blocks = [bytes(SIZE) for _ in range(BLOCKS)]
    return blocks[-1]


@pytest.mark.skipif(
    not (STATUS.exists() and hasattr(ctypes.CDLL(None), "malloc_trim")), reason="needs glibc"
)
def test_freed_memory_goes_back_inside():
    # in a process of its own, whose heap has no holes that others left
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        kept, left, length = pool.submit(kept_and_left).result()
    assert length == SIZE
    assert kept > BLOCKS * SIZE / 2  # or the test shows nothing
    assert left < kept / 4


def kept_and_left() -> tuple[int, int, int]:
    """Bytes that are resident after blocks were freed, without and with what is tested."""
    before = resident()
    stays = freed_below_a_block_in_use()
    kept = resident() - before
    with memory.handed_back(every=0.05):
        end = time.monotonic() + 20
        while resident() - before > kept / 4 and time.monotonic() < end:
            time.sleep(0.02)
        left = resident() - before
    return kept, left, len(stays)


def test_its_thread_ends_with_the_block_also_by_an_error():
    with pytest.raises(ValueError), memory.handed_back(every=0.01):
        assert any(thread.name == "handed-back" for thread in threading.enumerate())
        raise ValueError
    assert not any(thread.name == "handed-back" for thread in threading.enumerate())


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    with memory.handed_back():
        assert not any(thread.name == "handed-back" for thread in threading.enumerate())
