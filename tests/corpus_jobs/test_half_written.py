"""A write that breaks off leaves nothing at the final name, and what was there stays there."""

import os

import pytest
import tensorflow as tf

from dr_keras.rating.score_files import (
    MANIFEST_SUFFIX,
    ScoreWriter,
    read_manifest,
    read_scores,
    write_json,
    write_manifest,
)


def columns(count, score=0.5):
    return {"score": [score] * count, "percentile": [0.25] * count, "windows": [3] * count}


def many(path):
    """More rows than the writer of this kind keeps in memory."""
    return 66_000 if path.suffix == ".parquet" else 3_000


def write_scores(path, count, score=0.5):
    with ScoreWriter(str(path)) as writer:
        writer.write([f"d{n}" for n in range(count)], ["s"] * count, columns(count, score))


@pytest.fixture(params=["s.jsonl", "s.parquet"])
def path(request, tmp_path):
    return tmp_path / request.param


def test_scores_have_their_name_only_once_they_are_whole(path):
    count = many(path)
    with pytest.raises(KeyboardInterrupt), ScoreWriter(str(path)) as writer:
        for _ in range(2):
            writer.write(["d"] * count, ["s"] * count, columns(count))
            assert not path.exists()  # a run that is killed here
        raise KeyboardInterrupt
    assert list(path.parent.iterdir()) == []


def test_scores_that_break_off_leave_the_old_ones_and_their_manifest(path):
    write_scores(path, 3, score=0.75)
    write_manifest(str(path), {"documents": 3})
    count = many(path)
    with pytest.raises(KeyboardInterrupt), ScoreWriter(str(path)) as writer:
        writer.write(["d"] * count, ["s"] * count, columns(count))
        assert read_scores(path).score.tolist() == [0.75] * 3
        raise KeyboardInterrupt
    found = read_scores(path)
    assert found.ids == ["d0", "d1", "d2"] and found.manifest == {"documents": 3}
    assert len(list(path.parent.iterdir())) == 2


def test_scores_are_whole_and_without_the_old_manifest_when_they_get_their_name(path, monkeypatch):
    real, seen = os.replace, []

    def replace(source, target):
        if target == str(path):
            whole = f"{path.parent}/whole{path.suffix}"
            tf.io.gfile.copy(source, whole)
            seen.append(len(read_scores(whole)))
            assert read_manifest(path) is None
        real(source, target)

    write_json(str(path) + MANIFEST_SUFFIX, {"documents": 3})
    monkeypatch.setattr(os, "replace", replace)
    write_scores(path, 500)
    assert seen == [500] and len(read_scores(path)) == 500


def test_scores_on_a_full_disk(path, no_room_beyond):
    write_scores(path, 3, score=0.75)
    write_manifest(str(path), {"documents": 3})
    count = many(path)
    names = [f"{n * 7919 % 104729:06}-{n}" for n in range(count)]  # hard to compress
    with pytest.raises((OSError, tf.errors.OpError)), no_room_beyond(50_000):
        with ScoreWriter(str(path)) as writer:
            writer.write(names, names, columns(count))
    assert read_scores(path).score.tolist() == [0.75] * 3
    assert sorted(os.listdir(path.parent)) == [path.name, path.name + MANIFEST_SUFFIX]


def test_a_manifest_on_a_full_disk_is_the_old_one_or_none(tmp_path, no_room_beyond):
    path = tmp_path / "manifest.json"
    for before in (None, '{\n "old": 1\n}\n'):
        with pytest.raises((OSError, tf.errors.OpError)), no_room_beyond(5_000):
            write_json(str(path), {"text": "x" * 100_000})
        assert (path.read_text() if path.exists() else None) == before
        write_json(str(path), {"old": 1})


def test_a_manifest_is_whole_when_it_gets_its_name(tmp_path, monkeypatch):
    path, real, seen = str(tmp_path / "manifest.json"), os.replace, []

    def replace(source, target):
        seen.append(os.path.getsize(source))
        assert not os.path.exists(path)
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    write_json(path, {"text": "x" * 100})
    assert seen == [os.path.getsize(path)] and seen[0] > 100
