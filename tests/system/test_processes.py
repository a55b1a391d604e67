"""Tests of dr_keras.system.processes."""

import concurrent.futures
import multiprocessing
import os
from pathlib import Path
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from dr_keras.system import processes


def threads_and_parent() -> tuple[int, int, bool, object]:
    import tensorflow as tf

    return (
        tf.config.threading.get_intra_op_parallelism_threads(),
        tf.config.threading.get_inter_op_parallelism_threads(),
        bool((tf.ones([2, 2]) @ tf.ones([2, 2]) == 2.0).numpy().all()),
        signal.getsignal(signal.SIGINT),
    )


def test_a_worker_has_its_threads_computes_and_leaves_interrupts_to_its_parent():
    with concurrent.futures.ProcessPoolExecutor(
        2, processes.worker_context(), processes.begin_worker, (3,)
    ) as pool:
        found = pool.submit(threads_and_parent).result()
    assert found == (3, 3, True, signal.SIG_IGN)


def test_the_server_is_started_once():
    context = processes.worker_context()
    assert context is processes.worker_context()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_workers_end_when_who_began_them_is_killed(tmp_path):
    script = tmp_path / "begins.py"
    script.write_text(
        textwrap.dedent("""\
            import concurrent.futures, os, time
            from dr_keras.system import processes

            if __name__ == "__main__":
                pool = concurrent.futures.ProcessPoolExecutor(
                    1, processes.worker_context(), processes.begin_worker, (1,))
                print(pool.submit(os.getpid).result(), flush=True)
                pool.submit(time.sleep, 600)
                time.sleep(600)
            """)
    )
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        process.kill()
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if " Z " in Path(f"/proc/{worker}/stat").read_text():
                return
        except FileNotFoundError:
            return
        time.sleep(0.05)
    os.kill(worker, signal.SIGKILL)
    pytest.fail("the worker outlived its parent")


def test_a_platform_without_a_server_imports_in_each_worker(monkeypatch):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    assert processes.worker_context().get_start_method() == "spawn"
