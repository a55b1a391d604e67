"""Everything that writes to a folder of the user's: the second is told, before it does anything."""

import concurrent.futures
import functools
import os
import threading
import types

import pytest

from dr_keras.commands import filter_corpus as filter_command
from dr_keras.commands import quickstart as quickstart_command
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus, score_examples
from dr_keras.errors import CheckpointError, DataError
from dr_keras.rating import score_files as score_files_module
from dr_keras.runs import meta_training
from dr_keras.runs.language_model_run import train_language_model
from dr_keras.studies.quickstart import QuickStart
from dr_keras.studies.retraining import Retraining

RATER = types.SimpleNamespace(fingerprint=None)
CALLS = {
    "filter_corpus": lambda place, corpus: filter_corpus(corpus, RATER, None, place, 0.5),
    "score_corpus": lambda place, corpus: score_corpus(corpus, RATER, place),
    "score_examples": lambda place, corpus: score_examples(RATER, place, None),
    "meta_train": lambda place, corpus: meta_training.meta_train(place, RATER, 5),
    "quickstart": lambda place, corpus: QuickStart(corpus=None).run(place),
    "fresh": lambda place, corpus: quickstart_command._remove(place),
    "retraining_study": lambda place, corpus: Retraining().run(place),
    "train_language_model": lambda place, corpus: train_language_model(place, None),
}
DATA = ("filter_corpus", "score_corpus", "score_examples")


@pytest.fixture
def corpus(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "c.jsonl").write_text('{"text": "one"}\n')
    return str(tmp_path / "corpus" / "c.jsonl")


def listing(folder) -> list[str]:
    return sorted(os.path.join(path, name) for path, _, names in os.walk(folder) for name in names)


@pytest.mark.parametrize("name", CALLS)
def test_the_second_is_told_and_writes_nothing(elsewhere, tmp_path, corpus, name):
    place = tmp_path / "there"
    error = DataError if name in DATA else CheckpointError
    with elsewhere(place, is_file=name.startswith("score_")) as first:
        before = listing(tmp_path)
        with pytest.raises(error) as caught:
            CALLS[name](place, corpus)
        assert listing(tmp_path) == before
    said = str(caught.value)
    assert f"there is being written to by the first run, process {first.pid} on" in said
    assert "\n" not in said.split("In call to")[0].rstrip()


def test_a_command_says_it_in_one_line_and_exits_with_2(elsewhere, tmp_path, corpus, capsys):
    (tmp_path / "s.jsonl").write_text('{"id": "a", "score": 1.0}\n')
    arguments = ["--input", corpus, "--scores", str(tmp_path / "s.jsonl")]
    arguments += ["--output_dir", str(tmp_path / "out"), "--discard_fraction", "0.5"]
    with elsewhere(tmp_path / "out") as first:
        assert filter_command.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {tmp_path}/out is being written to by the first run,")
    assert f"process {first.pid} on" in line


def test_of_several_workers_the_chief_alone_locks(elsewhere, tmp_path, monkeypatch):
    train = functools.partial(meta_training.meta_train, tmp_path, RATER, 5)
    monkeypatch.setattr(meta_training, "_meta_train", lambda *arguments: "trained")
    with elsewhere(tmp_path):
        for is_chief in (False, True):
            strategy = types.SimpleNamespace(is_chief=is_chief)
            monkeypatch.setattr(meta_training, "placement_of", lambda given: strategy)
            if is_chief:
                with pytest.raises(CheckpointError, match="is being written to"):
                    train()
            else:
                assert train() == "trained"
    assert train() == "trained"


def test_scores_that_are_there_are_read_where_nothing_can_be_written(tmp_path, corpus, monkeypatch):
    import shard_corpora

    rater = shard_corpora.NumberRater()
    output = str(tmp_path / "s.parquet")
    (tmp_path / "corpus" / "c.jsonl").write_text('{"text": "1 word"}\n')
    manifest = score_corpus(corpus, rater, output)

    def refuse(*arguments, **settings):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("filelock.BaseFileLock.acquire", refuse)
    assert score_corpus(corpus, rater, output) == manifest


def test_a_killed_first_run_does_not_hinder_a_fresh_start(elsewhere, tmp_path):
    with elsewhere(tmp_path / "run") as first:
        first.kill()
        first.wait()
        assert os.listdir(tmp_path / "run")
        quickstart_command._remove(tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_jobs_that_share_a_score_file_never_see_it_without_its_manifest(
    tmp_path, corpus, monkeypatch
):
    """Two filters with folders of their own write the scores of a corpus to the same place."""
    between, go_on = threading.Event(), threading.Event()
    real = score_files_module.write_manifest

    def write_manifest(path, manifest):
        between.set()
        assert go_on.wait(60)
        real(path, manifest)

    class Rater:
        fingerprint = "ab" * 32

        def __call__(self, texts):
            return [float(len(text)) for text in texts]

    def run(folder):
        return filter_corpus(
            corpus, Rater(), output_dir=str(tmp_path / folder), discard_fraction=0.0,
            score_file=str(tmp_path / "s.parquet"),
        )  # fmt: skip

    monkeypatch.setattr(score_files_module, "write_manifest", write_manifest)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, "one")
        assert between.wait(60)
        second = pool.submit(run, "two")
        with pytest.raises(concurrent.futures.TimeoutError):
            second.result(0.5)  # it waits
        go_on.set()
        assert first.result(60)["counts"] == second.result(60)["counts"]
