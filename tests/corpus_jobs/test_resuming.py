"""Runs that were stopped: nothing lost, nothing doubled, and never two jobs in one output."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs import runners
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.serving.loading import load_rater

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, shard_bytes=3000)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A corpus, and what filtering it gives when nothing gets in the way."""
    folder = tmp_path_factory.mktemp("whole")
    corpora.write_jsonl(folder / "c.jsonl", corpora.rows(300))
    outputs = {}
    for reference in ("corpus", "artefact"):
        out = str(folder / reference)
        filter_corpus(
            str(folder / "c.jsonl"), corpora.NumberRater(), output_dir=out, reference=reference,
            **SETTINGS,
        )  # fmt: skip
        outputs[reference] = corpora.output_bytes(out)
    return str(folder / "c.jsonl"), outputs


@pytest.mark.parametrize("reference", ["corpus", "artefact"])
def test_a_stopped_run_goes_on_where_it_was(whole, tmp_path, reference):
    path, outputs = whole
    settings = dict(
        output_dir=str(tmp_path / "out"), reference=reference,
        score_file=str(tmp_path / "s.parquet"), **SETTINGS,
    )  # fmt: skip
    scored = 0
    for die_after in (0, 1, 60, 150):
        rater = corpora.NumberRater(die_after=die_after)
        with pytest.raises(KeyboardInterrupt):
            filter_corpus(path, rater, **settings)
        scored += rater.texts
        names = os.listdir(tmp_path / "out")
        assert "manifest.json" not in names and "errors.jsonl" not in names
    rater = corpora.NumberRater()
    manifest = filter_corpus(path, rater, **settings)
    assert corpora.output_bytes(tmp_path / "out") == outputs[reference]
    assert manifest["counts"]["documents"] == 300
    # no shard that was done is scored again; a shard that was not is scored anew
    assert 0 < rater.texts < 120 and 300 <= scored + rater.texts < 400


@pytest.mark.parametrize("reference", ["corpus", "artefact"])
def test_a_run_may_end_after_any_of_its_renames(tmp_path, renames, reference):
    corpora.write_jsonl(tmp_path / "c.jsonl", corpora.rows(60))

    def run(name):
        return filter_corpus(
            str(tmp_path / "c.jsonl"), corpora.NumberRater(), output_dir=str(tmp_path / name),
            reference=reference, score_file=str(tmp_path / f"{name}.parquet"), **SETTINGS,
        )  # fmt: skip

    run("whole")
    count = -renames.left
    assert count > 15
    for stop in range(1, count):  # the last one is the manifest's
        name, renames.left = f"out{stop}", stop
        with pytest.raises(KeyboardInterrupt):
            run(name)
        assert "manifest.json" not in os.listdir(tmp_path / name)
        renames.left = 0
        run(name)
        assert corpora.output_bytes(tmp_path / name) == corpora.output_bytes(tmp_path / "whole")


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(seed=6), r"seed \(was 5, is 6\)"),
        (dict(discard_fraction=0.25), r'discard_fraction \(was "1/2", is "1/4"\)'),
        (dict(batch_size=64), r"batch_size \(was 16, is 64\)"),
        (dict(method="threshold"), "method"),
        (dict(reference="artefact"), "reference"),
        (dict(shard_bytes=4000), "shard_bytes"),
        ("rater", r'rater \(was "abab'),
        ("input", r"input .*c.jsonl \(has changed: \d+ bytes then, \d+ now\)"),
        ("same size", r"input .*c.jsonl \(was written to since\)"),
        ("another", r"input .*b.jsonl \(is new\)"),
    ],
)
def test_shards_of_another_job_are_not_mixed_in(tmp_path, change, message):
    path = tmp_path / "c.jsonl"
    corpora.write_jsonl(path, corpora.rows(100))
    settings = dict(
        corpus=str(path), output_dir=str(tmp_path / "out"), score_file=str(tmp_path / "s.parquet"),
        **SETTINGS,
    )  # fmt: skip
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(rater=corpora.NumberRater(die_after=50), **settings)
    rater = corpora.NumberRater()
    if change == "rater":
        rater.fingerprint = "cd" * 32
    elif change == "input":
        with open(path, "a") as file:
            file.write('{"text": "5 more"}\n')
    elif change == "same size":
        path.write_bytes(path.read_bytes().replace(b"end", b"END"))
    elif change == "another":
        corpora.write_jsonl(tmp_path / "b.jsonl", corpora.rows(3))
        settings["corpus"] = str(tmp_path / "*.jsonl")
    else:
        settings.update(change)
    before = sorted(os.listdir(tmp_path / "out"))
    with pytest.raises(ConfigurationError, match=f"differs from this one in {message}.*--fresh"):
        filter_corpus(rater=rater, **settings)
    assert sorted(os.listdir(tmp_path / "out")) == before and rater.texts == 0
    manifest = filter_corpus(rater=rater, fresh=True, **settings)
    assert manifest["counts"]["documents"] == rater.texts >= 100


