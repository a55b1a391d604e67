"""A field may say how bad a text is known to be."""

import json

import pytest

from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.errors import ConfigurationError, DataError


@pytest.fixture
def path(tmp_path):
    def write(*records):
        file = tmp_path / "found.jsonl"
        file.write_text("".join(json.dumps(r) + "\n" for r in records))
        return str(file)

    return write


def known(path, **settings):
    documents = jsonl_corpus(path, **settings).documents()
    return [(document.level, document.damage) for document in documents]


def test_a_number_lies_between_clean_and_as_bad_as_can_be(path):
    file = path(*({"text": f"t{k}", "score": s} for k, s in enumerate([100, 75, 0, -5, None])))
    file_and = {"path": file, "level_field": "score"}
    expected = [(0.0, "clean"), (0.25, "as found"), (1.0, "as found"), (1.0, "as found")]
    assert known(**file_and, levels=(100, 0)) == [*expected, (None, None)]
    assert known(file) == [(None, None)] * 5
    assert [level for level, _ in known(**file_and)] == [1.0, 1.0, 0.0, 0.0, None]


def test_words_have_levels_by_name(path):
    file = path({"text": "a", "k": "clean"}, {"text": "b", "k": "raw"}, {"text": "c", "k": "other"})
    found = known(file, level_field="k", levels={"clean": 0, "raw": 0.5})
    assert found == [(0.0, "clean"), (0.5, "raw"), (None, None)]


@pytest.mark.parametrize("levels", [(1.0,), (0.0, 0.0), ("a", "b"), (0.0, float("nan"))])
def test_levels_that_cannot_be_read(path, levels):
    with pytest.raises(ConfigurationError, match=r"jsonl_corpus.levels is .*such as \(100, 0\)"):
        list(jsonl_corpus(path({"text": "a"}), levels=levels).documents())
    with pytest.raises(ConfigurationError, match=r"levels\['raw'\] is 2.*lies in \[0, 1\]"):
        list(jsonl_corpus(path({"text": "a"}), levels={"raw": 2}).documents())


def test_what_is_no_number_is_named_with_its_line(path):
    file = path({"text": "a", "rate": 0.1}, {"text": "b", "rate": "high"})
    with pytest.raises(DataError, match="line 2.*field 'rate' is no number.*'high'"):
        known(file, level_field="rate")
