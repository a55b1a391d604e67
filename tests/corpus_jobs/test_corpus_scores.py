import json
import os

import numpy as np
import pytest

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import fingerprint, make_document
from dr_keras.errors import DataError
from dr_keras.rating import score_files
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.score_files import read_scores
from dr_keras.serving.window_scoring import WindowScoring


class LengthRater:
    """Rates a text by its length; counts what it is asked."""

    path, fingerprint = "somewhere/1", "f" * 64
    document_reference = ReferenceDistribution(np.array([0.0, 100.0]))

    def __init__(self):
        self.calls = []

    def score_texts(self, texts, scoring):
        self.calls.append(len(texts))
        score = np.array([len(t) if t != "bad" else np.nan for t in texts], np.float32) / 3
        return {
            "score": score,
            "percentile": self.document_reference.percentile(score),
            "windows": np.full(len(texts), 2),
        }


def corpus_of(texts, ids=None, name="letters"):
    ids = ids or [f"d{n}" for n in range(len(texts))]
    sources = ["even" if n % 2 == 0 else "odd" for n in range(len(texts))]
    documents = [make_document(*row) for row in zip(texts, sources, ids)]
    return Corpus(name, lambda skipped: iter(documents))


TEXTS = ["a" * n for n in range(1, 11)] + ["bad"]


def test_scores_come_back_exactly_as_the_rater_gave_them(tmp_path):
    path = str(tmp_path / "deep" / "scores.jsonl")
    rater, reports = LengthRater(), []
    manifest = score_corpus(
        corpus_of(TEXTS), rater, path, step_bytes=20, progress=lambda *x: reports.append(x)
    )
    assert rater.calls == [6, 3, 2]  # 21, 24 and 13 bytes
    assert reports[:3] == [("scoring", 21, 58), ("scoring", 45, 58), ("scoring", 58, 58)]
    table = read_scores(path)
    expected = np.array([*range(1, 11), np.nan], np.float32) / 3
    np.testing.assert_array_equal(table.score, expected)
    np.testing.assert_array_equal(table.percentile, rater.document_reference.percentile(expected))
    assert table.ids == [f"d{n}" for n in range(11)] and table.sources[:2] == ["even", "odd"]
    assert table.windows.tolist() == [2] * 11
    assert table.manifest == manifest == json.load(open(path + ".manifest.json"))
    assert manifest["rater"] == {"path": "somewhere/1", "fingerprint": "f" * 64}
    assert manifest["without_score"] == 1
    assert manifest["corpus_fingerprint"] == fingerprint(corpus_of(TEXTS).documents())
    odd = manifest["by_source"]["odd"]
    assert (odd["documents"], odd["scored"]) == (5, 5)
    assert odd["mean_score"] == pytest.approx(6 / 3)
    assert manifest["by_source"]["even"]["scored"] == 5
    assert json.loads(open(path).readlines()[-1])["score"] is None
    assert sorted(os.listdir(tmp_path / "deep")) == ["scores.jsonl", "scores.jsonl.manifest.json"]


def test_existing_scores_of_the_same_rater_and_corpus_are_left_alone(tmp_path):
    path = str(tmp_path / "scores.jsonl")
    first = score_corpus(corpus_of(TEXTS), LengthRater(), path)
    again = LengthRater()
    assert score_corpus(corpus_of(TEXTS), again, path) == first and again.calls == []
    with pytest.raises(DataError, match="another corpus.*--overwrite"):
        score_corpus(corpus_of(TEXTS[1:]), again, path)
    again.fingerprint = "0" * 64
    with pytest.raises(DataError, match="another rater"):
        score_corpus(corpus_of(TEXTS), again, path)
    score_corpus(corpus_of(TEXTS[1:]), again, path, overwrite=True)
    assert len(read_scores(path)) == 10
    os.remove(path + ".manifest.json")
    with pytest.raises(DataError, match="no manifest"):
        score_corpus(corpus_of(TEXTS), again, path)


def test_what_a_corpus_is_called_decides_nothing(tmp_path):
    path = str(tmp_path / "scores.jsonl")
    first = score_corpus(corpus_of(TEXTS, name="data"), LengthRater(), path)
    again = LengthRater()
    assert score_corpus(corpus_of(TEXTS, name="."), again, path) == first and again.calls == []
    changed = [*TEXTS[:-1], "BAD"]
    with pytest.raises(DataError, match="another corpus"):
        score_corpus(corpus_of(changed, name="data"), again, path)
    with pytest.raises(DataError, match="not the one that .*: a text changed under its id"):
        filter_corpus(
            corpus_of(changed), scores=path, output_dir=str(tmp_path / "out"), discard_fraction=0.5
        )
    for sums in ("text_fingerprint", "input_fingerprint"):  # scores of an earlier version
        del first[sums]
    score_files.write_json(path + ".manifest.json", first)
    assert score_corpus(corpus_of(TEXTS, name="data"), again, path) == first and again.calls == []
    with pytest.raises(DataError, match="another corpus"):
        score_corpus(corpus_of(changed, name="data"), again, path)
    out = str(tmp_path / "other")
    with pytest.raises(DataError, match="'letters' is not the one that .* .corpus_fingerprint"):
        filter_corpus(corpus_of(changed), scores=path, output_dir=out, discard_fraction=0.5)


