"""Text becomes four disjoint parts, or a word on why it cannot."""

import itertools
import json

import numpy as np
import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import corpus_from_path, corpus_part, split_documents, text_data
from dr_keras.data.splits import part_of
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError
import gin

HALF = {"train": 0.4, "outer": 0.2, "validation": 0.2, "test": 0.2}


def texts(label, count=60):
    return [f"{label} document number {index}" for index in range(count)]


def corpus_of(values, name="main", weights=None):
    corpus = Corpus(name, lambda skipped: (make_document(text, name) for text in values))
    corpus.weights = weights
    return corpus


def prepare(corpus, **options):
    return text_data(corpus, byte_tokenizer(), 16, **{"fractions": HALF, **options})


def originals(examples):
    return {id.split("#")[0] for id in examples.ids}


def test_parts_are_disjoint_and_hold_every_document_whole():
    parts = prepare(corpus_of(texts("a")))
    ids = {name: originals(part) for name, part in parts.items()}
    for one, two in itertools.combinations(ids.values(), 2):
        assert not one & two
    assert set().union(*ids.values()) == {make_document(text, "main").id for text in texts("a")}
    for text in texts("a"):
        document = make_document(text, "main")
        part = getattr(parts, part_of(document.key, HALF))
        rows = [i for i, id in enumerate(part.ids) if id.split("#")[0] == document.id]
        assert "".join(part.text(row) for row in rows) == text
    assert parts.train.name == "train" and parts.train.features["tokens"].shape[1] == 16


def test_split_documents_merges_duplicates_and_ignores_order():
    repeated = [*texts("a"), "  a document   number 3 "]
    forward = split_documents(corpus_of(repeated), HALF)
    backward = split_documents(corpus_of(repeated[::-1]), HALF)
    for part in HALF:
        assert {d.key for d in forward[part]} == {d.key for d in backward[part]}
    counts = {d.text: d.count for part in forward.values() for d in part}
    assert len(counts) == 60 and counts["a document number 3"] == 2


def test_a_named_corpus_replaces_its_part_and_nothing_else():
    plain = prepare(corpus_of(texts("a")))
    weights = {"other": 1.0}
    named = prepare(corpus_of(texts("a")), outer=corpus_of(texts("b", 9), "other", weights))
    assert named.train.fingerprint == plain.train.fingerprint
    assert named.test.fingerprint == plain.test.fingerprint
    assert set(named.outer.corpora) == {"other"} and len(originals(named.outer)) == 9
    assert named.outer.weights == weights and named.train.weights is None


def test_weights_of_a_mixture_go_with_its_parts():
    parts = prepare(corpus_of(texts("a"), weights={"main": 2.0}))
    assert all(part.weights == {"main": 2.0} for _, part in parts.items())


def test_overlap_is_refused_with_count_and_example_or_dropped():
    corpus = corpus_of(texts("a"))
    shared = [d.text for d in split_documents(corpus, HALF)["train"]][:3]
    outer = corpus_of(texts("b", 9) + shared, "other")
    with pytest.raises(DataError) as error:
        prepare(corpus, outer=outer)
    example = make_document(shared[0], "main").id
    assert "'train' and 'outer' overlap: 3 documents" in str(error.value)
    assert f"'{example}'" in str(error.value) and "on_overlap = 'drop'" in str(error.value)
    dropped = prepare(corpus, outer=outer, on_overlap="drop")
    before = originals(prepare(corpus).train)
    assert originals(dropped.train) == before - {make_document(t, "main").id for t in shared}
    assert len(originals(dropped.outer)) == 12


def test_held_out_parts_must_not_overlap_each_other():
    other = corpus_of(texts("b", 20), "other")
    with pytest.raises(DataError, match="'outer' and 'test' overlap: 20 documents"):
        prepare(corpus_of(texts("a")), outer=other, test=other)
    parts = prepare(
        corpus_of(texts("a")),
        outer=corpus_part(other, "outer", HALF),
        test=corpus_part(other, "train", HALF),
    )
    assert originals(parts.test).isdisjoint(originals(parts.outer))
    assert set(parts.outer.corpora) == {"other"}


