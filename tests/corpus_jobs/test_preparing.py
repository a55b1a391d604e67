"""A prepared corpus is what `text_data` makes of the same corpus in memory, however it was made."""

import hashlib
import json
import os

import numpy as np
import pytest

from dr_keras.corpus_jobs.preparing import prepare_corpus
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.mixture import mixture_corpus
from dr_keras.data.documents import make_document
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.prepare import corpus_from_path, text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.tokenizers import byte_tokenizer

HALF = {"train": 0.4, "outer": 0.2, "validation": 0.2, "test": 0.2}
SETTINGS = dict(tokenizer=byte_tokenizer(), sequence_length=16, fractions=HALF)
SMALL = dict(rows_per_shard=40, shard_bytes=2000)


def rows(count, first=0):
    """Records of all lengths from 1 byte, some repeated, in groups, of a level."""
    generator = np.random.default_rng(first)
    found = []
    for n in range(first, first + count):
        words = " ".join(f"w{generator.integers(99)}" for _ in range(n * 7 % 23 + 1))
        found.append(
            {
                "id": f"d{n}",
                "text": found[-5]["text"] if n % 9 == 8 else f"{words} {n}" if n % 4 else words[:n % 3 + 1],
                "source": f"s{n % 3}",
                "page": f"p{n // 6}" if n % 2 else None,
                "error": n % 5 / 5 if n % 3 else None,
            }
        )  # fmt: skip
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
