"""Locks: the second is told who is there, the dead are followed, nothing is left."""

import errno
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import filelock
import pytest
import tensorflow as tf

from dr_keras.errors import ArtefactError, DataError
from dr_keras.system import claims, locks


def refused(path, **settings) -> str:
    with pytest.raises(ArtefactError) as caught:
        with locks.alone(path, "the second run", ArtefactError, **settings):
            pass
    return str(caught.value)


def entered(path, **settings) -> None:
    with locks.alone(path, "the second run", ArtefactError, **settings):
        pass


@pytest.mark.parametrize("is_file", [False, True])
def test_the_second_is_told_who_is_there(elsewhere, tmp_path, is_file):
    path = tmp_path / "made" / "x"
    with elsewhere(path, is_file) as first:
        os.symlink(tmp_path / "made", tmp_path / "link")
        for name in (path, tmp_path / "link" / "x", f"{path.parent}/./x", f"file://{path}"):
            said = refused(name, is_file=is_file)
        assert re.fullmatch(
            rf"\S+ is being written to by the first run, process {first.pid} on"
            rf" {re.escape(socket.gethostname())}, since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d UTC:"
            rf" wait until it is done, stop it, or name another {'file' if is_file else 'folder'}.",
            said,
        )
        folder = path.parent if is_file else path
        assert all(name.startswith(".") for name in os.listdir(folder))
    entered(path, is_file=is_file)
    assert os.listdir(tmp_path) == ["link"]


