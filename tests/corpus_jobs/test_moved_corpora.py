"""A corpus is known by what its files are: scores and unfinished jobs go where it goes."""

import json
import os
import shutil

import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.errors import ConfigurationError, DataError

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, shard_bytes=2000)
ROWS = corpora.rows(120)


@pytest.fixture
def first(tmp_path):
    """A corpus of two files."""
    folder = tmp_path / "first"
    (folder / "deep").mkdir(parents=True)
    corpora.write_jsonl(folder / "a.jsonl", ROWS[:70])
    corpora.write_jsonl(folder / "deep" / "b.jsonl", ROWS[70:])
    return folder


def typed_absolutely(folder, monkeypatch):
    return [str(folder)]


def typed_relatively(folder, monkeypatch):
    monkeypatch.chdir(folder.parent)
    return [folder.name]


def typed_inside(folder, monkeypatch):
    monkeypatch.chdir(folder)
    return ["a.jsonl", "deep/b.jsonl"]


def typed_with_a_slash(folder, monkeypatch):
    return [f"{folder}/"]


def typed_as_url(folder, monkeypatch):
    return [f"file://{folder}/a.jsonl", f"file://{folder}/deep/b.jsonl"]


def moved(folder, monkeypatch):
    return [str(folder.rename(folder.parent / "second"))]


def copied(folder, monkeypatch):
    shutil.copytree(folder, folder.parent / "second", copy_function=shutil.copy)
    for name in ("a.jsonl", "deep/b.jsonl"):
        os.utime(folder.parent / "second" / name, (2_000_000_000, 2_000_000_000))
    shutil.rmtree(folder)
    return [str(folder.parent / "second")]


def touched(folder, monkeypatch):
    os.utime(folder / "a.jsonl", (1, 1))
    return [str(folder)]


WAYS = [typed_absolutely, typed_relatively, typed_inside, typed_with_a_slash, typed_as_url, moved,
        copied, touched]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_scores_are_found_again(first, monkeypatch, way):
    made = score_corpus(str(first), corpora.NumberRater())
    paths = way(first, monkeypatch)
    rater, out = corpora.NumberRater(), str(first.parent / "out")
    assert score_corpus(paths, rater) == made
    manifest = filter_corpus(paths, rater, output_dir=out, **SETTINGS)
    assert rater.texts == 0 and manifest["counts"]["documents"] == 120
    named = {**SETTINGS, "output_dir": str(first.parent / "other")}
    filter_corpus(paths, scores=manifest["scores"], **named)
    assert corpora.output_bytes(out) == corpora.output_bytes(named["output_dir"])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("job", ["score", "filter"])
def test_unfinished_jobs_go_on(first, monkeypatch, way, job):
    rater = corpora.NumberRater(die_after=60)
    out = str(first.parent / "out")

    def run(paths, rater):
        if job == "score":
            return score_corpus(paths, rater, shard_bytes=2000)
        return filter_corpus(paths, rater, output_dir=out, **SETTINGS)

    with pytest.raises(KeyboardInterrupt):
        run(str(first), rater)
    again = corpora.NumberRater()
    run(way(first, monkeypatch), again)
    assert 120 <= rater.texts + again.texts < 150 and again.texts < 80
    left = [name for _, folders, files in os.walk(first.parent) for name in (*folders, *files)]
    assert not [name for name in left if name.endswith((".unfinished", "_work"))]


