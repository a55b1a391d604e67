"""Preparations that were stopped or hindered: nothing looks whole, nothing is lost or mixed."""

import errno
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest
from test_preparing import SETTINGS, SMALL, content, rows, same_parts, write

from dr_keras.corpus_jobs import prepared_work
from dr_keras.corpus_jobs.preparing import prepare_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import corpus_from_path, find_corpus_files, text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.prepared_manifest import is_prepared
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError, DrKerasError
from dr_keras.system.system_errors import explained


def prepare(path, out, **more):
    return prepare_corpus(str(path), str(out), **{**SETTINGS, **SMALL, **more})


def test_a_run_may_end_after_any_of_its_renames(tmp_path, renames):
    path = write(tmp_path / "c.jsonl", rows(120))
    prepare(path, tmp_path / "whole")
    count, whole = -renames.left, content(tmp_path / "whole")
    assert count > 60
    out = tmp_path / "out"
    for stop in (1, 2, 9, 20, 25, 11):  # one run, stopped again and again, in every phase
        renames.left = stop
        with pytest.raises(KeyboardInterrupt):
            prepare(path, out)
        assert "manifest.json" not in os.listdir(out)
        with pytest.raises(DataError, match="its preparation did not finish. The same dr-keras"):
            is_prepared(str(out))
    renames.left = 0
    prepare(path, out)
    assert -renames.left < count - 40 and content(out) == whole


def of_documents(texts, name="c"):
    documents = [make_document(text, "s") for text in texts]
    return Corpus(name, lambda skipped: iter(documents))


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(sequence_length=32), r"sequence_length \(was 16, is 32\)"),
        (dict(packing=True), r"packing \(was false, is true\)"),
        (dict(shard_bytes=900), "shard_bytes"),
        (dict(fractions=None), "fractions"),
        ("size", r"input .*c.jsonl \(has changed: \d+ bytes then, \d+ now\)"),
        ("bytes", r"input .*c.jsonl \(was written to since\)"),
    ],
)
def test_another_job_is_not_mixed_in(tmp_path, renames, change, message):
    path = write(tmp_path / "c.jsonl", rows(60))
    renames.left = 12
    with pytest.raises(KeyboardInterrupt):
        prepare(path, tmp_path / "out")
    renames.left = 0
    if isinstance(change, str):
        text = open(path).read()
        write_over = text + text.replace('"d', '"e') if change == "size" else text.replace("w", "v")
        with open(path, "w") as file:
            file.write(write_over)
        change = {}
    before = content(tmp_path / "out")
    with pytest.raises(ConfigurationError, match=f"differs from this one in .*{message}.*--fresh"):
        prepare(path, tmp_path / "out", **change)
    assert content(tmp_path / "out") == before
    prepare(path, tmp_path / "out", fresh=True, **change)
    assert is_prepared(str(tmp_path / "out"))


def test_a_corpus_that_is_no_files_goes_on_where_it_is_the_same(tmp_path, renames):
    texts = [record["text"] for record in rows(150)]
    settings = {**SETTINGS, **SMALL, "shard_bytes": 800}
    renames.left = 14
    with pytest.raises(KeyboardInterrupt):
        prepare_corpus(of_documents(texts), str(tmp_path / "out"), **settings)
    renames.left = 0
    with pytest.raises(
        ConfigurationError, match="differs .* the documents of the corpus, or their"
    ):
        prepare_corpus(of_documents(texts[::-1]), str(tmp_path / "out"), **settings)
    prepare_corpus(of_documents(texts), str(tmp_path / "out"), **settings)
    same_parts(prepared_data(str(tmp_path / "out")), text_data(of_documents(texts), **SETTINGS))


def test_a_file_that_changes_meanwhile_is_named(tmp_path):
    path = write(tmp_path / "c.jsonl", rows(60))

    def touching(phase, done, total):
        if phase == "writing":
            os.utime(path, (1, 1))

    with pytest.raises(DataError, match="c.jsonl was written to while it was prepared"):
        prepare(path, tmp_path / "out", progress=touching)
    assert "manifest.json" not in os.listdir(tmp_path / "out")