def test_places_beside_each_other_are_free(elsewhere, tmp_path):
    with elsewhere(tmp_path / "a"), elsewhere(tmp_path / "c.jsonl", is_file=True):
        entered(tmp_path / "b")
        entered(tmp_path)
        entered(tmp_path / "d.jsonl", is_file=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_holder_that_was_stopped_is_followed_at_once(elsewhere, tmp_path, number):
    with elsewhere(tmp_path / "x") as first:
        first.send_signal(number)
        first.wait(20)
        # Only SIGKILL leaves something, and what is left does not matter.
        assert (tmp_path / "x").exists() == (number == signal.SIGKILL)
        entered(tmp_path / "x")
    if number == signal.SIGKILL:
        assert os.listdir(tmp_path / "x") == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_whatever_ends_the_work_gives_the_lock_up(tmp_path, error):
    with pytest.raises(error), locks.alone(tmp_path / "x", "work", DataError):
        (tmp_path / "x" / "data").touch()
        raise error
    assert os.listdir(tmp_path / "x") == ["data"]


def test_a_thread_may_enter_again_and_another_thread_may_not(tmp_path):
    said = []
    second = threading.Thread(target=lambda: said.append(refused(tmp_path, wait=0.05)))
    with locks.alone(tmp_path, "the first call", DataError):
        entered(tmp_path)
        second.start()
        second.join(20)
        assert os.listdir(tmp_path)  # still held
    assert "by the first call in another thread of this process" in said[0]
    entered(tmp_path)


def test_one_who_is_about_to_end_is_waited_for(tmp_path):
    inside = threading.Event()

    def first():
        with locks.alone(tmp_path, "the first call", DataError):
            inside.set()
            time.sleep(0.2)

    thread = threading.Thread(target=first)
    thread.start()
    assert inside.wait(20)
    entered(tmp_path, wait=20)
    thread.join()


def test_a_forked_child_is_not_its_parent(tmp_path):
    code = """
import os, sys
from dr_keras.system import locks
from dr_keras.errors import DataError
locks.WAIT = 0.1
with locks.alone(sys.argv[1], "the parent", DataError):
    if not os.fork():
        try:
            with locks.alone(sys.argv[1], "the child", DataError):
                os._exit(0)
        except DataError as error:
            os._exit(7 if f"by the parent, process {os.getppid()} on" in str(error) else 8)
    sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == 7


def test_processes_that_come_and_go_never_meet(tmp_path):
    """Each adds to a number without care: no addition is lost while one is in at a time."""
    code = """
import pathlib, sys
from dr_keras.system import locks
from dr_keras.errors import DataError
count = pathlib.Path(sys.argv[1]) / "count"
for _ in range(40):
    with locks.alone(sys.argv[2], "adding", DataError, wait=60):
        count.write_text(str(int(count.read_text()) + 1))
"""
    (tmp_path / "count").write_text("0")
    # A folder that is made by whoever comes, and goes with it, is the hardest.
    command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / "folder")]
    several = [subprocess.Popen(command) for _ in range(3)]
    assert [process.wait(120) for process in several] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "120"
    # It stays where one came in before its maker was out.
    assert not (tmp_path / "folder").exists() or os.listdir(tmp_path / "folder") == []


# -------------------------------------------------------------- machines, mounts, remote folders


def leave_claim(folder, **changes):
    holder = claims.this_process("the first run") | {"host": "another", "process": 4711} | changes
    (folder / ".dr_keras.claim").write_text(json.dumps(holder) + "\n")


def test_a_holder_on_another_machine_is_named_until_it_has_long_been_silent(tmp_path):
    leave_claim(tmp_path)
    assert "by the first run, process 4711 on another, since" in refused(tmp_path, wait=0.1)
    os.utime(tmp_path / ".dr_keras.claim", (time.time() - 300,) * 2)
    said = refused(tmp_path, wait=0.1)
    assert "last heard of 300 s ago; where it died, this works from 600 s on" in said
    os.utime(tmp_path / ".dr_keras.claim", (time.time() - 700,) * 2)
    entered(tmp_path)
    assert os.listdir(tmp_path) == []


def test_what_a_dead_process_of_this_machine_left_is_no_hindrance(tmp_path):
    leave_claim(tmp_path, host=socket.gethostname(), process=os.getpid())  # a number used again
    entered(tmp_path)
    (tmp_path / ".dr_keras.lock").touch()
    entered(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_mount_without_locks_has_claims(elsewhere, tmp_path, monkeypatch):
    def acquire(*arguments, **settings):
        raise OSError(errno.ENOLCK, "No locks available")

    with elsewhere(tmp_path) as first:
        monkeypatch.setattr(filelock.BaseFileLock, "acquire", acquire)
        assert f"process {first.pid} on" in refused(tmp_path)
        first.kill()
        first.wait(20)
        entered(tmp_path)
    with locks.alone(tmp_path, "work", DataError):
        assert os.listdir(tmp_path) == [".dr_keras.claim"]
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_where_nothing_can_be_written_nothing_is_locked(tmp_path, monkeypatch, number):
    def acquire(*arguments, **settings):
        raise OSError(number, "no")

    monkeypatch.setattr(filelock.BaseFileLock, "acquire", acquire)
    entered(tmp_path)
    leave_claim(tmp_path)  # somebody else may write here, and does
    assert "process 4711 on another" in refused(tmp_path, wait=0.1)


def test_a_claim_that_cannot_be_written_is_in_nobodys_way(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("dr_keras.system.claims.json.dumps", full)
        entered(tmp_path)
    assert os.listdir(tmp_path) == []
    entered(tmp_path)


def test_a_lock_that_cannot_be_given_up_does_not_undo_the_work(tmp_path, monkeypatch):
    def gone(*arguments):
        raise OSError(errno.EIO, "no")

    monkeypatch.setattr("dr_keras.system.claims.LocalFiles.give_up", gone)
    entered(tmp_path)


def test_a_file_in_the_folders_place_is_for_others_to_name(tmp_path):
    (tmp_path / "x").write_text("mine")
    entered(tmp_path / "x")
    entered(tmp_path / "x" / "y")
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("is_file", [False, True])
def test_a_remote_place(is_file):
    path = f"ram://locks/{is_file}/x"
    name = "ram://locks/True/.x.claim-0" if is_file else f"{path}/.dr_keras.claim-0"
    tf.io.gfile.makedirs(os.path.dirname(name))

    def leave(touched):
        about = {"host": "another", "process": 4711, "doing": "the first run", "since": 0}
        with tf.io.gfile.GFile(name, "w") as file:
            file.write(json.dumps(about | {"touched": touched}) + "\n")

    leave(time.time())
    said = refused(path, wait=0.1, is_file=is_file)
    assert f"{path} is being written to by the first run, process 4711 on another" in said
    leave(time.time() - 700)
    with locks.alone(path, "the second run", DataError, is_file=is_file):
        found = tf.io.gfile.listdir(os.path.dirname(name))
        assert len(found) == 1 and found[0].startswith(os.path.basename(name)[:-1])
    assert tf.io.gfile.listdir(os.path.dirname(name)) == []


def test_a_decorated_function_keeps_its_arguments(tmp_path):
    @locks.alone_at("folder", "work", DataError)
    def work(a, folder="default", *, b=2):
        return a, folder, b, os.listdir(folder)

    found = work(1, str(tmp_path), b=3)
    assert found[:3] == (1, str(tmp_path), 3) and ".dr_keras.claim" in found[3]
    with pytest.raises(TypeError, match="argument"):
        work(folder=str(tmp_path))
    assert os.listdir(tmp_path) == []
