"""A prepared corpus is the same examples as in memory, or a word on why it cannot be read."""

import json
import os
import shutil

import numpy as np
from prepared_corpora import manifest_of, write_manifest, write_prepared
import pytest

from dr_keras.data.columns import Column
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.prepared_manifest import is_prepared, token_dtype
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.target_counts import count_targets, total_targets

FRACTIONS = {"train": 0.55, "outer": 0.15, "validation": 0.15, "test": 0.15}
COLUMNS = ("ids", "sources", "corpora")


def corpus_of(count=60, name="main"):
    def read(skipped):
        for k in range(count):
            yield make_document(f"{name} document {k} " + "text " * (k % 9), f"source {k % 3}")

    corpus = Corpus(name, read)
    corpus.weights = {name: 1.0}
    return corpus


def in_memory(**options):
    return text_data(corpus_of(), byte_tokenizer(), 16, fractions=FRACTIONS, **options)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return write_prepared(tmp_path_factory.mktemp("kept") / "p", in_memory(), byte_tokenizer())


@pytest.fixture
def prepared(kept, tmp_path):
    """A copy that a test may damage."""
    return shutil.copytree(kept, tmp_path / "prepared")


@pytest.mark.parametrize("options", [{}, {"packing": True}, {"target": True}], ids=str)
def test_all_that_is_read_is_what_is_in_memory(tmp_path, options):
    if "target" in options:
        options = {"target": corpus_of(40, "aim"), "target_share": 0.9}
    wanted = in_memory(**options)
    found = prepared_data(write_prepared(tmp_path / "p", wanted, byte_tokenizer()), verify=True)
    assert found.disjoint and found.target == wanted.target
    assert list(found.notes) == list(wanted.notes)
    pairs = [(one, getattr(wanted, part)) for part, one in found.items()]
    if wanted.own_test:
        pairs.append((found.own_test, wanted.own_test))
    for one, same in pairs:
        assert isinstance(one.features["tokens"], Column)
        assert one.features["tokens"].dtype == np.int32
        assert np.array_equal(one.features["tokens"][:], same.features["tokens"])
        for name in COLUMNS:
            assert getattr(one, name)[:].tolist() == getattr(same, name).tolist()
        assert one.labels.keys() == same.labels.keys()
        assert np.array_equal(one.labels["level"], same.labels["level"], equal_nan=True)
        assert one.labels["damage"].tolist() == same.labels["damage"].tolist()
        assert one.counts_by_source() == same.counts_by_source()
        assert total_targets(one) == count_targets(same).sum() == count_targets(one).sum()
        assert one.text(1) == same.text(1) and one.name == same.name
        assert one.weights == same.weights and one.end_id == same.end_id
    if options.get("packing"):
        held = found.train.labels["documents"]
        assert np.array_equal(held[:], wanted.train.labels["documents"]) and held.dtype == np.int64


def test_its_fingerprint_needs_no_tokens_and_follows_every_file(prepared, monkeypatch):
    def refuse(self, rows):
        raise AssertionError("rows were read")

    with monkeypatch.context() as patch:
        patch.setattr("dr_keras.data.array_files.ArrayFile.read", refuse)
        patch.setattr("dr_keras.data.parquet_columns.ParquetColumn.read", refuse)
        first = prepared_data(prepared)
        some = first.train.take(slice(3, 9)).thinned(4).fingerprint
        assert some == prepared_data(prepared).train.take(slice(3, 9)).thinned(4).fingerprint
        known = first.fingerprint
    again = prepared_data(write_prepared(prepared / "again", in_memory(), byte_tokenizer()))
    assert again.fingerprint == known
    other = text_data(corpus_of(61), byte_tokenizer(), 16, fractions=FRACTIONS)
    other = prepared_data(write_prepared(prepared / "other", other, byte_tokenizer()))
    assert other.fingerprint != known


def damaged(prepared, change):
    manifest = manifest_of(prepared)
    change(manifest)
    write_manifest(prepared, manifest)


CHANGES = [
    (lambda m: m.update(version=2, dr_keras="9.9"), "version 2, made by dr_keras 9.9"),
    (lambda m: m["parts"].pop("outer"), "lacks parts.outer"),
    (lambda m: m.update(dtype="uint8"), "holds uint16"),
    (lambda m: m["made"].update(sequence_length=17), "holds uint16"),
    (lambda m: m.update(vocabulary_size="many"), "vocabulary_size, which should be"),
    (lambda m: m["parts"]["train"].update(rows=7), "in the shards of parts.train"),
    (lambda m: m["parts"]["train"]["corpora"][0].__setitem__(0, "x"), "another fingerprint"),
    (
        lambda m: m["parts"]["test"]["shards"][0]["tokens"].update(file="../../etc/passwd"),
        "names|which should be a path below",
    ),
    (lambda m: m.update(format="something else"), "not the manifest of a prepared corpus"),
]


@pytest.mark.parametrize("change, said", CHANGES, ids=[said[:12] for _, said in CHANGES])
def test_a_manifest_that_was_changed_is_named(prepared, change, said):
    damaged(prepared, change)
    with pytest.raises(DataError, match=said):
        prepared_data(prepared)


def test_a_folder_that_is_not_whole_is_named(prepared):
    tokens = prepared / "train" / sorted(os.listdir(prepared / "train"))[-1]
    whole = tokens.read_bytes()
    tokens.write_bytes(whole[:-5])
    with pytest.raises(DataError, match=f"{tokens.name} has .* the manifest says"):
        prepared_data(prepared)
    tokens.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    prepared_data(prepared)
    with pytest.raises(DataError, match=f"{tokens.name} holds something else than was prepared"):
        prepared_data(prepared, verify=True)
    tokens.unlink()
    with pytest.raises(DataError, match=f"{tokens.name} is missing"):
        prepared_data(prepared)
    tokens.write_bytes(whole)
    (prepared / "manifest.json").unlink()
    with pytest.raises(DataError, match="has no manifest.json: its preparation did not finish"):
        is_prepared(prepared)
    with pytest.raises(DataError, match="did not finish. The same dr-keras prepare command"):
        prepared_data(prepared)
    (prepared / "_work").mkdir()
    (prepared / "_work" / "job.json").write_text(json.dumps({"format": "dr_keras prepared corpus"}))
    with pytest.raises(DataError, match="did not finish"):
        is_prepared(prepared)


def test_other_settings_than_it_was_prepared_with_are_refused_with_those_that_fit(kept):
    assert is_prepared(kept)
    with pytest.raises(ConfigurationError, match="set SEQUENCE_LENGTH = 16 "):
        prepared_data(kept, sequence_length=32)

    class Other(type(byte_tokenizer())):
        def config(self):
            return {"kind": "wordpiece", "vocabulary": {"file": "v.txt", "sha256": "0"}}

    with pytest.raises(ConfigurationError, match=r"TOKENIZER = @byte_tokenizer\(\)"):
        prepared_data(kept, Other())
    assert prepared_data(kept, byte_tokenizer(), 16).train.end_id == byte_tokenizer().end_id


def test_tokens_take_the_smallest_type():
    sizes = {256: "uint8", 257: "uint16", 258: "uint16", 65536: "uint16", 65537: "uint32"}
    assert {size: token_dtype(size).name for size in sizes} == sizes