def test_several_outer_sets_by_name():
    corpus = corpus_of(texts("a"))
    code, tests = corpus_of(texts("b", 9), "code"), corpus_of(texts("b", 4), "tests")
    plain = prepare(corpus)
    named = prepare(corpus, outer={"own": None, "code": code, "tests": tests})
    assert named.outer_sets["own"].fingerprint == plain.outer.fingerprint
    assert named.train.fingerprint == plain.train.fingerprint
    # documents that two outer sets share stay in both
    assert [len(originals(one)) for one in named.outer_sets.values()][1:] == [9, 4]
    assert len(named.outer) == sum(map(len, named.outer_sets.values()))
    assert named.outer_sets["code"].name == "outer/code" and named.disjoint
    # held out means held out of train, and test goes before
    shared = [d.text for d in split_documents(corpus, HALF)["train"]][:3]
    overlapping = {"own": None, "code": corpus_of(texts("b", 9) + shared, "code")}
    with pytest.raises(DataError, match=r"'train' and 'outer/code' overlap: 3 .*outer\['code'\]"):
        prepare(corpus, outer=overlapping)
    dropped = prepare(corpus, outer=overlapping, on_overlap="drop")
    assert len(originals(dropped.train)) == len(originals(plain.train)) - 3
    tested = prepare(corpus, outer={"code": code}, test=tests, on_overlap="drop")
    assert len(originals(tested.outer_sets["code"])) == 5 and len(originals(tested.test)) == 4
    with pytest.raises(ConfigurationError, match=r"text_data.outer\['code'\] is 'x', which is no"):
        prepare(corpus, outer={"code": "x"})
    with pytest.raises(ConfigurationError, match="outer has no set: give a dict"):
        prepare(corpus, outer={})


def test_an_empty_part_names_corpus_sizes_and_remedy():
    corpus = corpus_of(texts("a", 3))
    sizes = {part: len(members) for part, members in split_documents(corpus, HALF).items()}
    empty = next(part for part, size in sizes.items() if not size)
    with pytest.raises(DataError) as error:
        prepare(corpus)
    message = str(error.value)
    assert f"The corpus 'main' gives the part '{empty}' no examples" in message
    assert f"train {sizes['train']}, outer {sizes['outer']}" in message
    assert f"raise split_fractions.{empty}" in message


def test_documents_below_the_minimum_leave_a_part_empty():
    with pytest.raises(DataError, match="an example needs 16 tokens"):
        prepare(corpus_of([str(index) for index in range(60)]), minimum_tokens=16)


def test_settings_that_are_no_corpus_or_unknown_are_refused():
    with pytest.raises(ConfigurationError, match=r"text_data.outer is \['x'\], which is no corpus"):
        prepare(corpus_of(texts("a")), outer=["x"])
    with pytest.raises(ConfigurationError, match="on_overlap must be one of 'stop', 'drop', not"):
        prepare(corpus_of(texts("a")), on_overlap="keep")
    with pytest.raises(ConfigurationError, match="corpus_part.part must be one of"):
        corpus_part(corpus_of(texts("a")), "rest")


def test_everything_is_set_from_gin():
    gin.parse_config(
        """
        text_data.tokenizer = @byte_tokenizer()
        text_data.sequence_length = 8
        text_data.packing = True
        split_fractions.train = 0.4
        split_fractions.outer = 0.2
        split_fractions.validation = 0.2
        split_fractions.test = 0.2
        """
    )
    parts = text_data(corpus_of(texts("a")))
    assert parts.train.features["tokens"].shape[1] == 8
    assert originals(parts.test) <= {d.id for d in split_documents(corpus_of(texts("a")))["test"]}
    assert (parts.train.features["tokens"] == 1).sum() > 10  # ends of packed documents
    assert np.isnan(parts.train.labels["level"]).all()


def test_a_path_becomes_a_corpus_of_its_kind(tmp_path):
    lines = "".join(json.dumps({"text": text}) + "\n" for text in texts("a", 3))
    (tmp_path / "some.jsonl").write_text(lines)
    (tmp_path / "notes.txt").write_text("a document number 7")
    (tmp_path / "odd.suffix").write_text("a document number 8")
    from_lines = corpus_from_path(str(tmp_path / "some.jsonl"))
    assert [d.text for d in from_lines.documents()] == texts("a", 3)
    (document,) = corpus_from_path(str(tmp_path / "notes.txt")).documents()
    assert document.text == "a document number 7"
    with pytest.raises(DataError, match="odd.suffix: .*format that its name does not tell.*.txt"):
        corpus_from_path(str(tmp_path / "odd.suffix"))
    with pytest.raises(ConfigurationError, match=r"several kinds \(jsonl, text\)"):
        corpus_from_path(str(tmp_path))
    (tmp_path / "notes.txt").unlink()
    assert [d.text for d in corpus_from_path(str(tmp_path)).documents()] == texts("a", 3)
    gin.bind_parameter("jsonl_corpus.text_field", "body")
    with pytest.raises(DataError, match="some.jsonl"):
        list(corpus_from_path(str(tmp_path)).documents())


def test_paths_that_hold_no_corpus_are_refused(tmp_path):
    (tmp_path / "image.png").write_bytes(b"")
    with pytest.raises(DataError, match="no file in this folder can be read as a corpus"):
        corpus_from_path(str(tmp_path))
    with pytest.raises(DataError, match="absent.jsonl: no such file"):
        corpus_from_path(str(tmp_path / "absent.jsonl"))
