"""A job never reads what it or another one wrote, and never writes over what it reads."""

import json
import os
import shutil

import pytest
import shard_corpora as corpora
import tensorflow as tf

from dr_keras.commands import filter_corpus as filter_command
from dr_keras.commands import score_corpus as score_command
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError, DataError

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5)
ROWS = corpora.rows(60)
WRITERS = {"jsonl": corpora.write_jsonl, "parquet": corpora.write_parquet}


def kept_ids(folder):
    return [json.loads(line)["id"] for line in corpora.lines(folder, "kept")]


def as_files(path, rater, output_dir, **more):
    return filter_corpus(path, rater, output_dir=output_dir, **SETTINGS, shard_bytes=1500, **more)


def as_corpus(path, rater, output_dir, **more):
    return as_files(jsonl_corpus(path), rater, output_dir, **more)


Rater = corpora.NumberRater


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    corpora.write_jsonl(folder / "c.jsonl", ROWS)
    return folder


@pytest.mark.parametrize("engine", [as_files, as_corpus])
@pytest.mark.parametrize("output, pattern", [("out", ""), ("", ""), ("", "*.jsonl")])
def test_killed_after_any_rename_it_reads_what_it_read(
    data, tmp_path, renames, engine, output, pattern
):
    """Unfinished or finished, here or in a folder below: the originals and nothing else."""
    path = str(data / pattern) if pattern else str(data)
    out = str(data / output)
    engine(str(data / "c.jsonl"), Rater(), str(tmp_path / "expected"))
    expected = kept_ids(tmp_path / "expected")
    for stop in (1, 2, 3, 4, 5, 6, 8, 11, 14, 17, 20, 23, 26):
        renames.left = stop
        try:
            engine(path, Rater(), out)
        except KeyboardInterrupt:
            pass
        found = jsonl_corpus(path, on_malformed="stop").documents()
        assert [document.id for document in found] == [row["id"] for row in ROWS], stop
        if os.path.exists(os.path.join(out, "manifest.json")):
            break
    renames.left = 0
    if not os.path.exists(os.path.join(out, "manifest.json")):
        engine(path, Rater(), out)
    assert kept_ids(out) == expected
    manifest = engine(path, Rater(), str(tmp_path / "again"))
    assert manifest["counts"]["documents"] == len(ROWS)
    kept = jsonl_corpus(out if output else f"{out}/kept-*").documents()
    assert len(list(kept)) == len(expected)


@pytest.mark.parametrize("engine", ["files", "gin"])
def test_scores_in_the_folder_of_the_corpus(data, tmp_path, renames, engine):
    """Also where the run ended between the scores and their manifest."""

    def run(scores):
        if engine == "files":
            return score_corpus(str(data), Rater(), str(scores), shard_bytes=1500)
        return score_corpus(jsonl_corpus(str(data)), Rater(), str(scores))

    run(tmp_path / "elsewhere.jsonl")
    renames.left, scores = -renames.left - 1, data / "s.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(scores)
    assert sorted(os.listdir(data)) == ["c.jsonl", "s.jsonl", "s.jsonl.unfinished"]
    assert run(scores)["documents"] == len(ROWS) == run(scores)["documents"]
    assert sorted(os.listdir(data)) == ["c.jsonl", "s.jsonl", "s.jsonl.manifest.json"]
    out = str(data / "out")
    manifest = filter_corpus(str(data), scores=str(scores), output_dir=out, **SETTINGS)
    assert manifest["counts"]["documents"] == len(ROWS)


@pytest.mark.parametrize("flag", [{}, {"overwrite": True}, {"fresh": True}])
@pytest.mark.parametrize(
    "output", ["c.jsonl", "./c.jsonl", "link.jsonl", "hard.jsonl", "file://{}/c.jsonl"]
)
def test_scores_are_not_written_over_the_corpus(data, monkeypatch, output, flag):
    monkeypatch.chdir(data)
    os.symlink("c.jsonl", "link.jsonl")
    os.link("c.jsonl", "hard.jsonl")
    before = (data / "c.jsonl").read_bytes()
    output = output.format(data)
    with pytest.raises(ConfigurationError, match="over the input .*c.jsonl: .*No flag overwrites"):
        score_corpus(str(data / "c.jsonl"), Rater(), output, **flag)
    if "fresh" not in flag:
        with pytest.raises(ConfigurationError, match="No flag overwrites an input"):
            score_corpus(jsonl_corpus(str(data / "c.jsonl")), Rater(), output, **flag)
    with pytest.raises(ConfigurationError, match="No flag overwrites an input"):
        as_files("c.jsonl", Rater(), str(data / "out"), score_file=output)
    assert (data / "c.jsonl").read_bytes() == before
    assert sorted(os.listdir(data)) == ["c.jsonl", "hard.jsonl", "link.jsonl"]


@pytest.mark.parametrize("link", [None, os.symlink, os.link])
@pytest.mark.parametrize("name", ["kept-00000-of-00001.jsonl", "dropped-me.jsonl", "errors.jsonl"])
def test_starting_over_removes_no_input(data, tmp_path, name, link):
    path = data / name
    os.rename(data / "c.jsonl", path)
    read = path
    if link is not None:
        read = tmp_path / "link.jsonl"
        link(path, read)
    for engine, flags in ((as_files, {"fresh": True}), (as_corpus, {})):
        with pytest.raises(ConfigurationError, match=f"{name} would be written over the input"):
            engine(str(read), Rater(), str(data), **flags)
    assert os.listdir(data) == [name] and len(path.read_bytes().splitlines()) == len(ROWS)


