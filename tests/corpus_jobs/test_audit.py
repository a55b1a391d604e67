import json

import numpy as np
import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError
import gin

# Low scores are Russian and of a licence; high ones English, half of them of no known licence.
ROWS = [
    {
        "id": f"d{n}",
        "text": f"{n} {'привет' if n < 50 else 'hello'}{' 12345' * (n % 3 * 12)}",
        "source": "odd" if n % 2 else "even",
        **({"licence": "cc"} if n < 50 else {"licence": "mit"} if n < 75 else {}),
        "year": 2000 + n % 2,
    }
    for n in range(100)
]
SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, method="threshold", shard_bytes=1500)


def documents(dimension):
    return {name: (g["documents"], g["kept"]) for name, g in dimension.items()}


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_choice_is_audited_by_script_length_and_fields_of_files(tmp_path, kind):
    writer = {"jsonl": corpora.write_jsonl, "parquet": corpora.write_parquet}[kind]
    path = tmp_path / f"a.{kind}"
    writer(path, ROWS)
    setting = {"jsonl": "jsonl_corpus.label_fields", "parquet": "parquet_corpus.label_columns"}
    gin.parse_config(f"{setting[kind]} = ['licence', 'year', 'absent']")
    held_out = Corpus("held", lambda _: (make_document("x", "odd") for _ in range(100)))
    found = filter_corpus(
        str(path), corpora.NumberRater(), output_dir=str(tmp_path / "out"), held_out=held_out,
        **SETTINGS,
    )["audit"]  # fmt: skip
    by = found["dimensions"]
    assert documents(by["script"]) == {"Latin": (50, 50), "Cyrillic": (50, 0)}
    assert documents(by["licence"]) == {"cc": (50, 0), "mit": (25, 25), "(not known)": (25, 25)}
    assert documents(by["year"]) == {"2000": (50, 25), "2001": (50, 25)}
    assert documents(by["source"]) == {"even": (50, 25), "odd": (50, 25)}
    assert sum(g["documents"] for g in by["length"].values()) == 100
    assert by["script"]["Cyrillic"]["mean_score"] == np.mean(np.arange(50))
    assert by["script"]["Cyrillic"]["held_out_share"] == 0.0
    assert set(by) == {"source", "script", "length", "licence", "year"}
    notes = " ".join(found["notes"])
    assert "by script, the held-out set has less than half the share of 'Cyrillic'" in notes
    assert "by licence, what is kept has less than half the share of 'cc'" in notes


def test_a_corpus_that_is_no_files_keeps_its_labels_and_scores_are_audited(tmp_path):
    path = tmp_path / "a.jsonl"
    corpora.write_jsonl(path, ROWS)
    corpus = jsonl_corpus(str(path), label_fields=["licence"])
    scored = score_corpus(corpus, corpora.NumberRater(), str(tmp_path / "s.parquet"))
    by = scored["audit"]["dimensions"]
    assert by["licence"]["cc"]["documents"] == 50 and "kept" not in by["licence"]["cc"]
    assert scored["held_out"] is None and "not known" in scored["audit"]["notes"][-1]
    out = tmp_path / "out"
    by = filter_corpus(corpus, corpora.NumberRater(), output_dir=str(out), **SETTINGS)["audit"]
    assert documents(by["dimensions"]["licence"])["cc"] == (50, 0)
    kept = [json.loads(line) for line in corpora.lines(str(out), "kept")]
    assert kept[0]["labels"] == {"licence": "mit"} and "labels" not in kept[-1]


def test_what_a_rater_says_of_its_held_out_set_goes_with_its_scores(tmp_path):
    path, rater = tmp_path / "a.jsonl", corpora.NumberRater()
    corpora.write_jsonl(path, ROWS)
    rater.metadata = {"training": {"held_out": {"script": {"Latin": 300, "Cyrillic": 3}}}}
    scores = str(tmp_path / "s.parquet")
    score_corpus(str(path), rater, scores)
    found = filter_corpus(str(path), scores=scores, output_dir=str(tmp_path / "out"), **SETTINGS)[
        "audit"
    ]
    assert found["held_out"] == 303
    assert found["dimensions"]["script"]["Cyrillic"]["held_out_share"] == 3 / 303


@pytest.mark.parametrize("names, told", [("lang", "list of names"), (["source"], "'source'")])
def test_labels_that_cannot_be_are_refused(tmp_path, names, told):
    path = tmp_path / "a.jsonl"
    corpora.write_jsonl(path, ROWS)
    with pytest.raises(ConfigurationError, match=f"jsonl_corpus.label_fields.*{told}"):
        jsonl_corpus(str(path), label_fields=names)
