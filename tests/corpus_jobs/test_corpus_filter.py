import json
import os

import numpy as np
import pytest

from dr_keras.corpus_jobs import filtering
from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, content_key
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide

N = 2000


def document(n):
    text = f"Text number {n}, with “typography” and a line\nbreak."
    source = "odd" if n % 2 else "even"
    return Document(f"d{n}", text, source, content_key(text), level=n / N, damage="words")


DOCUMENTS = [document(n) for n in range(N)]


def corpus(documents=DOCUMENTS):
    return Corpus("numbers", lambda skipped: iter(documents))


class Rater:
    """The lower the number in a text, the better."""

    path, fingerprint = "exports/1", "ab" * 32
    document_reference = ReferenceDistribution(np.array([-4.0 * N, 0.0]))

    def __call__(self, texts):
        score = np.array([-int(text.split()[2].rstrip(",")) for text in texts], np.float32)
        return {"score": score, "percentile": self.document_reference.percentile(score)}


def records(folder, kind):
    rows = []
    for name in sorted(os.listdir(folder)):
        if name.startswith(kind):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                rows += [json.loads(line) for line in file]
    return rows


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("filtered") / "out")
    manifest = filter_corpus(
        corpus(), Rater(), output_dir=folder, discard_fraction=0.5, batch_size=16, seed=5,
        shard_bytes=20_000,
    )  # fmt: skip
    return folder, manifest


def test_every_document_is_kept_or_dropped_once_as_decided(filtered):
    folder, manifest = filtered
    scores = -np.arange(N, dtype=np.float32)
    decisions = decide([d.id for d in DOCUMENTS], scores, 0.5, 16, seed=5)
    kept, dropped = records(folder, "kept"), records(folder, "dropped")
    assert [r["id"] for r in kept] == [f"d{n}" for n in np.flatnonzero(decisions.keep)]
    assert [r["id"] for r in dropped] == [f"d{n}" for n in np.flatnonzero(~decisions.keep)]
    assert 0.45 < manifest["achieved_fraction"] < 0.55
    assert manifest["achieved_fraction"] == len(dropped) / N
    assert manifest["expected_fraction"] == 0.5
    first = DOCUMENTS[int(kept[0]["id"][1:])]
    assert kept[0] == {
        "id": first.id,
        "text": first.text,
        "source": first.source,
        "corpus": "numbers",
        "level": first.level,
        "damage": "words",
        "score": -float(first.id[1:]),
        "percentile": kept[0]["percentile"],
    }
    assert kept[0]["percentile"] > 0.9 and dropped[-1]["percentile"] < 0.1
    assert set(dropped[-1]) == {"id", "source", "score", "percentile", "reason"}
    assert all(r["reason"].startswith(("not drawn at keep probability 0.", "per")) for r in dropped)


def test_the_manifest_says_what_was_done(filtered):
    folder, manifest = filtered
    assert json.load(open(os.path.join(folder, "manifest.json"))) == manifest
    kept = records(folder, "kept")
    assert manifest["rater"] == {"path": "exports/1", "fingerprint": "ab" * 32}
    assert manifest["counts"]["documents"] == N and manifest["counts"]["kept"] == len(kept)
    assert manifest["counts"]["kept_bytes"] == sum(len(r["text"].encode()) for r in kept)
    assert manifest["by_source"]["odd"]["kept"] == sum(r["source"] == "odd" for r in kept)
    assert manifest["settings"]["oversized_batch"] == 32
    assert manifest["scores"] == "scores.parquet"
    assert len([name for name in manifest["files"] if name.startswith("kept")]) > 3
    for name, facts in manifest["files"].items():
        assert os.path.getsize(os.path.join(folder, name)) == facts["bytes"]
    listed = {*manifest["files"], "manifest.json", "scores.parquet"}
    listed.add("scores.parquet.manifest.json")
    assert set(os.listdir(folder)) == listed


def test_the_kept_files_are_a_corpus_again(filtered):
    folder, manifest = filtered
    again = list(jsonl_corpus(os.path.join(folder, "kept-*.jsonl")).documents())
    assert len(again) == manifest["counts"]["kept"]
    by_id = {d.id: d for d in DOCUMENTS}
    for found in again:
        assert found.text == by_id[found.id].text and found.key == by_id[found.id].key
        assert found.source == by_id[found.id].source


