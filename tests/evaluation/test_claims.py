import os
import subprocess
import sys
import threading
import time

import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.evaluation.claims import Claims


def test_one_holder_at_a_time_and_given_up_at_the_end(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    with first.taken("a/b") as mine:
        assert mine and first.path("a/b").exists()
        with second.taken("a/b") as other:
            assert not other
        assert first.path("a/b").exists()  # the one refused has not removed it
        with second.taken("c") as other:
            assert other
    assert not list(tmp_path.rglob("*.claim*"))
    with pytest.raises(RuntimeError), second.taken("a/b") as mine:
        assert mine
        raise RuntimeError
    assert not list(tmp_path.rglob("*.claim*"))
    with pytest.raises(ConfigurationError, match="stale_after is 0"):
        Claims(tmp_path, stale_after=0)


def test_an_abandoned_claim_is_taken_over_and_its_owner_leaves_the_new_one_alone(tmp_path):
    claims = Claims(tmp_path, stale_after=50)
    with claims.taken("x") as mine:
        assert mine
        os.utime(claims.path("x"), (time.time() - 100,) * 2)
        with Claims(tmp_path, stale_after=50).taken("x") as other:
            assert other
            held = claims.path("x").read_text()
        assert not claims.path("x").exists()
        claims.path("x").write_text(held)
    assert claims.path("x").read_text() == held  # not ours to remove


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(tmp_path):
    code = "import sys; from dr_keras.evaluation.claims import Claims; import os\n"
    code += "context = Claims(sys.argv[1]).taken('x'); assert context.__enter__(); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == 9 and Claims(tmp_path).path("x").exists()
    with Claims(tmp_path).taken("x") as mine:
        assert mine


def test_a_claim_at_work_does_not_grow_old(tmp_path):
    claims = Claims(tmp_path, stale_after=0.5)
    with claims.taken("x"):
        time.sleep(0.8)
        with claims.taken("x") as other:
            assert not other


def test_processes_share_work_and_each_piece_is_done_once(tmp_path):
    done, log, lock = tmp_path / "done", [], threading.Lock()
    done.mkdir()
    names = [f"n{k}" for k in range(12)]

    def work_of(worker):
        def work(name):
            time.sleep(0.01)
            with lock:
                log.append((worker, name))
            (done / name).touch()
        return work

    threads = [
        threading.Thread(
            target=Claims(tmp_path / "claims", poll=0.01).share,
            args=(names, lambda name: (done / name).exists(), work_of(worker)),
        )
        for worker in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(name for _, name in log) == sorted(names)
    assert len({worker for worker, _ in log}) > 1


def test_what_another_gives_up_is_done_here(tmp_path):
    claims, said, done = Claims(tmp_path, poll=0.01), [], set()
    holder = Claims(tmp_path)
    context = holder.taken("b")
    assert context.__enter__()
    timer = threading.Timer(0.2, lambda: context.__exit__(None, None, None))
    timer.start()
    claims.share(["a", "b"], done.__contains__, done.add, said.append)
    assert done == {"a", "b"} and said == ["  waiting for 1 in other processes: b ..."]
