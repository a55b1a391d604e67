import json
import os
import subprocess
import sys
import threading
import time

import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.system import claims
from dr_keras.system.claims import Claims, RemoteFiles


def test_one_holder_at_a_time_and_given_up_at_the_end(tmp_path):
    first, second = Claims(tmp_path), Claims(tmp_path)
    with first.taken("a/b") as mine:
        assert mine and (tmp_path / "a/b.claim").exists()
        with second.taken("a/b") as other:
            assert not other
        assert (tmp_path / "a/b.claim").exists()  # the one refused has not removed it
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
        os.utime((tmp_path / "x.claim"), (time.time() - 100,) * 2)
        with Claims(tmp_path, stale_after=50).taken("x") as other:
            assert other
            held = (tmp_path / "x.claim").read_text()
        assert not (tmp_path / "x.claim").exists()
        (tmp_path / "x.claim").write_text(held)
    assert (tmp_path / "x.claim").read_text() == held  # not ours to remove


def test_the_claim_of_a_process_that_died_here_is_taken_over_at_once(tmp_path):
    code = "import sys; from dr_keras.system.claims import Claims; import os\n"
    code += "context = Claims(sys.argv[1]).taken('x'); assert context.__enter__(); os._exit(9)"
    ended = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert ended.returncode == 9 and (tmp_path / "x.claim").exists()
    with Claims(tmp_path).taken("x") as mine:
        assert mine


def test_a_claim_at_work_does_not_grow_old(tmp_path):
    claims = Claims(tmp_path, stale_after=0.5)
    with claims.taken("x"):
        time.sleep(0.8)
        with claims.taken("x") as other:
            assert not other


@pytest.mark.parametrize("remote", [False, True])
def test_processes_share_work_and_each_piece_is_done_once(tmp_path, remote):
    folder = f"ram://{tmp_path.name}/claims" if remote else tmp_path / "claims"
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
            target=Claims(folder, poll=0.01).share,
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


# ----------------------------------------------------------------------------------- remote folders


def remote(tmp_path) -> str:
    return f"ram://{tmp_path.name}"


def leave(folder, name, token, **changes):
    """The claim of a process elsewhere, as it lies there."""
    holder = {"host": "another", "process": 7, "token": token, "touched": time.time()} | changes
    path = f"{folder}/{name}.claim-{token}"
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.gfile.GFile(path, "w") as file:
        file.write(json.dumps(holder) + "\n")
    return path


def test_remote_one_holder_at_a_time_and_given_up_at_the_end(tmp_path):
    folder = remote(tmp_path)
    first, second = Claims(folder), Claims(folder)
    with first.taken("a/b", "this") as mine:
        assert mine and first.holder("a/b")["doing"] == "this"
        with second.taken("a/b") as other:
            assert not other
        assert second.holder("a/b")["process"] == os.getpid()  # the one refused left it alone
        with second.taken("a/bc") as other:
            assert other
    assert first.holder("a/b") == {} and tf.io.gfile.listdir(f"{folder}/a") == []
    with pytest.raises(RuntimeError), second.taken("a/b") as mine:
        assert mine
        raise RuntimeError
    assert tf.io.gfile.listdir(f"{folder}/a") == []


@pytest.mark.parametrize(
    "changes, taken_over",
    [
        ({}, False),
        ({"touched": time.time() - 10_000}, True),
        ({"host": os.uname().nodename, "process": 2**22 + 1}, True),
        ({"host": os.uname().nodename, "process": os.getppid()}, False),
    ],
)
def test_remote_abandoned_claims_are_taken_over(tmp_path, changes, taken_over):
    path = leave(remote(tmp_path), "x", "0", **changes)
    with Claims(remote(tmp_path), stale_after=5000).taken("x") as mine:
        assert mine == taken_over
        left = os.path.basename(path) in tf.io.gfile.listdir(os.path.dirname(path))
        assert left != taken_over


def test_a_remote_claim_at_work_does_not_grow_old(tmp_path):
    claims = Claims(remote(tmp_path), stale_after=0.5)
    with claims.taken("x"):
        time.sleep(0.8)
        with claims.taken("x") as other:
            assert not other


