import dataclasses
import hashlib
import pickle
import random
import re
import sys
import unicodedata

from hypothesis import given
from hypothesis import strategies as st
import pytest

from dr_keras.data import documents as docs
from dr_keras.errors import DataError

any_text = st.text(st.characters())
WHITE = "".join(filter(str.isspace, map(chr, range(sys.maxunicode + 1))))


def normalise(text):
    """What is hashed of a text, in one piece, and what keys have been made by from the first."""
    return re.sub(r"\s+", " ", unicodedata.normalize("NFKC", text)).strip()


def normalised(text):
    return "".join(docs._normalised_chunks(text))


def test_normalising_folds_white_space_and_compatibility_forms():
    assert normalised("  a\t\n b\u00a0c  ") == "a b c"
    assert normalised("ﬁn\u2003①") == "fin 1"
    assert normalised("e\u0301") == "\u00e9"


@given(any_text)
def test_normalising_is_idempotent(text):
    once = normalised(text)
    assert once == normalised(once) == normalise(text)


def test_key_is_the_sha256_of_the_normalised_text():
    assert docs.content_key(" a  b ") == hashlib.sha256(b"a b").hexdigest()
    assert len(docs.content_key("\ud800")) == 64  # a lone surrogate does not fail


def test_white_space_is_what_a_regular_expression_takes_for_it():
    assert len(WHITE) > 25 and {"\x1c", "\x1f", "\x85", "\u2028", "\u3000"} < set(WHITE)
    every = "".join(map(chr, range(0x10000)))  # no white space lies beyond
    assert (
        docs.content_key(every)
        == hashlib.sha256(normalise(every).encode("utf-8", "surrogatepass")).hexdigest()
    )
    assert not normalised(WHITE)


@given(
    st.text(
        st.one_of(
            st.characters(),
            st.sampled_from("a \n\u0301\u00a0\u1161\uac00\ufc5e"),
            st.sampled_from(WHITE),
        )
    )
)
def test_a_large_text_is_hashed_piece_by_piece_as_if_it_were_in_one_piece(text):
    before, docs._CHUNK = docs._CHUNK, 2
    try:
        found = docs.make_document(text, "s\u00e9")
    finally:
        docs._CHUNK = before
    whole = normalise(text).encode("utf-8", "surrogatepass")
    assert found.key == hashlib.sha256(whole).hexdigest()
    assert found.id == hashlib.sha256("s\u00e9\0".encode() + whole).hexdigest()[:24]


def test_id_depends_on_source_and_normalised_text():
    assert docs.document_id("s", "a b") == docs.document_id("s", "a\n b")
    assert docs.document_id("s", "a b") != docs.document_id("t", "a b")
    assert docs.document_id("s", "ab") != docs.document_id("sa", "b")
    assert docs.make_document("a", "s", "mine").id == "mine"
    assert docs.make_document("a", "s").id == docs.document_id("s", "a")


def test_duplicates_are_merged_with_their_count_and_the_first_stays():
    make = docs.make_document
    merged = docs.merge_duplicates(
        [make("a b", "s", "1"), make("c", "s", "2"), make("a  b ", "t", "3"), make("c", "s", "2")]
    )
    assert [(d.id, d.text, d.count) for d in merged] == [("1", "a b", 2), ("2", "c", 2)]
    assert [d.count for d in docs.merge_duplicates([merged[0], make("a b", "u", "4")])] == [3]


def test_passages_of_one_document_are_not_duplicates_of_each_other():
    passages = [docs.Document(f"d/{k}", text, "s", "k" * 64) for k, text in enumerate("aba")]
    assert [(d.id, d.count) for d in docs.merge_duplicates(passages)] == [("d/0", 2), ("d/1", 1)]


def test_a_text_is_normalised_once_and_another_text_again(monkeypatch):
    document = docs.make_document("a  b", "s")
    assert document == docs.Document(document.id, "a  b", "s", document.key)  # of the same content
    named = dataclasses.replace(pickle.loads(pickle.dumps(document)), corpus="c")
    passage = dataclasses.replace(document, text="a", id="d/0")
    assert (passage.key, passage.hashed) == (document.key, None)  # does not keep the whole text
    assert passage.content_key == docs.content_key("a") != document.content_key
    asked = []
    monkeypatch.setattr(docs, "_normalised_sha256", lambda *digests, text: asked.append(text))
    assert named.content_key == document.key
    assert [d.count for d in docs.merge_duplicates([document, named])] == [2]
    assert not asked


def test_one_id_with_two_contents_is_refused():
    documents = [docs.make_document("a", "s", "same"), docs.make_document("b", "s", "same")]
    with pytest.raises(DataError, match="'same' but different content"):
        docs.merge_duplicates(documents)


@given(st.lists(any_text, unique_by=normalise), st.randoms())
def test_fingerprint_does_not_depend_on_order(texts, rng: random.Random):
    documents = [docs.make_document(text, "s") for text in texts]
    shuffled = list(documents)
    rng.shuffle(shuffled)
    assert docs.fingerprint(documents) == docs.fingerprint(shuffled)
    other = docs.Document("x", "", "", "")
    assert docs.fingerprint(documents) != docs.fingerprint([*documents, other])


def test_fingerprint_sees_text_source_and_count():
    base = docs.Document("1", "a", "s", "k")
    others = [
        docs.Document("2", "a", "s", "k"),
        docs.Document("1", "b", "s", "k"),
        docs.Document("1", "a", "t", "k"),
        docs.Document("1", "a", "s", "k", count=2),
        docs.Document("1", "a", "s", "k", corpus="c"),
    ]
    prints = {docs.fingerprint([d]) for d in [base, *others]}
    assert len(prints) == 6
    assert docs.fingerprint([docs.Document("1", "a", "s", "k", level=0.5)]) in prints


def test_ids_and_keys_never_change():
    """Users' score files and splits go by them."""
    assert docs.document_id("s", "a  b") == "eae83beb362e79d536aaf0b9"
    assert docs.content_key("a  b") == hashlib.sha256(b"a b").hexdigest()
    document = docs.make_document("a", "s")
    with pytest.raises(dataclasses.FrozenInstanceError):
        document.id = "other"
