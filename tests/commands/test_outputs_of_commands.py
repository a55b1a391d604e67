"""Every command with an output that cannot be: one line, status 2, and nothing left behind."""

import errno
import importlib
import json
import os

import pytest
import tensorflow as tf

from dr_keras.data.formats import writing
from dr_keras.data.tokenizers import learn

RUNS = [
    "build_savedmodel",
    "evaluate",
    "export_rater",
    "fit_rater",
    "meta_evaluate",
    "meta_train",
    "quickstart",
    "retraining_study",
    "train_language_model",
]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = [{"id": f"d{n}", "text": f"word {n}", "source": "s"} for n in range(20)]
    (tmp_path / "c.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    scores = [{"id": f"d{n}", "score": float(n)} for n in range(20)]
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(s) + "\n" for s in scores))
    (tmp_path / "file").write_text("mine")
    return tmp_path


def run(capsys, command, arguments):
    where = "" if command == "build_savedmodel" else "dr_keras.commands."  # that one is in tools/
    main = importlib.import_module(f"{where}{command}").main
    assert main(arguments.split()) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("error: ") and printed.count("\n") == 1, printed
    return printed


def files(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.mark.parametrize("command", RUNS)
@pytest.mark.parametrize("base_dir", ["file", "file/run"])
def test_a_run_folder_that_is_a_file(folder, capsys, command, base_dir):
    before = files(folder)
    printed = run(capsys, command, f"--base_dir {base_dir}")
    assert printed == (
        f"error: {folder}/file: Not a directory; a file stands where a folder is needed: name"
        " another place, or move that file\n"
    )
    assert files(folder) == before and (folder / "file").read_text() == "mine"


def test_a_run_folder_that_may_not_be_made(folder, capsys, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(folder))  # tests run as root
    printed = run(capsys, "meta_train", "--base_dir new/run")
    assert printed.startswith(f"error: {folder}: Permission denied; this user may not do that")


FILTER = "--input c.jsonl --scores s.jsonl --discard_fraction 0.5 --output_dir"
LEARN = "--input c.jsonl --kind wordpiece --size 40 --output"
WRITING = {
    "filter_corpus": (f"{FILTER} file/out", "file/out: Not a directory; "),
    "filter_corpus over a file": (f"{FILTER} file", "file/_work: Not a directory; "),
    "filter_corpus, long": (f"{FILTER} {'y' * 300}", f"{'y' * 300}: File name too long; "),
    "learn_vocabulary": (f"{LEARN} file/v", "file: File exists; "),
    "learn_vocabulary, long": (f"{LEARN} {'y' * 300}", "File name too long; "),
}


@pytest.mark.parametrize("case", WRITING)
def test_outputs_below_a_file(folder, capsys, case):
    arguments, words = WRITING[case]
    before = files(folder)
    printed = run(capsys, case.split()[0].rstrip(","), arguments)
    assert words in printed
    assert files(folder) == before and (folder / "file").read_text() == "mine"


def refuse(number):
    """A writer that raises as TensorFlow's do."""

    def write(self, data):
        raise tf.errors.UnknownError(None, None, f"{self._path}; {os.strerror(number)}")

    return write


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_a_disk_that_refuses_in_mid_write(folder, capsys, monkeypatch, number):
    class Refusing(writing.GFileWriter):
        def __init__(self, path):
            super().__init__(path)
            self._path = path

        write = refuse(number)

    for module in ("dr_keras.data.formats.writing", "dr_keras.corpus_jobs.work"):
        monkeypatch.setattr(f"{module}.GFileWriter", Refusing)
    printed = run(capsys, "filter_corpus", f"{FILTER} out")
    assert f"; {os.strerror(number)}" not in printed and f": {os.strerror(number)}; " in printed
    assert not [n for n in files(folder) if "kept-" in n or "dropped-" in n or "manifest.json" in n]
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    # the same command goes on where it stopped
    filter_corpus = importlib.import_module("dr_keras.commands.filter_corpus")
    assert filter_corpus.main(f"{FILTER} out".split()) == 0
    assert (folder / "out" / "manifest.json").exists()


def test_a_full_disk_under_a_vocabulary(folder, capsys, monkeypatch):
    def write_bytes(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr(learn.whole_files, "write_bytes", write_bytes)
    printed = run(capsys, "learn_vocabulary", f"{LEARN} v")
    assert "error: The vocabulary cannot be written: v: No space left on device; make" in printed
    assert "v" not in files(folder)