def test_existing_scores_decide_alike_without_a_rater(filtered, tmp_path):
    folder, manifest = filtered
    scores = os.path.join(folder, "scores.parquet")
    settings = dict(discard_fraction=0.5, batch_size=16, seed=5)
    turned = corpus(DOCUMENTS[::-1])
    again = filter_corpus(turned, scores=scores, output_dir=str(tmp_path / "a"), **settings)
    assert again["counts"] == manifest["counts"] and again["scores"] == scores
    ids = [r["id"] for r in records(tmp_path / "a", "kept")]
    assert ids == [r["id"] for r in records(folder, "kept")][::-1]
    other = filter_corpus(
        corpus(), scores=scores, output_dir=str(tmp_path / "b"), discard_fraction=0.25,
        method="threshold",
    )  # fmt: skip
    assert other["achieved_fraction"] == pytest.approx(0.25, abs=2e-3)
    assert [r["id"] for r in records(tmp_path / "b", "kept")][:3] == ["d0", "d1", "d2"]


@pytest.mark.parametrize("rater", [Rater(), None])
def test_the_artefacts_reference_can_decide(filtered, tmp_path, rater):
    # the corpus lies in the upper quarter of the artefact's distribution
    scores = os.path.join(filtered[0], "scores.parquet")
    manifest = filter_corpus(
        corpus(), rater, scores, str(tmp_path / "out"), 0.875, method="threshold",
        reference="artefact",
    )  # fmt: skip
    assert manifest["achieved_fraction"] == pytest.approx(0.5, abs=2e-3)


@pytest.mark.parametrize("method", ["keep_probability", "threshold"])
def test_discarding_nothing_keeps_all(filtered, tmp_path, method):
    scores, out = os.path.join(filtered[0], "scores.parquet"), str(tmp_path / "out")
    manifest = filter_corpus(corpus(), None, scores, out, discard_fraction=0, method=method)
    assert manifest["counts"]["kept"] == N and manifest["expected_fraction"] == 0
    assert records(out, "dropped") == []


def test_a_run_that_died_is_done_again_and_its_scores_are_used(tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    real = filtering.score_files.write_json
    calls = []

    def die_before_the_manifest(path, content):
        calls.append(path)
        if path.endswith("/manifest.json"):
            raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(filtering.score_files, "write_json", die_before_the_manifest)
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(corpus(), Rater(), output_dir=out, discard_fraction=0.5, shard_bytes=9_000)
    assert "manifest.json" not in os.listdir(out)
    monkeypatch.undo()

    class NotAgain(Rater):
        def __call__(self, texts):
            raise AssertionError("scored twice")

    with pytest.raises(ConfigurationError, match='discard_fraction .was "1/2", is "9/10".*--fresh'):
        filter_corpus(corpus(), NotAgain(), output_dir=out, discard_fraction=0.9, shard_bytes=9_000)
    manifest = filter_corpus(corpus(), NotAgain(), output_dir=out, discard_fraction=0.9, fresh=True)
    files = [name for name in os.listdir(out) if name.startswith(("kept", "dropped"))]
    assert sorted(files) == ["dropped-00000-of-00001.jsonl", "kept-00000-of-00001.jsonl"]
    assert sorted([*files, "errors.jsonl"]) == sorted(manifest["files"])
    with pytest.raises(DataError, match="holds a filtered corpus already"):
        filter_corpus(corpus(), Rater(), output_dir=out, discard_fraction=0.9)


def test_scores_of_something_else_are_refused_and_leave_nothing(tmp_path):
    scores = str(tmp_path / "scores.jsonl")
    score_corpus(corpus(DOCUMENTS[:100]), Rater(), scores)
    out = str(tmp_path / "out")
    with pytest.raises(DataError, match="'d100' .source 'even'. has no score in"):
        filter_corpus(corpus(), scores=scores, output_dir=out, discard_fraction=0.5)
    assert os.listdir(out) == ["_work"]
    out = str(tmp_path / "other")
    with pytest.raises(DataError, match="50 scores of documents that are not in the corpus"):
        filter_corpus(corpus(DOCUMENTS[:50]), scores=scores, output_dir=out, discard_fraction=0.5)
    assert os.listdir(out) == ["_work"]
    out = str(tmp_path / "third")
    other = Rater()
    other.fingerprint = "cd" * 32
    with pytest.raises(DataError, match="another rater than the one given"):
        filter_corpus(corpus(DOCUMENTS[:100]), other, scores, output_dir=out, discard_fraction=0.5)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(discard_fraction=1.0), "discard_fraction is 1.0"),
        (dict(batch_size=0), "batch_size is 0"),
        (dict(method="top"), "method is 'top'"),
        (dict(reference="c4"), "reference is 'c4': choose one of corpus, artefact"),
        (dict(rater=None), "needs a rater or a score file"),
        (dict(shard_bytes=0), "shard_bytes is 0"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(tmp_path, settings, message):
    def read(skipped):
        raise AssertionError("read")

    arguments = dict(rater=Rater(), output_dir=str(tmp_path / "out"), discard_fraction=0.5)
    with pytest.raises(ConfigurationError, match=message):
        filter_corpus(Corpus("unread", read), **{**arguments, **settings})
    assert not (tmp_path / "out").exists()