def test_scoring_alone_goes_on_too(tmp_path):
    corpora.write_jsonl(tmp_path / "c.jsonl", corpora.rows(200))
    path, output = str(tmp_path / "c.jsonl"), str(tmp_path / "s.parquet")
    with pytest.raises(KeyboardInterrupt):
        score_corpus(path, corpora.NumberRater(die_after=120), output, shard_bytes=2000)
    assert sorted(os.listdir(tmp_path)) == ["c.jsonl", "s.parquet.unfinished"]
    rater = corpora.NumberRater()
    manifest = score_corpus(path, rater, output, shard_bytes=2000)
    assert manifest["documents"] == 200 and rater.texts < 100
    assert sorted(os.listdir(tmp_path)) == ["c.jsonl", "s.parquet", "s.parquet.manifest.json"]
    again = corpora.NumberRater()
    assert score_corpus(path, again, output, shard_bytes=2000) == manifest and again.texts == 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """An exported rater, a corpus for it, and its filtered output."""
    folder = tmp_path_factory.mktemp("exported")
    rater = corpora.export_letters(folder / "export")
    corpora.write_jsonl(folder / "c.jsonl", corpora.letter_rows(2000))
    settings = dict(discard_fraction=0.5, seed=1, shard_bytes=15_000)
    for reference in ("corpus", "artefact"):
        filter_corpus(
            str(folder / "c.jsonl"), load_rater(rater), output_dir=str(folder / reference),
            reference=reference, **settings,
        )  # fmt: skip
    return folder, settings


@pytest.mark.kill
def test_two_workers_and_one_that_is_killed(exported, tmp_path):
    folder, settings = exported
    rater = load_rater(str(folder / "export"))
    done = []

    def kill_a_worker(phase, _, __):
        import multiprocessing

        done.append(phase)
        if len(done) == 3:
            os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    arguments = dict(
        output_dir=str(tmp_path / "out"), score_file=str(tmp_path / "s.parquet"),
        reference="artefact", runner=runners.in_processes(2, 1), **settings,
    )  # fmt: skip
    path = str(folder / "c.jsonl")
    with pytest.raises(DrKerasError, match="A worker process ended before its work was done"):
        filter_corpus(path, rater, progress=kill_a_worker, **arguments)
    assert "manifest.json" not in os.listdir(tmp_path / "out")
    assert not (tmp_path / "s.parquet").exists()
    phases = []
    manifest = filter_corpus(
        path, rater, progress=lambda phase, *_: phases.append(phase), **arguments
    )
    assert corpora.output_bytes(tmp_path / "out") == corpora.output_bytes(folder / "artefact")
    assert manifest["counts"]["documents"] == 2000
    shards = sum(name.startswith("kept") for name in manifest["files"])
    assert 0 < phases.count("filtering") <= shards - 3


def test_workers_need_a_rater_that_they_can_load(tmp_path):
    corpora.write_jsonl(tmp_path / "c.jsonl", corpora.rows(5))
    with pytest.raises(ConfigurationError, match="need a rater that each of them can load"):
        filter_corpus(
            str(tmp_path / "c.jsonl"), corpora.NumberRater(), output_dir=str(tmp_path / "out"),
            runner=runners.in_processes(2), **SETTINGS,
        )  # fmt: skip
    with pytest.raises(ConfigurationError, match="workers is 0"):
        runners.in_processes(0)


def _start(folder, out, workers=None):
    command = [sys.executable, "-m", "dr_keras", "filter-corpus"]
    command += ["--rater", str(folder / "export"), "--input", str(out.parent / "c.jsonl")]
    command += ["--output_dir", str(out), "--discard_fraction", "0.5", "--seed", "1"]
    command += ["--score_file", str(out) + "-scores.parquet"]
    command += ["--gin_param", "filter_corpus.shard_bytes = 3000"]
    command += ["--workers", str(workers)] if workers else []
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    environment = {**os.environ, "PYTHONPATH": root}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


@pytest.mark.long
@pytest.mark.kill
@pytest.mark.parametrize("workers", [None, 2])
def test_killed_at_ten_random_points_and_resumed(exported, tmp_path, workers):
    folder, _ = exported
    out = tmp_path / "out"
    corpora.write_jsonl(tmp_path / "c.jsonl", corpora.letter_rows(6000))  # about 200 shards
    process = _start(folder, tmp_path / "alone", workers)
    assert process.wait(300) == 0
    generator = random.Random(workers)
    kills = 0
    while kills < 10:
        process = _start(folder, out, workers)
        # ten of these do not get to the end of 400 shards, 200 to score and 200 to filter
        _wait_for_shards(generator.randint(1, 20), out, process)
        time.sleep(generator.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        kills += 1
        assert not (out / "manifest.json").exists(), "the run was over before it was killed"
    process = _start(folder, out, workers)
    assert process.wait(300) == 0, process.stdout.read().decode()
    assert corpora.output_bytes(out) == corpora.output_bytes(tmp_path / "alone")
    manifest = json.load(open(out / "manifest.json"))
    assert manifest["counts"]["documents"] == 6000
    found = corpora.lines(out, "kept") + corpora.lines(out, "dropped")
    assert {json.loads(line)["id"] for line in found} == {f"t{n}" for n in range(6000)}
    assert len(found) == 6000


def _wait_for_shards(more, out, process):
    """Returns when so many more shards are done."""

    def done():
        # by name: other folders beside them come and go
        folders = [out / "_work" / phase for phase in ("scored", "filtered")]
        return sum(len(list(folder.glob("*-of-*.json"))) for folder in folders)

    before = done()
    while done() < before + more:
        assert process.poll() is None, process.stdout.read().decode()
        time.sleep(0.002)