def test_a_remote_claim_lost_while_its_holder_slept_is_not_brought_back(tmp_path):
    folder = remote(tmp_path)
    with Claims(folder, stale_after=0.2).taken("x") as mine:
        assert mine
        (file,) = tf.io.gfile.listdir(folder)
        tf.io.gfile.remove(f"{folder}/{file}")  # by one who took it for abandoned
        time.sleep(0.1)  # in which it would be touched several times
        assert tf.io.gfile.listdir(folder) == []


@pytest.mark.parametrize(
    "token, goes, mine", [("0", True, False), ("z", True, True), ("z", False, False)]
)
def test_of_two_who_want_a_remote_claim_the_later_token_withdraws(
    tmp_path, monkeypatch, token, goes, mine
):
    """Another writes between this one's look and its own file, and goes (or not) a while later."""
    folder, write = remote(tmp_path), RemoteFiles._write
    timers = []

    def write_beside(self, *arguments):
        write(self, *arguments)
        if not timers:
            path = leave(folder, "x", token)
            timers.append(threading.Timer(0.1, tf.io.gfile.remove, [path]))
            if goes:
                timers[0].start()

    monkeypatch.setattr(RemoteFiles, "_write", write_beside)
    with Claims(folder, settle=0.4 if not goes else 20).taken("x") as got:
        assert got == mine
    timers[0].join() if goes else None
    assert len(tf.io.gfile.listdir(folder)) == (not goes)


def test_remote_holders_never_meet(tmp_path):
    folder, inside, met, taken = remote(tmp_path), [], [], []

    def come_and_go(worker):
        claims = Claims(folder, settle=0.5)
        while len(taken) < 12:  # how many tries that takes depends on the machine's load
            with claims.taken("x") as mine:
                if mine:
                    inside.append(worker)
                    time.sleep(0.001)
                    met.append(len(inside))
                    taken.append(worker)
                    inside.remove(worker)

    threads = [threading.Thread(target=come_and_go, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(met) == {1} and len(taken) >= 12


# ------------------------------------------------------------------------------------ the holder


def test_this_process_is_alive_and_named():
    me = claims.this_process("filtering")
    assert not claims.is_dead(me) and claims.is_of_this_host(me)
    text = claims.described({**me, "process": os.getppid(), "since": 1790000000.0})
    assert text == (
        f"filtering, process {os.getppid()} on {me['host']}, since 2026-09-21 14:13:20 UTC"
    )
    assert "in another thread of this process" in claims.described(me)


@pytest.mark.parametrize(
    "change, dead",
    [
        ({"process": 2**22 + 1}, True),  # no such process
        ({"started": "another time"}, True),  # the number was given out again
        ({"started": ""}, False),
        ({"host": "another"}, False),
        ({"host": "another", "process": 2**22 + 1}, False),
        ({"place": "another-boot pid:[1]"}, True),
        ({"process": "x"}, False),
        ({"process": None}, False),
        ({"process": 2**70}, False),
    ],
)
def test_the_dead_are_told_from_the_living(change, dead):
    assert claims.is_dead(claims.this_process() | change) is dead


def test_numbers_of_another_container_say_nothing():
    me = claims.this_process()
    boot = me["place"].split(" ")[0]
    if not boot:
        pytest.skip("this system has no process namespaces")
    away = {"process": 2**22 + 1, "place": f"{boot} pid:[1]"}
    assert not claims.is_dead(me | away)


def test_without_proc_ps_says_when_a_process_began(monkeypatch):
    monkeypatch.setattr(claims.pathlib, "Path", lambda path: pathlib_of_nothing)
    began = claims._started(os.getpid())
    assert began == claims._started(os.getpid())
    assert claims._started(2**22 + 1) == ""


class _Nothing:
    def read_text(self, **settings):
        raise FileNotFoundError


pathlib_of_nothing = _Nothing()


@pytest.mark.parametrize("holder", [{}, {"process": []}, {"host": "h"}])
def test_a_holder_that_cannot_be_read_has_words_too(holder):
    assert claims.described(holder).startswith("another process, which has not written its name")
    assert not claims.is_dead(holder)
