"""Score files by what they are, and writers that fail."""

import errno
import gzip
import os

import numpy as np
import pytest

from dr_keras.errors import DataError
from dr_keras.rating import score_files

IDS = [f"d{n}" for n in range(5)]


def columns():
    return {
        "score": np.array([0.5, np.nan, 1.5, 2.0, 0.1], np.float32),
        "percentile": np.linspace(0, 1, 5, dtype=np.float32),
        "windows": np.ones(5, np.int32),
    }


def write(path):
    with score_files.ScoreWriter(str(path)) as writer:
        writer.write(IDS, ["s"] * 5, columns())


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.parquet"])
@pytest.mark.parametrize("new_name", ["renamed", "renamed.jsonl", "renamed.jsonl.gz"])
def test_a_file_is_read_by_what_it_is(tmp_path, name, new_name):
    write(tmp_path / name)
    os.rename(tmp_path / name, tmp_path / new_name)
    found = score_files.read_scores(str(tmp_path / new_name))
    assert found.ids == IDS and found.sources == ["s"] * 5
    np.testing.assert_array_equal(found.score, columns()["score"])


def test_gzipped_scores_are_the_same_lines_and_the_same_bytes_each_time(tmp_path):
    for name in ("a.jsonl", "a.jsonl.gz", "b.jsonl.gz"):
        write(tmp_path / name)
    packed = (tmp_path / "a.jsonl.gz").read_bytes()
    assert gzip.decompress(packed) == (tmp_path / "a.jsonl").read_bytes()
    assert packed == (tmp_path / "b.jsonl.gz").read_bytes()
    (tmp_path / "a.jsonl.gz").write_bytes(packed[:-9])
    with pytest.raises(DataError, match="a.jsonl.gz: cut short or damaged"):
        score_files.read_scores(str(tmp_path / "a.jsonl.gz"))


def test_bytes_that_are_no_text_are_refused_with_their_line(tmp_path):
    (tmp_path / "s.jsonl").write_bytes(b'{"id": "a", "score": 1}\n\xff\xfe\n')
    with pytest.raises(DataError, match="s.jsonl, line 2: not a line of a score file"):
        score_files.read_scores(str(tmp_path / "s.jsonl"))


@pytest.mark.parametrize("name", ["s.jsonl", "s.jsonl.gz", "s.parquet"])
@pytest.mark.parametrize("when", ["write", "close"])
def test_a_writer_that_fails_leaves_what_was_there(tmp_path, monkeypatch, name, when):
    path = tmp_path / name
    write(path)
    score_files.write_manifest(str(path), {})
    before = path.read_bytes()

    class Full(score_files.GFileWriter):
        def close(self):
            closed = self.closed
            super().close()
            if when == "close" and not closed:
                raise OSError(errno.ENOSPC, "No space left on device")

        def write(self, data):
            if when == "write":
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    monkeypatch.setattr(score_files, "GFileWriter", Full)
    with pytest.raises(OSError) as caught:
        write(path)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(path))
    assert path.read_bytes() == before
    assert sorted(os.listdir(tmp_path)) == [name, f"{name}.manifest.json"]


def test_an_interruption_leaves_what_was_there_and_is_not_hidden(tmp_path):
    for name in ("s.jsonl", "s.jsonl.gz", "s.parquet"):
        with pytest.raises(KeyboardInterrupt):
            with score_files.ScoreWriter(str(tmp_path / name)) as writer:
                writer.write(IDS, ["s"] * 5, columns())
                raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_new_scores_forget_the_old_manifest(tmp_path):
    path = tmp_path / "s.jsonl"
    (tmp_path / "s.jsonl.manifest.json").write_text("{}")
    write(path)
    assert sorted(os.listdir(tmp_path)) == ["s.jsonl", "s.jsonl.unfinished"]
