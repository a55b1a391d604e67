"""Raters that work together, made anew in every worker."""

import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs import runners
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.rating.score_files import read_scores
from dr_keras.serving.cascade import cascade
from dr_keras.serving.loading import load_rater
from dr_keras.serving.several import combined_raters


@pytest.mark.long
@pytest.mark.parametrize("how", ["union", "cascade"])
def test_two_workers_write_what_one_process_does(tmp_path, how):
    raters = [load_rater(corpora.export_letters(tmp_path / "export")), load_rater("damaged_prose")]
    if how == "cascade":
        together = cascade(*raters, "0.5", teacher_share=0.4, audit_share=0.2)
    else:
        together = combined_raters(raters, how)
    (tmp_path / "in").mkdir()
    for name, rows in (("a", corpora.letter_rows(60)), ("b", corpora.letter_rows(120)[60:])):
        corpora.write_jsonl(tmp_path / "in" / f"{name}.jsonl", rows)
    made = []
    for name, runner in (("here", runners.in_process), ("there", runners.in_processes(2, 1))):
        path = str(tmp_path / f"{name}.parquet")
        score_corpus(str(tmp_path / "in"), together, path, shard_bytes=2000, runner=runner)
        made.append(read_scores(path))
    here, there = made
    assert len(here) == 120 and here.manifest["several_raters"] == there.manifest["several_raters"]
    assert here.manifest["rater"] == there.manifest["rater"]
    with open(tmp_path / "here.parquet", "rb") as a, open(tmp_path / "there.parquet", "rb") as b:
        assert a.read() == b.read()