def test_records_of_others_are_left_alone(data, tmp_path):
    (tmp_path / "kept-mine.jsonl").write_text("mine")
    with pytest.raises(DataError, match="holds kept-mine.jsonl, which no unfinished job"):
        as_corpus(str(data), Rater(), str(tmp_path))
    os.remove(tmp_path / "kept-mine.jsonl")
    with pytest.raises(KeyboardInterrupt):
        as_files(str(data), Rater(die_after=30), str(tmp_path / "out"))
    with pytest.raises(ConfigurationError, match='layout .was "files, 2", is "corpus, 1"'):
        as_corpus(str(data), Rater(), str(tmp_path / "out"))
    assert as_files(str(data), Rater(), str(tmp_path / "out"))["counts"]["documents"] == 60


def test_jobs_on_files_and_on_corpora_do_not_mix(data, tmp_path, monkeypatch):
    real = tf.io.gfile.rename

    def rename(source, target, **named):
        real(source, target, **named)
        if "kept-" in target:
            raise KeyboardInterrupt

    monkeypatch.setattr(tf.io.gfile, "rename", rename)
    with pytest.raises(KeyboardInterrupt):
        as_corpus(str(data), Rater(), str(tmp_path / "out"))
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match='layout .was "corpus, 1".*--fresh'):
        as_files(str(data), Rater(), str(tmp_path / "out"))
    assert as_corpus(str(data), Rater(), str(tmp_path / "out"))["counts"]["documents"] == 60
    assert not (tmp_path / "out" / "_work").exists()


@pytest.mark.parametrize("empty", ["", " "])
def test_an_output_without_a_name_is_refused(data, monkeypatch, capsys, empty):
    monkeypatch.chdir(data)
    for engine in (as_files, as_corpus):
        with pytest.raises(ConfigurationError, match="output_dir is empty: name the folder"):
            engine("c.jsonl", Rater(), empty)
    with pytest.raises(ConfigurationError, match="score_file is empty: name the file to write"):
        as_files("c.jsonl", Rater(), "out", score_file=empty)
    with pytest.raises(ConfigurationError, match="output is empty: name the file to write"):
        score_corpus("c.jsonl", Rater(), empty)
    with pytest.raises(ConfigurationError, match="output is empty: name the file to write"):
        score_corpus(jsonl_corpus("c.jsonl"), Rater(), empty)
    assert os.listdir(data) == ["c.jsonl"]


@pytest.mark.parametrize("by_gin", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_an_output_without_a_name_on_the_command_line(
    data, tmp_path, monkeypatch, capsys, text, by_gin
):
    folder = tmp_path / "empty"
    folder.mkdir()
    monkeypatch.chdir(folder)
    path = data / "c.txt" if text else data / "c.jsonl"
    path.exists() or path.write_text("1 text\n\n2 texts\n")
    scores = tmp_path / "s.jsonl"
    scores.write_text('{"id": "x", "score": 1.0}\n')
    flags = ["--input", str(path), "--scores", str(scores), "--discard_fraction", "0.5"]
    more = ["--gin_param", "filter_corpus.output_dir = ''"] if by_gin else ["--output_dir", ""]
    assert filter_command.main([*flags, *more]) == 2
    error = capsys.readouterr().err
    assert error == "error: output_dir is empty: name the folder to write.\n"
    assert os.listdir(folder) == []


def test_the_command_that_destroyed_a_corpus(data, tmp_path, capsys):
    rater = corpora.export_letters(tmp_path / "export")
    path = str(data / "c.jsonl")
    before = (data / "c.jsonl").read_bytes()
    flags = ["--rater", rater, "--input", path, "--output", path, "--overwrite"]
    assert score_command.main(flags) == 2
    assert f"{path} would be written over the input {path}" in capsys.readouterr().err
    assert (data / "c.jsonl").read_bytes() == before and os.listdir(data) == ["c.jsonl"]


@pytest.mark.parametrize("engine", [as_files, as_corpus])
def test_a_slash_after_the_folder_changes_nothing(data, engine):
    manifests = [engine(str(data), Rater(), str(data / f"o{n}") + "/" * n) for n in range(2)]
    assert manifests[0]["files"] == manifests[1]["files"] != {}
    assert corpora.output_bytes(data / "o0") == corpora.output_bytes(data / "o1")


@pytest.mark.parametrize("suffix", WRITERS)
def test_outputs_of_each_format_are_known(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"c.{suffix}", ROWS)
    for number in range(2):
        manifest = as_files(str(tmp_path), Rater(), str(tmp_path / f"out{number}"))
        assert manifest["counts"]["documents"] == len(ROWS)
    shutil.copytree(tmp_path / "out0", tmp_path / "elsewhere" / "copy")  # a corpus of its own
    again = as_files(str(tmp_path / "elsewhere"), Rater(), str(tmp_path / "elsewhere" / "b"))
    assert again["counts"]["documents"] == manifest["counts"]["kept"]
