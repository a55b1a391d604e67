"""A prepared corpus is what `text_data` makes of the same corpus in memory, however it was made."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest

from dr_keras.corpus_jobs.preparing import prepare_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.mixture import mixture_corpus
from dr_keras.data.documents import make_document
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.prepare import corpus_from_path, text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.tokenizers import byte_tokenizer, wordpiece_tokenizer
from dr_keras.errors import DataError
import gin

HALF = {"train": 0.4, "outer": 0.2, "validation": 0.2, "test": 0.2}
SETTINGS = dict(tokenizer=byte_tokenizer(), sequence_length=16, fractions=HALF)
SMALL = dict(rows_per_shard=40, shard_bytes=2000)


def rows(count, first=0):
    """Records of all lengths from 1 byte, some repeated, in groups, of a level."""
    generator = np.random.default_rng(first)
    found = []
    for n in range(first, first + count):
        words = " ".join(f"w{generator.integers(99)}" for _ in range(n * 7 % 23 + 1))
        text = f"{words} {n}" if n % 4 else words[: n % 3 + 1]
        found.append(
            {
                "id": f"d{n}",
                "text": found[-5]["text"] if n % 9 == 8 and n - first > 5 else text,
                "source": f"s{n % 3}",
                "page": f"p{n // 6}" if n % 2 else None,
                "error": n % 5 / 5 if n % 3 else None,
            }
        )
    return found


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def same(found, expected):
    """Asserts that two sets of examples have the same rows."""
    tokens = found.features["tokens"][:]
    np.testing.assert_array_equal(tokens, expected.features["tokens"])
    assert tokens.dtype == np.int32
    for name in ("ids", "sources", "corpora"):
        assert list(getattr(found, name)[:]) == list(getattr(expected, name)), name
    assert sorted(found.labels) == sorted(expected.labels)
    for name, values in expected.labels.items():
        np.testing.assert_array_equal(np.asarray(found.labels[name][:]), values)
    assert found.weights == expected.weights and found.end_id == expected.end_id


def same_parts(found, expected):
    for part, examples in expected.items():
        same(getattr(found, part), examples)
    assert (found.own_test is None) == (expected.own_test is None)
    if expected.own_test is not None:
        same(found.own_test, expected.own_test)
    assert (found.target, tuple(found.notes)) == (expected.target, tuple(expected.notes))


def content(folder):
    """Path -> SHA-256 of every file below a folder."""
    paths = [os.path.join(where, name) for where, _, names in os.walk(folder) for name in names]
    return {
        os.path.relpath(path, folder): hashlib.sha256(open(path, "rb").read()).hexdigest()
        for path in paths
    }


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("minimum", [2, 9])
def test_files_give_the_rows_of_text_data(tmp_path, packing, minimum):
    path = write(tmp_path / "c.jsonl", rows(300))
    made = dict(SETTINGS, packing=packing, minimum_tokens=minimum)
    manifest = prepare_corpus(path, str(tmp_path / "out"), **made, **SMALL)
    same_parts(
        prepared_data(str(tmp_path / "out"), verify=True), text_data(corpus_from_path(path), **made)
    )
    assert sorted(os.listdir(tmp_path / "out")) == [
        "manifest.json", "outer", "test", "train", "validation"
    ]  # fmt: skip
    assert len(manifest["parts"]["train"]["shards"]) > 3


@pytest.fixture
def known_fields():
    """Groups and levels are read."""
    for field, value in (("group_field", "page"), ("level_field", "error")):
        gin.bind_parameter(f"jsonl_corpus.{field}", value)


@pytest.mark.parametrize("packing", [False, True])
@pytest.mark.parametrize("own_share", [None, 0.6])
def test_a_target_is_held_out_beside_its_corpus(tmp_path, known_fields, packing, own_share):
    own = write(tmp_path / "own.jsonl", rows(400))
    of_target = rows(150, 1000) + rows(400)[::11] + rows(20, 1000)[3:5]
    target = write(tmp_path / "target.jsonl", of_target)
    made = dict(SETTINGS, packing=packing, target_share=own_share)
    manifest = prepare_corpus(own, str(tmp_path / "out"), target=target, **made, **SMALL)
    corpora = {"corpus": corpus_from_path(own), "target": corpus_from_path(target)}
    expected = text_data(**corpora, **made)
    same_parts(prepared_data(str(tmp_path / "out")), expected)
    counts = manifest["counts"]
    assert counts["documents"] == 400 and counts["shared_with_target"] > 10
    assert counts["target_duplicates"] >= 2 and counts["duplicates"] > 30
    assert np.isfinite(expected.train.labels["level"]).any()


def test_mixtures_keep_their_corpora_and_weights(tmp_path):
    one, two = (write(tmp_path / f"{name}.jsonl", rows(120, first))
                for name, first in (("one", 0), ("two", 500)))  # fmt: skip
    corpus = mixture_corpus([jsonl_corpus(one), jsonl_corpus(two)], [3, 1])
    for packing in (False, True):
        made, out = dict(SETTINGS, packing=packing), str(tmp_path / f"out{packing}")
        manifest = prepare_corpus(corpus, out, **made, **SMALL)
        same_parts(prepared_data(out), text_data(corpus, **made))
        assert manifest["weights"] == {"one": 0.75, "two": 0.25}
        assert [name for name, _ in manifest["parts"]["train"]["corpora"]] == ["one", "two"]


def elsewhere(work, units, tool, progress):
    """A runner as workers are: they get copies, in any order, and may do a unit twice."""
    for unit in [*reversed(units), *units[:2]]:
        there, sent = pickle.loads(pickle.dumps((work, unit)))
        there.run(sent, there.load())
        progress(unit.size)


def test_the_bytes_know_nothing_of_how_the_work_was_cut_or_shared(tmp_path):
    """Files as one or as three, small shards or one, in this process or in others."""
    records = rows(150)
    write(tmp_path / "c.jsonl", records)
    (tmp_path / "several").mkdir()
    for n in range(3):
        write(tmp_path / "several" / f"c-{n}.jsonl", records[50 * n : 50 * n + 50])
    gin.bind_parameter("jsonl_corpus.name", "c")
    found = []
    ways = [
        ("c.jsonl", {}),
        ("c.jsonl", {"shard_bytes": 1500}),
        ("several", {"shard_bytes": 2000, "runner": elsewhere}),
    ]
    for n, (path, more) in enumerate(ways):
        out = str(tmp_path / f"out{n}")
        prepare_corpus(
            str(tmp_path / path), out, packing=True, rows_per_shard=33, **SETTINGS, **more
        )
        found.append({name: sum for name, sum in content(out).items() if name != "manifest.json"})
        with open(f"{out}/manifest.json") as file:
            found[-1]["parts"] = json.load(file)["parts"]
    assert found[0] == found[1] == found[2] and len(found[0]) > 20
    settings = dict(packing=True, rows_per_shard=33, **SETTINGS)
    elsewhere_too = prepare_corpus(str(tmp_path / "c.jsonl"), "ram://prepared/out", **settings)
    assert elsewhere_too["parts"] == found[0]["parts"]


def test_near_duplicates_are_left_out_wherever_they_lie(tmp_path):
    pytest.importorskip("datasketch")
    from dr_keras.corpus_jobs.near_duplicates import NearDuplicates

    texts = [record["text"] for record in rows(120) if len(record["text"]) > 60]
    records = [{"text": text} for text in [*texts, *(f"{text} more" for text in texts[::3])]]
    path, near = write(tmp_path / "c.jsonl", records), NearDuplicates(threshold=0.6)
    parts = []
    for shard_bytes in (500, 1 << 20):
        out = str(tmp_path / f"out{shard_bytes}")
        settings = dict(near_duplicates=near, shard_bytes=shard_bytes, **SETTINGS)
        manifest = prepare_corpus(path, out, **settings)
        assert manifest["counts"]["near_duplicates"] > len(texts) / 4
        parts.append(manifest["parts"])
    assert parts[0] == parts[1]


def test_the_rows_of_a_large_part_go_through_several_groups(tmp_path, monkeypatch):
    monkeypatch.setattr("dr_keras.corpus_jobs.cutting.ROWS_A_GROUP", 7)
    path = write(tmp_path / "c.jsonl", rows(200))
    for packing in (False, True):
        out, made = str(tmp_path / f"out{packing}"), dict(SETTINGS, packing=packing)
        manifest = prepare_corpus(path, out, rows_per_shard=31, shard_bytes=900, **made)
        expected = text_data(corpus_from_path(path), **made)
        same_parts(prepared_data(out), expected)
        train, part = expected.train, manifest["parts"]["train"]
        assert part["rows"] == len(train)
        assert part["tokens"] == np.count_nonzero(train.features["tokens"])
        rows_by_source = {name: counts["rows"] for name, counts in part["sources"].items()}
        assert rows_by_source == train.counts_by_source()


def test_a_vocabulary_goes_with_the_corpus(tmp_path):
    words = ["[PAD]", "[UNK]", "[SEP]", *(f"w{n}" for n in range(90)), *map(str, range(50))]
    (tmp_path / "words.txt").write_text("\n".join(words))
    tokenizer = wordpiece_tokenizer(str(tmp_path / "words.txt"))
    path = write(tmp_path / "c.jsonl", rows(120))
    made = dict(SETTINGS, tokenizer=tokenizer, sequence_length=8, packing=True)
    manifest = prepare_corpus(path, str(tmp_path / "out"), runner=elsewhere, **made)
    assert manifest["dtype"] == "uint8" and "words.txt" in os.listdir(
        tmp_path / "out" / "tokenizer"
    )
    os.remove(tmp_path / "words.txt")
    same_parts(prepared_data(str(tmp_path / "out")), text_data(corpus_from_path(path), **made))


def test_a_choice_of_records_holds(tmp_path):
    path = write(tmp_path / "c.jsonl", rows(200))
    gin.bind_parameter("jsonl_corpus.only", {"source": ["s0", "s1"]})
    manifest = prepare_corpus(path, str(tmp_path / "out"), **SETTINGS, **SMALL)
    same_parts(prepared_data(str(tmp_path / "out")), text_data(corpus_from_path(path), **SETTINGS))
    assert 0 < sum(manifest["counts"]["skipped"].values()) < 200


def test_a_source_that_is_no_unicode_is_named(tmp_path):
    documents = [make_document(f"text {n}", "\ud800" if n == 3 else "s") for n in range(9)]
    corpus = Corpus("c", lambda skipped: iter(documents))
    with pytest.raises(DataError, match=r"document 1 of piece 0 of the corpus 'c', or .*'\\ud800'"):
        prepare_corpus(corpus, str(tmp_path / "out"), **SETTINGS)
