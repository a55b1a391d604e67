"""The target that a user names: what is held out, what is left out of training, what is said."""

import logging

from hypothesis import given
from hypothesis import strategies as st
import pytest

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import corpus_part, split_documents, text_data
from dr_keras.data.splits import PARTS
from dr_keras.data.targets import HELD_OUT, split_target, target_fractions
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError
import gin

# Few texts and fewer groups, so that both repeat.
records = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(["", *"abcdefgh"])), min_size=1)


def corpus_of(name, rows):
    """Documents of (text, group)."""
    made = [make_document(str(text), name, f"{name}{n}", group) for n, (text, group) in rows]
    return Corpus(name, lambda skipped: iter(made))


def numbered(name, rows):
    return corpus_of(name, list(enumerate(rows)))


def longer(name, count, of=0, size=2000):
    """Documents without groups that repeat nothing, of `size` bytes each."""
    return numbered(
        name, [(f"{name if of else ''} {n} ".ljust(size, "x"), "") for n in range(count)]
    )


def apart(corpus, target, share=None):
    return split_target(split_documents(corpus), corpus, target, share)


@given(records)
def test_documents_of_one_group_are_always_in_one_part(rows):
    parts = split_documents(numbered("mine", rows), dict.fromkeys(PARTS, 0.25))
    where = {}
    for part, documents in parts.items():
        for document in documents:
            if document.group:
                assert where.setdefault(document.group, part) == part
    again = split_documents(numbered("mine", rows[::-1]), dict.fromkeys(PARTS, 0.25))
    for part in PARTS:  # whatever the order
        assert {d.key for d in again[part]} == {d.key for d in parts[part]}


@given(records, records, st.sampled_from([None, 0.3, 0.9]))
def test_nothing_that_is_held_out_is_trained_on(rows, wanted, share):
    own, target = numbered("mine", rows), numbered("good", wanted)
    try:
        found = apart(own, target, share)
    except DataError as error:
        assert "too few documents" in str(error) or "nothing left to choose" in str(error)
        return
    held = [document for part in HELD_OUT for document in found.documents[part]]
    keys = {key for document in held for key in (document.key, document.split_key)}
    for document in [*found.documents["train"], *found.own_test]:
        assert document.key not in keys and document.split_key not in keys
    for field in ("key", "split_key"):
        of_parts = [{getattr(d, field) for d in found.documents[part]} for part in HELD_OUT]
        assert sum(map(len, of_parts)) == len(set().union(*of_parts))


def test_all_of_a_target_is_held_out_and_what_the_corpus_shares_is_counted():
    shared = [("t0", ""), ("t1", ""), ("another version", "g")]
    own = numbered("mine", [*shared, *[(f"m{n}", "") for n in range(60)]])
    target = numbered("good", [("t2", "g"), *[(f"t{n}", "") for n in range(60)]])
    gin.parse_config("split_fractions.train = 1.0")
    gin.parse_config([f"split_fractions.{part} = 0.0" for part in HELD_OUT])
    found = apart(own, target)
    assert sum(len(found.documents[part]) for part in HELD_OUT) == 60  # t2 is there twice
    assert [d.text for d in found.documents["train"]] == [f"m{n}" for n in range(60)]
    assert found.own_test == [] and found.name == "good"
    assert found.notes[-1] == (
        "3 of 63 training documents of mine are left out: the target good has them, 1 of them for"
        " their group alone."
    )


@pytest.mark.parametrize(
    "count, size, outer", [(200, 2000, 0.7), (1000, 100, 0.7), (400, 2000, 0.5)]
)
def test_of_a_tiny_target_more_goes_to_the_outer_part(count, size, outer):
    found = apart(longer("mine", 50), longer("good", count, of=1, size=size))
    sizes = {part: len(found.documents[part]) for part in HELD_OUT}
    assert sum(sizes.values()) == count
    assert abs(sizes["outer"] / count - outer) < 0.1
    text = " ".join(found.notes)
    assert ("is tiny" in text) == (outer == 0.7)
    assert ("checkpoints are chosen half by chance" in text) == (outer == 0.7)
    gin.parse_config("target_fractions.outer = 0.2\ntarget_fractions.validation = 0.4")
    gin.bind_parameter("target_fractions.test", 0.4)
    bound = apart(longer("mine", 50), longer("good", count, of=1, size=size))
    assert abs(len(bound.documents["outer"]) / count - 0.2) < 0.1  # what the user says


