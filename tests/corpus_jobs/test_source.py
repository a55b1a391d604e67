"""Corpora that are no files are cut into pieces, and are filtered as files are."""

import json
import os

import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs import runners
from dr_keras.corpus_jobs.filtering import filter_corpus, kept_ids
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.corpus_jobs.source import open_source
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.mixture import mixture_corpus
from dr_keras.data.documents import Document, make_document
from dr_keras.data.formats.records import read_records
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.serving.loading import load_rater
import gin

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, shard_bytes=700)


def corpus_of(rows, name="rows"):
    documents = [make_document(row["text"], row["source"], row["id"]) for row in rows]
    return Corpus(name, lambda skipped: iter(documents))


def rows():
    return corpora.rows(120)


@pytest.mark.parametrize("piece_bytes, pieces", [(1, 3), (20, 2), (1000, 1)])
def test_documents_come_back_from_their_pieces_as_they_were(tmp_path, piece_bytes, pieces):
    documents = [
        Document("a", 'é "quoted"\n\u2028 \ud800 end', "s", "k1", 3, 0.25, "words", "mine"),
        Document("b", "x" * 9, "", "k2", level=0.0),
        Document("a#1", "\t\r\n.", "s", "k1"),
    ]
    source = open_source(Corpus("c", lambda skipped: iter(documents)), piece_bytes)
    source.cut(str(tmp_path), piece_bytes)
    assert [shard.name for shard in source.shards] == [
        f"{n:05d}-of-{pieces:05d}" for n in range(pieces)
    ]
    parts = [shard.pieces[0].part for shard in source.shards]
    read = [record for part in parts for record in read_records(source.format, part, source.fields)]
    expected = list(Corpus("c", lambda _: iter(documents)).documents())
    assert [record.document for record in read] == expected
    assert sum(shard.size for shard in source.shards) == 21 + 9 + 4
    assert read[1].whole == {
        "id": "b", "text": "x" * 9, "source": "", "corpus": "c", "level": 0.0
    }  # fmt: skip


def test_what_is_no_corpus_is_refused():
    with pytest.raises(ConfigurationError, match="corpus is None: give a corpus, such as @text"):
        open_source(None, 10)
    with pytest.raises(ConfigurationError, match="shard_bytes is 0"):
        open_source(corpus_of(rows()), 0)


@pytest.mark.parametrize("reference", ["corpus", "artefact"])
def test_a_run_may_end_after_any_of_its_renames(tmp_path, renames, reference):
    def run(name):
        return filter_corpus(
            corpus_of(rows()[:40]), corpora.NumberRater(), output_dir=str(tmp_path / name),
            reference=reference, **SETTINGS,
        )  # fmt: skip

    run("whole")
    count = -renames.left
    assert count > 15
    expected = corpora.output_bytes(tmp_path / "whole")
    assert sum(name.startswith("kept") for name in expected) > 1
    for stop in range(1, count):  # the last one is the manifest's
        name, renames.left = f"out{stop}", stop
        with pytest.raises(KeyboardInterrupt):
            run(name)
        assert "manifest.json" not in os.listdir(tmp_path / name)
        renames.left = 0
        run(name)
        found = corpora.output_bytes(tmp_path / name)
        assert found.keys() == expected.keys()
        # a score file is written anew, and Parquet says when
        assert all(found[n] == expected[n] for n in found if n.startswith(("kept", "dropped")))


def test_a_stopped_run_scores_no_piece_twice(tmp_path):
    out = str(tmp_path / "out")
    first, again = corpora.NumberRater(die_after=60), corpora.NumberRater()
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(corpus_of(rows()), first, output_dir=out, **SETTINGS)
    manifest = filter_corpus(corpus_of(rows()), again, output_dir=out, **SETTINGS)
    assert 120 <= first.texts + again.texts < 150 and again.texts < 90
    assert manifest["counts"]["documents"] == 120 and not os.path.exists(f"{out}/_work")
    assert len(kept_ids(out)) == manifest["counts"]["kept"]
    dropped = [json.loads(line)["id"] for line in corpora.lines(out, "dropped")]
    assert kept_ids(out) | set(dropped) == {row["id"] for row in rows()}


