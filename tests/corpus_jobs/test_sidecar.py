"""Scores in files of the corpus' own shape."""

import json
import os
import shutil

import pyarrow.parquet
import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs import sidecar
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.prepare import find_corpus_files
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files


def read(path):
    return pyarrow.parquet.read_table(path).to_pydict()


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """A corpus of three files, one with blank and malformed lines, scored in small shards."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "in" / "deep").mkdir(parents=True)
    rows = corpora.rows(90)
    corpora.write_jsonl(folder / "in" / "a.jsonl", rows[:40])
    lines = [json.dumps(row) for row in rows[40:80]]
    lines[3:3] = ["", "{broken"]  # blank lines are no records
    lines[20:20] = ["", '{"id": "e", "text": "  "}', "{"]
    (folder / "in" / "b.jsonl").write_text("{first\n" + "\n".join([*lines, "{last"]) + "\n")
    corpora.write_jsonl(folder / "in" / "deep" / "c.jsonl.gz", rows[80:])
    output, sides = str(folder / "s.parquet"), str(folder / "sides")
    manifest = score_corpus(
        str(folder / "in"), corpora.NumberRater(), output, shard_bytes=1500, sidecar=sides
    )
    return folder, output, sides, manifest


def test_each_file_has_its_own_row_for_row(scored):
    folder, output, sides, manifest = scored
    found = sidecar.write_sidecar(output, sides)  # as it is
    names = ["a.parquet", "b.parquet", os.path.join("deep", "c.parquet")]
    assert sorted(found["files"]) == names and found["rater"] == manifest["rater"]
    assert read(f"{sides}/a.parquet") == {
        "id": [f"d{n}" for n in range(40)],
        "score": [float(n) for n in range(40)],
        "percentile": pytest.approx([n / 1000 for n in range(40)]),
    }
    records = [line for line in (folder / "in" / "b.jsonl").read_text().split("\n") if line]
    expected = []
    for line in records:
        try:
            record = json.loads(line)
        except ValueError:
            record = {"text": ""}
        expected.append(record["id"] if record["text"].strip() else None)
    rows = read(f"{sides}/b.parquet")
    assert rows["id"] == expected and expected.count(None) == 5 and len(expected) == 45
    assert [s is None for s in rows["score"]] == [i is None for i in expected]
    assert found["files"]["b.parquet"] == {"of": "b.jsonl", "rows": 45, "without_score": 5}
    assert read(f"{sides}/deep/c.parquet")["score"] == [float(n) for n in range(80, 90)]
    # together they are the score file
    ids = [id for name in names for id in read(f"{sides}/{name}")["id"] if id]
    assert ids == score_files.read_scores(output).ids
    schema = pyarrow.parquet.read_schema(f"{sides}/a.parquet")
    assert [str(field.type) for field in schema] == ["string", "float", "float"]


def test_scores_that_exist_are_cut_without_a_rater(scored, tmp_path):
    folder, output, _, _ = scored
    dead = corpora.NumberRater(die_after=0)
    score_corpus(
        str(folder / "in"), dead, output, shard_bytes=1500, sidecar=str(folder / "in" / "sides")
    )
    assert read(folder / "in" / "sides" / "a.parquet")["score"][:2] == [0.0, 1.0]
    # and they are no part of the corpus then, nor is what was left of it by a killed process
    shutil.copytree(folder / "in" / "sides", folder / "in" / "x.unfinished")
    (folder / "in" / "x.unfinished" / "job.json").write_text("{}")
    for path in (folder / "in" / "x.unfinished").glob("**/manifest.json"):
        path.unlink()
    score_corpus(str(folder / "in"), dead, output, shard_bytes=1500)
    found = find_corpus_files(str(folder / "in"))
    assert len(found.paths) == 3
    about = {os.path.relpath(path, folder): what for path, what in found.passed_over.items()}
    assert about["in/sides/deep/c.parquet"] == "of scores by file"
    assert about["in/x.unfinished/deep/c.parquet"] == "what an unfinished job needs"


def test_what_cannot_be_cut_is_refused(scored, tmp_path):
    folder, output, sides, _ = scored
    (tmp_path / "taken").mkdir()
    with pytest.raises(DataError, match="holds something else: name another folder"):
        sidecar.write_sidecar(output, str(tmp_path / "taken"))
    with pytest.raises(ConfigurationError, match="need a corpus of files of records"):
        score_corpus(
            Corpus("none", lambda skipped: iter(())), corpora.NumberRater(),
            str(tmp_path / "s.jsonl"), sidecar=str(tmp_path / "x"),
        )  # fmt: skip
    earlier = score_files.read_manifest(output)
    for file in earlier["input"]:
        del file["documents"]
    score_files.write_json(str(tmp_path / "s.parquet.manifest.json"), earlier)
    with pytest.raises(DataError, match="earlier version.*score the corpus again"):
        sidecar.write_sidecar(str(tmp_path / "s.parquet"), str(tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_names_that_would_be_one_keep_all_of_theirs():
    names = [
        "a.jsonl",
        "a.jsonl.gz",
        "w/b.parquet",
        "c.json-00000-of-00002",
        "c.json-00001-of-00002",
    ]
    assert sidecar.output_names(names) == [
        "a.jsonl.parquet", "a.jsonl.gz.parquet", "w/b.parquet",
        "c.json-00000-of-00002.parquet", "c.json-00001-of-00002.parquet",
    ]  # fmt: skip