def test_a_target_that_the_corpus_holds_is_held_out_in_part():
    corpus = longer("same", 300)
    found = apart(corpus, corpus)
    held = sum(len(found.documents[part]) for part in HELD_OUT)
    assert 60 < held < 120 and found.name == "same (target)"
    assert "100% of the training text of same is in the target" in found.notes[0]
    more = apart(corpus, corpus, 0.6)
    for part in HELD_OUT[1:]:  # a larger share moves nothing that was held out to training
        assert not {d.id for d in found.documents[part]} & {d.id for d in more.documents["train"]}
    with pytest.raises(
        DataError, match=r"nothing left to choose from.* \(text_data.target_share\)"
    ):
        apart(corpus, corpus, 1.0)
    with pytest.raises(ConfigurationError, match="target_share is 1.5: it must lie in"):
        apart(corpus, corpus, 1.5)


def test_a_target_of_few_documents_is_refused_with_what_to_do():
    with pytest.raises(DataError, match="'good' has too few documents .*split_on_blank_lines"):
        apart(longer("mine", 50), longer("good", 1, of=1))


def test_shares_of_a_target_add_up():
    assert target_fractions() == {"outer": 0.5, "validation": 0.2, "test": 0.3}
    assert target_fractions(tiny=True)["outer"] == 0.7
    for wrong in ({"outer": 0.6}, {"outer": 1.2, "validation": -0.2, "test": 0.0}):
        with pytest.raises(ConfigurationError, match=r"add up to 1, not: outer .*Give all three"):
            target_fractions(**wrong)


def test_a_share_that_fits_targets_of_this_size_alone_is_enough():
    gin.bind_parameter("target_fractions.test", 0.3)  # with 0.5 and 0.2, but not with 0.7 and 0.15
    found = apart(longer("mine", 50), longer("good", 400, of=1))
    assert abs(len(found.documents["test"]) / 400 - 0.3) < 0.1
    with pytest.raises(ConfigurationError, match="outer 0.7, validation 0.15, test 0.3"):
        apart(longer("mine", 50), longer("good", 100, of=1))


def test_parts_know_their_target(caplog):
    corpus, target = longer("mine", 100, size=200), longer("good", 100, of=1, size=200)
    with caplog.at_level(logging.WARNING):
        parts = text_data(corpus, byte_tokenizer(), 64, target=target)
    assert parts.target == "good" and parts.disjoint and parts.notes
    assert [record.message for record in caplog.records] == list(parts.notes)
    for part in HELD_OUT:
        assert set(getattr(parts, part).corpora) == {"good"}
    assert set(parts.train.corpora) == set(parts.own_test.corpora) == {"mine"}
    without = text_data(corpus, byte_tokenizer(), 64)
    assert without.train.fingerprint == parts.train.fingerprint and without.target is None
    assert without.test.fingerprint == parts.own_test.fingerprint
    everything = dict.fromkeys(PARTS, 0.0) | {"train": 1.0}
    for packing in (False, True):
        options = {"target": target, "fractions": everything, "packing": packing}
        assert text_data(corpus, byte_tokenizer(), 64, **options).own_test is None
    with pytest.raises(ConfigurationError, match="text_data.outer names one as well"):
        text_data(corpus, byte_tokenizer(), 64, target=target, outer=target)
    with pytest.raises(ConfigurationError, match="text_data.target is 'x', which is no corpus"):
        text_data(corpus, byte_tokenizer(), 64, target="x")
    with pytest.raises(DataError, match="raise target_fractions.outer"):
        short = longer("good", 100, of=1, size=8)
        text_data(corpus, byte_tokenizer(), 64, target=short, minimum_tokens=64)


def test_a_named_held_out_part_may_not_hold_a_group_of_the_training_text():
    own = numbered("mine", [(f"m{n}", "g") for n in range(4)])
    part = next(name for name, found in split_documents(own).items() if found)
    assert [len(list(corpus_part(own, part).documents()))] == [4]
    train = numbered("train", [(f"m{n}", f"p{n}") for n in range(60)])
    first = split_documents(train)["train"][0]
    outer = numbered("outer", [("another version", first.group)])
    with pytest.raises(DataError, match="'train' and 'outer' overlap: 1 documents"):
        text_data(train, byte_tokenizer(), 4, outer=outer)