def test_any_function_of_texts_is_a_rater(tmp_path):
    path = str(tmp_path / "scores.jsonl")
    score_corpus(corpus_of(["aa", "b"]), lambda texts: [len(t) for t in texts], path)
    table = read_scores(path)
    assert table.score.tolist() == [2, 1] and np.isnan(table.percentile).all()
    with pytest.raises(DataError, match=r"shape \(1,\) for 2 texts.*'d0'"):
        score_corpus(corpus_of(["aa", "b"]), lambda texts: [1.0], str(tmp_path / "other"))


def test_a_rater_that_fails_leaves_nothing_that_looks_like_scores(tmp_path):
    path = tmp_path / "scores.jsonl"
    with pytest.raises(ZeroDivisionError):
        score_corpus(corpus_of(["a"]), lambda texts: 1 / 0, str(path))
    assert os.listdir(tmp_path) == ["scores.jsonl.unfinished"]
    score_corpus(corpus_of(["a"]), lambda texts: [1.0], str(path))
    assert sorted(os.listdir(tmp_path)) == ["scores.jsonl", "scores.jsonl.manifest.json"]


def test_one_id_may_stand_for_copies_but_not_for_different_texts(tmp_path):
    copies = corpus_of(["same", "same", "b"], ids=["x", "x", "y"])
    manifest = score_corpus(copies, LengthRater(), str(tmp_path / "scores"))
    assert manifest["documents"] == 3
    assert read_scores(str(tmp_path / "scores")).rows() == {"x": 0, "y": 2}
    with pytest.raises(DataError, match="'letters' have the id 'x' and different texts"):
        score_corpus(corpus_of(["a", "b"], ids=["x", "x"]), LengthRater(), str(tmp_path / "other"))
    assert sorted(os.listdir(tmp_path)) == ["scores", "scores.manifest.json"]


@pytest.mark.parametrize(
    "content, message",
    [
        ('{"id": "a", "score": 1}\n{"id": "b"', "scores, line 2: not a line of a score file"),
        ('{"id": "a"}', "line 1: the field 'score' is missing"),
        ('{"id": "a", "score": "high"}', "line 1.*'high' is no number"),
        ("[1]", "line 1: not a line of a score file"),
    ],
)
def test_a_damaged_score_file_says_where(tmp_path, content, message):
    path = tmp_path / "scores"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_scores(str(path))


def test_missing_lines_are_noticed(tmp_path):
    path = str(tmp_path / "scores.jsonl")
    score_corpus(corpus_of(TEXTS), LengthRater(), path)
    lines = open(path).readlines()
    open(path, "w").writelines(lines[:4])
    with pytest.raises(DataError, match="has 4 lines, but its manifest says 11"):
        read_scores(path)
    with pytest.raises(DataError, match="does not exist"):
        read_scores(path + "x")


def test_floats_are_written_short_and_exact():
    for value in np.random.default_rng(0).normal(size=200).astype(np.float32):
        assert np.float32(score_files.number(value)) == value
    assert json.dumps(score_files.number(np.float32(0.1))) == "0.1"
    assert score_files.number(np.float32(np.inf)) is None


def test_scores_by_fewer_windows_say_so_and_are_no_scores_by_all(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in TEXTS[:10]))
    few = WindowScoring(windows_per_document=4)
    capped = score_corpus(str(folder), LengthRater(), window_scoring=few)
    whole = score_corpus(str(folder), LengthRater())
    assert capped["windows_per_document"] == 4 and whole["windows_per_document"] is None
    assert len(list((folder / "_scores").glob("*.parquet"))) == 2
    again = LengthRater()
    assert score_corpus(str(folder), again, window_scoring=few) == capped and not again.calls
    path = str(tmp_path / "s.jsonl")
    score_corpus(str(folder), LengthRater(), path, window_scoring=few)
    with pytest.raises(DataError, match="it is by at most 4 windows of each document"):
        score_corpus(str(folder), LengthRater(), path)
    manifest = filter_corpus(
        str(folder), LengthRater(), output_dir=str(tmp_path / "kept"), discard_fraction="0.5",
        window_scoring=few,
    )  # fmt: skip
    assert manifest["windows_per_document"] == 4
