"""Files on Beam: the same files as without it, whatever happens to workers and bundles."""

import errno
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest
import shard_corpora as corpora

from dr_keras.commands import filter_corpus as filter_command
from dr_keras.corpus_jobs import work
from dr_keras.corpus_jobs.beam.runner import beam_runner
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.preparing import prepare_corpus
from dr_keras.corpus_jobs.runners import in_process
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.serving.loading import load_rater

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, shard_bytes=9000)
TWO_PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


@pytest.fixture(scope="module")
def local(letters, tmp_path_factory):
    """Reference -> the files that filtering without Beam writes."""
    path, _, corpus = letters
    outputs = {}
    for reference in ("corpus", "artefact"):
        out = tmp_path_factory.mktemp("local") / reference
        filter_corpus(
            corpus, load_rater(path), output_dir=str(out), reference=reference,
            score_file=f"{out}.parquet", **SETTINGS,
        )  # fmt: skip
        outputs[reference] = corpora.output_bytes(out)
    return outputs


@pytest.mark.parametrize("reference", ["corpus", "artefact"])
def test_in_memory_it_writes_the_same_files(letters, local, tmp_path, reference):
    path, _, corpus = letters
    manifest = filter_corpus(
        corpus, load_rater(path), output_dir=str(tmp_path / "out"), reference=reference,
        score_file=str(tmp_path / "s.jsonl"), runner=beam_runner(["--runner=DirectRunner"]),
        **SETTINGS,
    )  # fmt: skip
    assert corpora.output_bytes(tmp_path / "out") == local[reference]
    assert manifest["counts"]["documents"] == 600


@pytest.mark.parametrize("suffix", ["parquet", "tfrecord", "jsonl.gz"])
def test_every_format_decides_alike(letters, tmp_path, suffix):
    path, rows, _ = letters
    rows = [{**row, "meta": {"n": row["n"]}} for row in rows[:150]]
    write = {"parquet": corpora.write_parquet, "tfrecord": corpora.write_tfrecord}
    write.get(suffix, corpora.write_jsonl)(tmp_path / f"c.{suffix}", rows)
    outputs = []
    for name, more in (("local", {}), ("beam", {"runner": beam_runner(["--runner=DirectRunner"])})):
        filter_corpus(
            str(tmp_path / f"c.{suffix}"), load_rater(path), output_dir=str(tmp_path / name),
            score_file=str(tmp_path / f"{name}-scores.parquet"), **{**SETTINGS, **more},
        )  # fmt: skip
        outputs.append(corpora.output_bytes(tmp_path / name))
    assert outputs[0] == outputs[1] and any(name.endswith(suffix) for name in outputs[0])


def test_a_corpus_that_is_no_files(letters, tmp_path):
    path, rows, _ = letters
    documents = [make_document(row["text"], row["source"], row["id"]) for row in rows[:150]]
    corpus = Corpus("letters", lambda skipped: iter(documents))
    runners = {"local": in_process, "beam": beam_runner(["--runner=DirectRunner"])}
    manifests = [
        filter_corpus(
            corpus, load_rater(path), output_dir=str(tmp_path / name), runner=runner,
            **{**SETTINGS, "shard_bytes": 3000},
        )
        for name, runner in runners.items()
    ]  # fmt: skip
    assert manifests[0] == manifests[1] and len(manifests[0]["files"]) > 4
    kept = [corpora.lines(tmp_path / name, "kept") for name in ("local", "beam")]
    assert kept[0] == kept[1] and len(kept[0]) == manifests[0]["counts"]["kept"]


def test_an_exception_in_one_bundle(letters, local, tmp_path, monkeypatch):
    """The pipeline fails, nothing looks whole, and the run after it goes on."""
    path, _, corpus = letters
    real = work.run_shard
    calls = []

    def fail_once(shard, *arguments):
        calls.append(shard.index)
        if shard.index == 3 and calls.count(3) == 1:
            raise OSError("the disk says no")
        return real(shard, *arguments)

    monkeypatch.setattr("dr_keras.corpus_jobs.work.run_shard", fail_once)
    settings = dict(
        output_dir=str(tmp_path / "out"), score_file=str(tmp_path / "s.parquet"),
        runner=beam_runner(["--runner=DirectRunner"]), **SETTINGS,
    )  # fmt: skip
    with pytest.raises(Exception, match="the disk says no"):
        filter_corpus(corpus, load_rater(path), **settings)
    assert "manifest.json" not in os.listdir(tmp_path / "out")
    assert not (tmp_path / "s.parquet").exists()
    filter_corpus(corpus, load_rater(path), **settings)
    assert corpora.output_bytes(tmp_path / "out") == local["corpus"]


def _command(letters, out, *flags):
    path, _, corpus = letters
    return [
        "--rater", path, "--input", corpus, "--output_dir", str(out), "--discard_fraction", "0.5",
        "--batch_size", "16", "--seed", "5", "--score_file", f"{out}.parquet",
        "--gin_param", "filter_corpus.shard_bytes = 9000", "--runner", "DirectRunner", *flags,
    ]  # fmt: skip