@pytest.mark.parametrize("change", ["a text", "fewer", "the order"])
def test_a_corpus_that_changed_is_not_mixed_in(tmp_path, change):
    out = str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(
            corpus_of(rows()), corpora.NumberRater(die_after=60), output_dir=out, **SETTINGS
        )
    changed = rows()
    if change == "a text":
        changed[0]["text"] = changed[0]["text"].replace("end", "END")
    elif change == "fewer":
        del changed[40:]
    else:
        changed.reverse()
    rater = corpora.NumberRater()
    message = "differs from this one in the documents of the corpus, or their order.*--fresh"
    with pytest.raises(ConfigurationError, match=message):
        filter_corpus(corpus_of(changed), rater, output_dir=out, **SETTINGS)
    assert rater.texts == 0
    manifest = filter_corpus(corpus_of(changed), rater, output_dir=out, fresh=True, **SETTINGS)
    assert manifest["counts"]["documents"] == rater.texts == len(changed)


def test_a_corpus_that_breaks_off_leaves_nothing(tmp_path):
    def read(skipped):
        yield make_document("1 word", "s", "a")
        raise DataError("line 2 is no line")

    broken = Corpus("broken", read)
    with pytest.raises(DataError, match="line 2 is no line"):
        score_corpus(broken, corpora.NumberRater(), str(tmp_path / "s.parquet"))
    with pytest.raises(DataError, match="line 2 is no line"):
        filter_corpus(broken, corpora.NumberRater(), output_dir=str(tmp_path / "out"), **SETTINGS)
    assert os.listdir(tmp_path) == []


def test_two_workers_write_what_one_process_writes(tmp_path):
    rater = load_rater(corpora.export_letters(tmp_path / "export"))
    corpus = mixture_corpus([
        corpus_of(corpora.letter_rows(200), "one"),
        corpus_of([{**row, "id": f"o{row['id']}"} for row in corpora.letter_rows(90)], "two"),
    ])  # fmt: skip
    settings = {**SETTINGS, "shard_bytes": 4000, "discard_fraction": 0.25}
    alone = filter_corpus(corpus, rater, output_dir=str(tmp_path / "alone"), **settings)
    together = filter_corpus(
        corpus, rater, output_dir=str(tmp_path / "together"), runner=runners.in_processes(2, 1),
        **settings,
    )  # fmt: skip
    names = [name for name in alone["files"] if name.startswith("kept")]
    assert len(names) > 2
    found = [corpora.output_bytes(tmp_path / name) for name in ("alone", "together")]
    assert all(found[0][name] == found[1][name] for name in alone["files"])
    without_bytes = [{**m, "corpus": None, "scores": None} for m in (alone, together)]
    assert without_bytes[0] == without_bytes[1]
    assert {json.loads(line)["corpus"] for line in corpora.lines(tmp_path / "alone", "kept")} == {
        "one", "two"
    }  # fmt: skip


def test_every_setting_may_come_from_gin(tmp_path, caplog):
    gin.parse_config(f"""
        filter_corpus.output_dir = '{tmp_path}/out'
        filter_corpus.discard_fraction = 0.5
        filter_corpus.reference = 'artefact'
        filter_corpus.drift_limit = 0.97
        filter_corpus.score_file = '{tmp_path}/s.jsonl'
        filter_corpus.step_bytes = 100
        filter_corpus.shard_bytes = 700
    """)
    rater = corpora.NumberRater(high=4000.0)
    manifest = filter_corpus(corpus_of(rows()), rater)
    assert manifest["drift"]["limit"] == 0.97 and manifest["drift"]["drifted"]
    assert "Kolmogorov-Smirnov distance 0.97" in caplog.text
    assert (
        manifest["scores"] == f"{tmp_path}/s.jsonl" and manifest["settings"]["shard_bytes"] == 700
    )


def test_what_a_corpus_left_out_is_counted(tmp_path):
    documents = [make_document(text, "s", f"d{n}") for n, text in enumerate(["1 a", "  ", "2 b"])]
    corpus = Corpus("some", lambda skipped: iter(documents))
    manifest = filter_corpus(
        corpus, corpora.NumberRater(), output_dir=str(tmp_path / "out"), **SETTINGS
    )
    assert manifest["skipped"] == {"empty text": 1} and manifest["errors"] == {}
    assert manifest["corpus"]["name"] == "some" and manifest["input"] == []