def test_an_output_that_moves_with_its_corpus_goes_on(first, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(
            str(first), corpora.NumberRater(die_after=60), output_dir=str(first / "out"),
            score_file=str(first / "s.parquet"), reference="artefact", **SETTINGS,
        )  # fmt: skip
    second = first.rename(tmp_path / "second")
    rater = corpora.NumberRater()
    manifest = filter_corpus(
        str(second), rater, output_dir=str(second / "out"), score_file=str(second / "s.parquet"),
        reference="artefact", **SETTINGS,
    )  # fmt: skip
    assert rater.texts < 80 and manifest["counts"]["documents"] == 120
    assert {row["path"] for row in manifest["input"]} == {
        str(second / "a.jsonl"), str(second / "deep" / "b.jsonl")
    }  # fmt: skip


def rewrite(path, old, new):
    """Other bytes of the same size, and the same time as before."""
    stat = os.stat(path)
    content = path.read_bytes()
    assert old in content and len(old) == len(new)
    path.write_bytes(content.replace(old, new))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize("named", [True, False])
def test_a_text_that_changed_under_its_id_is_refused(first, tmp_path, named):
    scores = str(tmp_path / "s.parquet") if named else None
    made = score_corpus(str(first), corpora.NumberRater(), scores)
    settings = dict(output_dir=str(tmp_path / "out"), **SETTINGS)
    settings |= {"scores": scores} if named else {"rater": corpora.NumberRater()}
    rewrite(first / "a.jsonl", b"7 ", b"8 ")  # not even size and time tell
    message = (
        "corpus is not the one that .* is about: a text changed under its id.*text_fingerprint"
    )
    with pytest.raises(DataError, match=message):
        filter_corpus(str(first), **settings)
    assert not (tmp_path / "out").exists()
    if named:  # where they tell, the file is named
        os.utime(first / "a.jsonl", (1, 1))
        with pytest.raises(
            DataError, match=r"since then: input .*a.jsonl \(was written to since\)"
        ):
            filter_corpus(str(first), **settings)
        old = {k: v for k, v in made.items() if k != "text_fingerprint"}
        old["input"] = [{k: f[k] for k in ("path", "size", "modified")} for f in made["input"]]
        with open(f"{scores}.manifest.json", "w") as file:  # as an earlier version wrote it
            json.dump(old, file)
        with pytest.raises(DataError, match="input_fingerprint"):
            filter_corpus(str(first), **settings)
        os.remove(f"{scores}.manifest.json")  # nobody vouches for it, as for a user's own file
        assert filter_corpus(str(first), **settings)["counts"]["documents"] == 120


def test_scores_of_an_earlier_version_serve(first, tmp_path):
    made = score_corpus(str(first), corpora.NumberRater())
    (manifest,) = (first / "_scores").glob("*.manifest.json")
    old = {k: v for k, v in made.items() if k != "text_fingerprint"}
    old["input"] = [
        {"path": f["path"], "size": f["size"], "modified": f["modified"] // 10**9 * 10**9}
        for f in made["input"]
    ]  # fmt: skip
    old["fields"].pop("max_line_bytes")  # a setting that it did not know
    manifest.write_text(json.dumps(old))
    for name in (manifest.name, manifest.name.removesuffix(".manifest.json")):
        os.rename(first / "_scores" / name, first / "_scores" / f"a-abababab-0{name[11:]}")
    rater = corpora.NumberRater()
    filter_corpus(str(first), rater, output_dir=str(tmp_path / "out"), **SETTINGS)
    assert rater.texts == 0
    old["fields"]["text_field"] = "body"
    (first / "_scores" / f"a-abababab-0{manifest.name[11:]}").write_text(json.dumps(old))
    filter_corpus(str(first), rater, output_dir=str(tmp_path / "other"), **SETTINGS)
    assert rater.texts == 120  # those are of something else


@pytest.mark.parametrize(
    "change, message",
    [
        ("added", r"input .*c.jsonl \(is new\)"),
        ("removed", r"input .*b.jsonl \(is missing\)"),
        ("grown", r"input .*a.jsonl \(has changed: \d+ bytes then, \d+ now\)"),
        ("rewritten", r"input .*a.jsonl \(was written to since\)"),
        ("turned", "the order of the input files"),
        ("rater", "it was written by another rater"),
    ],
)
def test_other_corpora_get_other_scores(first, tmp_path, change, message):
    paths = [str(first / "a.jsonl"), str(first / "deep" / "b.jsonl")]
    scores = str(tmp_path / "s.jsonl")
    rater = corpora.NumberRater()
    score_corpus(paths, rater), score_corpus(paths, rater, scores)
    if change == "added":
        corpora.write_jsonl(first / "c.jsonl", corpora.rows(3))
        paths.append(str(first / "c.jsonl"))
    elif change == "removed":
        paths.pop()
    elif change == "grown":
        corpora.write_jsonl(first / "a.jsonl", corpora.rows(71))
    elif change == "rewritten":
        rewrite(first / "a.jsonl", b"end", b"END")
        os.utime(first / "a.jsonl")
    elif change == "turned":
        paths.reverse()
    else:
        rater.fingerprint = "cd" * 32
    rater.texts = 0
    with pytest.raises(DataError, match=f"s.jsonl exists already, and .*{message}"):
        score_corpus(paths, rater, scores)
    assert rater.texts == 0
    assert score_corpus(paths, rater)["documents"] == rater.texts > 0  # where nobody named a file


def test_shards_that_nobody_can_vouch_for_are_done_again(first, tmp_path):
    """The first shard of a file has its digest; without it the others of it are redone."""
    out = tmp_path / "out"
    settings = dict(output_dir=str(out), score_file=str(tmp_path / "s.parquet"), **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(str(first), corpora.NumberRater(die_after=40), **settings)
    done = sorted((out / "_work" / "scored").iterdir())
    assert len(done) >= 2
    done[0].unlink()
    os.utime(first / "a.jsonl", (1, 1))
    rater = corpora.NumberRater()
    filter_corpus(str(first), rater, **settings)
    assert rater.texts == 120


def test_a_file_that_is_written_to_while_it_is_scored(first, tmp_path):
    class Meddling(corpora.NumberRater):
        def score_texts(self, texts, scoring):
            with open(first / "a.jsonl", "a") as file:
                file.write("\n")
            return super().score_texts(texts, scoring)

    with pytest.raises(DataError, match="a.jsonl was written to while it was scored"):
        score_corpus(str(first), Meddling(), str(tmp_path / "s.jsonl"))
    assert not (tmp_path / "s.jsonl").exists()


def test_a_job_of_an_earlier_version_is_not_mixed_in(first, tmp_path):
    out = tmp_path / "out"
    settings = dict(output_dir=str(out), **SETTINGS)
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(str(first), corpora.NumberRater(die_after=40), **settings)
    job = json.loads((out / "_work" / "job.json").read_text())
    del job["layout"]
    (out / "_work" / "job.json").write_text(json.dumps(job))
    with pytest.raises(ConfigurationError, match="layout .was null.*--fresh"):
        filter_corpus(str(first), corpora.NumberRater(), **settings)
    filter_corpus(str(first), corpora.NumberRater(), fresh=True, **settings)
