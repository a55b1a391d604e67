"""Files that are whole or not there, and the older content until then."""

import os

import pytest

from dr_keras import whole_files

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