def test_the_command_passes_beams_flags_on(letters, local, tmp_path, capsys):
    assert filter_command.main(_command(letters, tmp_path / "out", "--job_name=mine")) == 0
    assert "kept " in capsys.readouterr().out
    assert corpora.output_bytes(tmp_path / "out") == local["corpus"]
    import gin

    gin.clear_config()
    flags = _command(letters, tmp_path / "other", "--workers", "2")
    assert filter_command.main(flags) == 2
    assert "with --runner, Beam's own flags say" in capsys.readouterr().err
    with pytest.raises(SystemExit):  # without a runner there is nobody to pass them to
        filter_command.main(["--input", "c.jsonl", "--job_name=mine"])
    assert "unrecognized arguments: --job_name=mine" in capsys.readouterr().err


def test_runners_that_lose_rows_are_refused():
    with pytest.raises(ConfigurationError, match="DaskRunner is not offered: it loses rows"):
        beam_runner(["--runner=DaskRunner"])


@pytest.mark.parametrize(
    "name, message",
    [
        ("NoSuchRunner", "error: Beam knows no runner 'NoSuchRunner': use DirectRunner, Flink"),
        ("no.such.Runner", "error: --runner no.such.Runner cannot be loaded: No module named 'no'"),
    ],
)
def test_unknown_runners_are_refused_before_work(letters, tmp_path, capsys, name, message):
    assert filter_command.main(_command(letters, tmp_path / "out", "--runner", name)) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(message) and printed.count("\n") == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_on_a_worker_is_one_line(letters, tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device", "out/kept-1")

    monkeypatch.setattr("dr_keras.corpus_jobs.work.run_shard", full)
    assert filter_command.main(_command(letters, tmp_path / "out")) == 2
    printed = capsys.readouterr().err
    assert "error: out/kept-1: No space left on device; make room on that disk" in printed
    assert "manifest.json" not in os.listdir(tmp_path / "out")


def _run(arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "dr_keras", "filter-corpus", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip


@pytest.mark.long
def test_two_worker_processes_write_the_same_files(letters, local, tmp_path):
    flags = ["--reference", "artefact", *TWO_PROCESSES]
    process = _run(_command(letters, tmp_path / "out", *flags))
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert corpora.output_bytes(tmp_path / "out") == local["artefact"]


@pytest.mark.long
@pytest.mark.kill
def test_a_worker_that_is_killed_in_mid_run(letters, local, tmp_path):
    """No output that looks whole; the run after it gives the identical corpus."""
    out = tmp_path / "out"
    process = _run(_command(letters, out, *TWO_PROCESSES))
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(process.stdout), daemon=True)
    reader.start()
    while len(list(out.glob("_work/scored/*.json"))) < 1:
        assert process.poll() is None, "".join(lines)
        time.sleep(0.002)
    workers = _workers_of(process.pid)
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    try:
        process.wait(120)
        assert process.returncode != 0, "".join(lines)
    except subprocess.TimeoutExpired:  # Beam's direct runner may wait for its worker for ever
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    names = os.listdir(out)
    assert "manifest.json" not in names and not Path(f"{out}.parquet").exists()
    process = _run(_command(letters, out, *TWO_PROCESSES))
    printed, _ = process.communicate(timeout=400)
    assert process.returncode == 0, printed
    assert corpora.output_bytes(out) == local["corpus"]
    assert json.load(open(out / "manifest.json"))["counts"]["documents"] == 600


def _workers_of(parent):
    """Process ids of the SDK workers that a launcher started, directly or not."""
    found, children = [], {}
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rsplit(") ", 1)[1].split()
            children.setdefault(int(fields[1]), []).append(int(status.parent.name))
        except (OSError, IndexError):
            continue
    pending = [parent]
    while pending:
        for child in children.get(pending.pop(), []):
            pending.append(child)
            command = Path(f"/proc/{child}/cmdline").read_bytes()
            if b"sdk_worker_main" in command and b"python" in command.split(b"\0")[0]:
                found.append(child)
    return found


def test_a_corpus_is_prepared_as_it_is_without_beam(letters, tmp_path):
    _, _, corpus = letters
    settings = dict(tokenizer=byte_tokenizer(), sequence_length=16, packing=True)
    settings |= dict(rows_per_shard=1000, shard_bytes=20_000)
    outputs = []
    for name, runner in (("local", in_process), ("beam", beam_runner(["--runner=DirectRunner"]))):
        prepare_corpus(corpus, str(tmp_path / name), runner=runner, **settings)
        files = [path for path in (tmp_path / name).rglob("*") if path.is_file()]
        outputs.append({path.relative_to(tmp_path / name): path.read_bytes() for path in files})
    assert outputs[0] == outputs[1] and len(outputs[0]) > 10