def test_a_disk_that_fills_up_is_one_line_and_the_run_goes_on_after_it(tmp_path, monkeypatch):
    path = write(tmp_path / "c.jsonl", rows(100))
    real, left = prepared_work.HashedFile.write, [30_000]

    def write_some(file, data):
        left[0] -= len(memoryview(data).cast("B"))
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "out/tokens")
        return real(file, data)

    monkeypatch.setattr(prepared_work.HashedFile, "write", write_some)
    with pytest.raises(OSError) as caught:
        prepare(path, tmp_path / "out")
    assert "out/tokens: No space left on device; make room on that" in explained(caught.value)
    assert "manifest.json" not in os.listdir(tmp_path / "out")
    assert not os.listdir(tmp_path / "out" / "_work" / "tmp")
    monkeypatch.undo()
    prepare(path, tmp_path / "out")
    same_parts(
        prepared_data(str(tmp_path / "out"), verify=True),
        text_data(corpus_from_path(path), **SETTINGS),
    )


def test_two_documents_of_one_id_are_named_with_their_places(tmp_path):
    records = rows(60)
    records[50]["id"] = records[7]["id"]
    path = write(tmp_path / "c.jsonl", records)
    with pytest.raises(DataError, match="'d7' but .*c.jsonl, line 8 .* and .*c.jsonl, line 51 "):
        prepare(path, tmp_path / "out", shard_bytes=900)


def test_lines_that_cannot_be_used_are_counted_and_the_first_is_named(tmp_path, caplog):
    path = write(tmp_path / "c.jsonl", rows(60))
    lines = open(path).read().splitlines()
    lines[30:30] = ["{bad", '{"text": " "}', "{worse"]
    with open(path, "w") as file:
        file.write("\n".join(lines))
    manifest = prepare(path, tmp_path / "out", shard_bytes=900)
    assert manifest["counts"]["skipped"] == {"empty text": 1, "not JSON": 2}
    assert "c.jsonl, line 31: not JSON; such records are left out" in caplog.text
    with open(path, "w") as file:
        file.write('{"body": "x"}\n')
    with pytest.raises(DataError, match="not one record of the input .*1 x no field 'text'.*Name"):
        prepare(path, tmp_path / "other")


def test_what_was_prepared_is_no_corpus_and_is_not_written_over(tmp_path):
    path = write(tmp_path / "c.jsonl", rows(60))
    prepare(path, tmp_path / "out")
    assert find_corpus_files(str(tmp_path)).paths == [path]
    parts = str(tmp_path / "out" / "*" / "*.parquet")
    with pytest.raises(DataError, match="of a prepared corpus"):
        find_corpus_files(parts)
    with pytest.raises(DataError, match="out holds a finished corpus already"):
        prepare(path, tmp_path / "out")
    os.remove(tmp_path / "out" / "manifest.json")
    with pytest.raises(DataError, match="out holds train, which no unfinished job here accounts"):
        prepare(path, tmp_path / "out")


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(sequence_length=1), "sequence_length is 1"),
        (dict(minimum_tokens=17), "minimum_tokens is 17"),
        (dict(rows_per_shard=0), "rows_per_shard"),
        (dict(shard_bytes=0), "shard_bytes is 0"),
        (dict(target_share=2.0), "target_share is 2.0"),
        (
            dict(fractions={"train": 1.0, "outer": 0.0, "validation": 0.0, "test": 0.0}),
            "'outer' no",
        ),
    ],
)
def test_settings_that_make_no_sense(tmp_path, settings, message):
    path = write(tmp_path / "c.jsonl", rows(30))
    with pytest.raises(DrKerasError, match=message):
        prepare(path, tmp_path / "out", **settings)


@pytest.mark.long
@pytest.mark.kill
def test_killed_at_random_and_resumed_with_two_workers(tmp_path):
    path = write(tmp_path / "c.jsonl", rows(3000))
    command = [sys.executable, "-m", "dr_keras", "prepare", "--input", path]
    command += ["--gin_param", "SEQUENCE_LENGTH = 16", "--workers", "2"]
    command += ["--gin_param", "prepare_corpus.shard_bytes = 9000"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}

    def start(out):
        return subprocess.Popen(
            [*command, "--output_dir", str(out)], env=environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    settings = dict(tokenizer=byte_tokenizer(), sequence_length=16)
    prepare_corpus(path, str(tmp_path / "whole"), **settings)
    out = tmp_path / "out"
    for phase in ("read", "placed", "cut"):
        process = start(out)
        while not list(out.glob(f"_work/{phase}/*.json")):
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "manifest.json").exists()
    process = start(out)
    printed, _ = process.communicate()
    assert process.returncode == 0, printed
    assert content(out) == content(tmp_path / "whole")
