"""Nothing that is half written has its final name, or stays."""

import errno
import os
import pathlib

import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.system import whole_files


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_and_its_folder_are_made(tmp_path):
    whole_files.write_text(tmp_path / "a" / "x.txt", "ä")
    assert (tmp_path / "a" / "x.txt").read_bytes() == "ä".encode()
    assert os.listdir(tmp_path / "a") == ["x.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, full])
def test_what_was_there_stays_if_writing_fails(tmp_path, error):
    path = tmp_path / "x.txt"
    path.write_text("before")
    with pytest.raises((KeyboardInterrupt, OSError)) as caught:
        with whole_files.replacing(path) as temporary:
            pathlib.Path(temporary).write_text("half")
            if error is full:
                full()
            raise error
    assert path.read_text() == "before" and os.listdir(tmp_path) == ["x.txt"]
    if error is full:
        assert caught.value.filename == str(path)


def test_remote_files_likewise(tmp_path):
    url = f"file://{tmp_path}/a/x.txt"
    whole_files.write_text(url, "whole")
    with pytest.raises(ValueError), whole_files.replacing(url) as temporary:
        tf.io.gfile.GFile(temporary, "w").write("half")
        raise ValueError
    assert os.listdir(tmp_path / "a") == ["x.txt"]
    assert (tmp_path / "a" / "x.txt").read_text() == "whole"


def test_a_folder_and_a_pipe_are_left_alone(tmp_path):
    with pytest.raises(IsADirectoryError) as caught:
        whole_files.write_text(tmp_path, "x")
    assert caught.value.filename == str(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe is a device or a pipe: name a file"):
        whole_files.write_text(tmp_path / "pipe", "x")
    assert os.listdir(tmp_path) == ["pipe"]


def test_names_are_given_to_errors_of_the_system_only(tmp_path):
    for error, name in ((OSError(errno.ENOSPC, "x"), "a"), (OSError("x"), None),
                        (OSError(errno.EACCES, "x", "b"), "b")):  # fmt: skip
        with pytest.raises(OSError) as caught, whole_files.writing("a"):
            raise error
        assert caught.value.filename == name


WRITERS = {
    "text": lambda path, size: whole_files.write_text(path, "é" * (size // 2)),
    "bytes": lambda path, size: whole_files.write_bytes(path, b"x" * size),
}


@pytest.fixture(params=WRITERS)
def write(request):
    return WRITERS[request.param]


def test_a_full_disk_leaves_what_was_there(write, tmp_path, no_room_beyond):
    path = tmp_path / "new" / "file"
    with pytest.raises(OSError), no_room_beyond(5_000):
        write(path, 100_000)
    assert not path.exists()
    write(path, 10)
    before = path.read_bytes()
    with pytest.raises(OSError), no_room_beyond(5_000):
        write(path, 100_000)
    assert path.read_bytes() == before and len(before) == 10


def test_the_name_is_given_to_a_whole_file_at_once(write, tmp_path, monkeypatch):
    path, real, seen = tmp_path / "file", os.replace, []

    def replace(source, target):
        assert not path.exists()
        seen.append((os.path.getsize(source), os.fspath(target)))
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write(path, 100_000)
    assert seen == [(100_000, str(path))] and path.stat().st_size == 100_000
    assert os.listdir(tmp_path) == ["file"]


def test_text_is_utf_8_and_surrogates_are_refused_unless_told(tmp_path):
    path = tmp_path / "file"
    whole_files.write_text(path, "é\n")
    assert path.read_bytes() == b"\xc3\xa9\n"
    with pytest.raises(UnicodeEncodeError):
        whole_files.write_text(path, "\ud800")
    assert path.read_bytes() == b"\xc3\xa9\n"
    whole_files.write_text(path, "a\ud800", errors="replace")
    assert path.read_bytes() == b"a?"
