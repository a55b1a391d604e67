"""Joined windows hold the text of padded ones, all of it, with a mark between documents."""

import hypothesis
from hypothesis import strategies as st
import numpy as np

from dr_keras.data.columns import Chosen, Joined, Runs
from dr_keras.data.documents import Document
from dr_keras.data.examples import ExampleSet, document_ids, objects
from dr_keras.data.full_windows import full_windows, has_padding
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents

TOKENIZER = byte_tokenizer()
END = TOKENIZER.end_id


def windows_of(texts, length, corpora=None, **options):
    corpora = corpora or [""] * len(texts)
    documents = [
        Document(id=f"d{k}", text=text, source=f"s{k}", key=str(k), corpus=corpus)
        for k, (text, corpus) in enumerate(zip(texts, corpora))
    ]
    return window_documents(documents, TOKENIZER, length, **options)


def text_of(tokens):
    """Bytes of tokens, "|" where a document ends."""
    return "".join("|" if token == END else chr(token - 2) for token in tokens)


def test_by_hand():
    given = windows_of(["abcdef", "gh", "ij", "klmn", "op"], 4, ["x", "y", "x", "x", "y"])
    assert [text_of(row[row > 0]) for row in given.features["tokens"]] == [
        "abcd", "ef", "gh", "ij", "klmn", "op",
    ]  # fmt: skip
    found = full_windows(given)
    texts = {id: text_of(row) for id, row in zip(found.ids.tolist(), found.features["tokens"])}
    # Corpus x: ef|ij| is six tokens, so that its last window goes back by two; corpus y: gh|op|.
    assert list(texts.items()) == [
        ("d0#0", "abcd"), ("d0#1", "ef|i"), ("d0#1+2", "|ij|"),
        ("d1#0", "gh|o"), ("d1#0+2", "|op|"), ("d3#0", "klmn"),
    ]  # fmt: skip
    assert found.corpora.tolist() == ["x", "x", "x", "y", "y", "x"]
    assert found.sources.tolist() == ["s0", "s0", "s0", "s1", "s1", "s3"]
    assert document_ids(found).tolist() == ["d0", "d0", "d0", "d1", "d1", "d3"]
    assert found.features["tokens"].dtype == np.int32 and not found.labels


def test_full_windows_and_other_examples_are_left_as_they_are():
    full = windows_of(["abcdefgh", "klmn"], 4)
    assert full_windows(full) is full
    names = np.array(["a", "b"], object)
    images = ExampleSet({"image": np.zeros([2, 3])}, names, names, names)
    assert full_windows(images) is images
    packed = windows_of(["abc", "de", "f"], 4, packing=True)  # abc| de|f |
    found = full_windows(packed)
    np.testing.assert_array_equal(found.features["tokens"][:2], packed.features["tokens"][:2])
    assert len(found) == len(packed) and (found.features["tokens"] > 0).all()


def test_less_than_a_window_is_repeated():
    found = full_windows(windows_of(["abc"], 10))
    assert [text_of(row) for row in found.features["tokens"]] == ["abc|abc|ab"]


@hypothesis.given(
    texts=st.lists(st.text("abc", min_size=2, max_size=9), min_size=1, max_size=8),
    length=st.integers(3, 7),
    keep=st.integers(1, 255),
)
@hypothesis.settings(deadline=None)
def test_nothing_is_lost_and_nothing_joined_without_a_mark(texts, length, keep):
    """Of any subset: every kept window's text lies in the result, followed by a document's end
    where it was padded, and all windows are full."""
    given = windows_of(texts, length)
    rows = [row for row in range(len(given)) if keep >> row % 8 & 1]
    if not rows:
        return
    kept = given.take(rows)
    found = full_windows(kept)
    tokens = found.features["tokens"]
    assert (tokens > 0).all() and len(set(found.ids.tolist())) == len(found)
    originals = dict(zip(kept.ids.tolist(), kept.features["tokens"]))
    pieces = ["".join(text_of(row[row > 0])) for row in kept.features["tokens"]]
    stream = "".join(p + "|" for p in pieces if len(p) < length)
    stream = (stream * length)[: max(len(stream), length)]
    joined = []
    for id, row in zip(found.ids.tolist(), tokens):
        name, _, offset = id.partition("+")
        begins = originals[name]
        if (begins > 0).all():
            assert not offset and row.tolist() == begins.tolist()
            continue
        joined.append(text_of(row))
        marked = text_of(begins[begins > 0]) + "|"
        assert joined[-1].startswith(marked[int(offset or 0) :][:length])
    if joined:
        last = len(stream) % length or length  # tokens that the last window adds
        assert "".join(joined[:-1]) + joined[-1][length - last :] == stream
    assert sum(len(p) == length for p in pieces) + len(joined) == len(found)


def test_a_set_that_is_read_on_demand_gives_the_same_windows():
    rng = np.random.default_rng(0)
    lengths = rng.integers(2, 9, 40)
    tokens = (np.arange(8) < lengths[:, None]) * rng.integers(2, 9, (40, 8), np.int32)
    ids = [f"{k}#0" for k in range(40)]
    whole = ExampleSet({"tokens": tokens}, objects(ids), objects(ids), objects(["a"] * 40))
    lazy = ExampleSet(
        {"tokens": Joined([tokens[:9], tokens[9:]])},
        Runs(ids, [1] * 40), Runs(ids, [1] * 40), Runs(["a"], [40]),
    )  # fmt: skip
    one, same = full_windows(lazy), full_windows(whole)
    assert isinstance(one.features["tokens"], Joined | Chosen)
    assert np.array_equal(one.features["tokens"][:], same.features["tokens"])
    for name in ("ids", "sources", "corpora"):
        assert getattr(one, name)[:].tolist() == getattr(same, name).tolist()
    assert has_padding(lazy) and not has_padding(one)
