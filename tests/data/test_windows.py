"""Windows hold the text they say they hold."""

import hypothesis
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data.documents import Document, make_document
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import cut, pack, window_documents, windows_in
from dr_keras.errors import ConfigurationError, DataError

TOKENIZER = byte_tokenizer()
A, B, C, D, E = (ord(letter) + 2 for letter in "abcde")


def document(id, text, **fields):
    return Document(**{"id": id, "text": text, "source": f"s{id}", "key": id, **fields})


def documents_of(texts):
    return [document(str(index), text) for index, text in enumerate(texts)]


def test_long_documents_are_cut_and_short_ones_padded():
    documents = [document("x", "abcde", level=0.25, damage="ocr"), document("y", "ab", corpus="c")]
    windows = window_documents(documents, TOKENIZER, 3, name="train")
    np.testing.assert_array_equal(windows.features["tokens"], [[A, B, C], [D, E, 0], [A, B, 0]])
    assert windows.features["tokens"].dtype == np.int32
    assert windows.ids.tolist() == ["x#0", "x#1", "y#0"]
    assert windows.sources.tolist() == ["sx", "sx", "sy"]
    assert windows.corpora.tolist() == ["", "", "c"]
    np.testing.assert_array_equal(windows.labels["level"], np.float32([0.25, 0.25, np.nan]))
    assert windows.labels["damage"].tolist() == ["ocr", "ocr", None]
    assert windows.text(1) == "de" and windows.name == "train" and windows.weights is None


def test_windows_below_the_minimum_are_left_out():
    documents = documents_of(["abcd", "a", "abc", ""])
    windows = window_documents(documents, TOKENIZER, 3, minimum_tokens=2)
    assert windows.ids.tolist() == ["0#0", "2#0"]
    assert window_documents(documents, TOKENIZER, 3, minimum_tokens=1).ids.tolist() == [
        "0#0", "0#1", "1#0", "2#0",
    ]  # fmt: skip


@hypothesis.given(texts=st.lists(st.text()), length=st.integers(2, 9))
def test_windows_join_to_the_documents(texts, length):
    windows = window_documents(documents_of(texts), TOKENIZER, length, minimum_tokens=1)
    joined = {str(index): b"" for index in range(len(texts))}
    for id, tokens in zip(windows.ids, windows.features["tokens"]):
        owner, number = id.split("#")
        assert int(number) * length == len(joined[owner])
        joined[owner] += bytes((tokens[tokens > 0] - 2).tolist())
    assert list(joined.values()) == [text.encode() for text in texts]


@hypothesis.given(texts=st.lists(st.text()), length=st.integers(2, 9))
def test_packed_windows_join_to_all_documents_with_ends_between(texts, length):
    documents = documents_of(texts)
    windows = window_documents(documents, TOKENIZER, length, packing=True, minimum_tokens=1)
    expected = [id for ids in TOKENIZER.encode(texts) for id in [*ids.tolist(), 1]]
    flat = windows.features["tokens"].reshape(-1)
    assert flat[: len(expected)].tolist() == expected
    assert not flat[len(expected) :].any() and len(flat) - len(expected) < length
    owner_of_token = np.repeat(np.arange(len(texts)), [len(t.encode()) + 1 for t in texts])
    owners = [int(id.split("#")[0]) for id in windows.ids]
    assert owners == owner_of_token[::length].tolist()
    assert len(set(windows.ids)) == len(windows)
    for owner in set(owners):
        numbers = [int(id.split("#")[1]) for id in windows.ids if id.split("#")[0] == str(owner)]
        assert numbers == list(range(len(numbers)))


def test_packing_mixes_levels_by_tokens_and_keeps_corpora_apart():
    documents = [
        document("x", "ab", corpus="one", level=1.0, damage="ocr"),
        document("y", "abcd", corpus="two", level=0.0, damage="clean"),
        document("z", "abcd", corpus="one", level=0.0, damage="clean"),
        document("u", "a", corpus="two"),
    ]
    weights = {"one": 1.0, "two": 2.0}
    windows = window_documents(documents, TOKENIZER, 4, packing=True, weights=weights)
    np.testing.assert_array_equal(
        windows.features["tokens"], [[A, B, 1, A], [B, C, D, 1], [A, B, C, D], [1, A, 1, 0]]
    )
    assert windows.ids.tolist() == ["x#0", "z#0", "y#0", "y#1"]
    assert windows.corpora.tolist() == ["one", "one", "two", "two"]
    np.testing.assert_array_equal(windows.labels["level"], np.float32([0.75, 0, 0, np.nan]))
    assert windows.labels["damage"].tolist() == ["mixed", "clean", "clean", "mixed"]
    assert windows.weights == weights


def test_packing_counts_the_documents_of_a_window():
    documents = [make_document(text, "s", f"d{k}") for k, text in enumerate(["abcdef", "g", "hi"])]
    windows = window_documents(documents, TOKENIZER, 4, packing=True, minimum_tokens=1)
    # abcd ef.g .hi.
    assert windows.labels["documents"].tolist() == [1, 2, 2]
    assert "documents" not in window_documents(documents, TOKENIZER, 4).labels


@pytest.mark.parametrize("packing", [False, True])
def test_no_documents_make_an_empty_set(packing):
    windows = window_documents([], TOKENIZER, 5, packing=packing)
    assert windows.features["tokens"].shape == (0, 5) and len(windows) == 0


def test_many_documents_keep_their_order():
    texts = [f"text number {index}" for index in range(2500)]
    windows = window_documents(documents_of(texts), TOKENIZER, 32)
    assert [windows.text(index) for index in (0, 1023, 1024, 2499)] == [
        f"text number {index}" for index in (0, 1023, 1024, 2499)
    ]


def test_shared_ids_are_refused():
    documents = [document("x", "ab", source="one"), document("x", "cd", source="two")]
    with pytest.raises(DataError, match="two documents with the id 'x'.*'one' and 'two'"):
        window_documents(documents, TOKENIZER, 4, name="train")


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(sequence_length=1), "sequence_length is 1"),
        (dict(sequence_length=4, minimum_tokens=0), "minimum_tokens is 0"),
        (dict(sequence_length=4, minimum_tokens=5), r"minimum_tokens is 5.*sequence_length = 4"),
    ],
)
def test_lengths_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        window_documents([], TOKENIZER, **options)


@hypothesis.given(
    st.lists(st.integers(0, 20), min_size=1, max_size=12), st.integers(2, 7), st.integers(0, 99),
    st.data(),
)  # fmt: skip
def test_any_rows_can_be_cut_by_themselves(sizes, length, seed, data):
    """What a shard of a prepared corpus relies on: rows know nothing of those before them."""
    minimum = data.draw(st.integers(1, length))
    generator = np.random.default_rng(seed)
    encoded = [generator.integers(2, 99, size) for size in sizes]
    levels, kinds = (
        generator.random(len(sizes), np.float32),
        [f"k{n % 3}" for n in range(len(sizes))],
    )
    whole = cut(encoded, levels, kinds, length, minimum)
    counts = windows_in(np.array(sizes), length, minimum)
    stream = np.concatenate([np.append(ids, 1) for ids in encoded])
    packed = pack(stream, np.array(sizes) + 1, levels, kinds, length, minimum)
    for found, ends in ((whole, np.cumsum(counts)), (packed, np.cumsum(np.array(sizes) + 1))):
        rows = len(found.tokens)
        begin = data.draw(st.integers(0, rows))
        end = data.draw(st.integers(begin, rows))
        if begin == end:
            continue
        unit = 1 if found is whole else length
        first = int(np.searchsorted(ends, begin * unit, side="right"))
        last = int(np.searchsorted(ends, min(end * unit, ends[-1]), side="left"))
        before = begin * unit - int(ends[first - 1] if first else 0)
        args = levels[first : last + 1], kinds[first : last + 1], length, minimum, before
        if found is whole:
            ids = encoded[first : last + 1]
            taken = int(min(end, ends[last])) - int(ends[last - 1] if last else 0)
            ids[-1] = ids[-1][: taken * length]
            ids[0] = ids[0][before * length :]
            some = cut(ids, *args)
        else:
            flat = stream[begin * length : end * length]
            some = pack(flat, np.array(sizes[first : last + 1]) + 1, *args)
        for name in ("tokens", "numbers", "level", "damage", "documents"):
            expected = getattr(found, name)
            expected = expected if expected is None else expected[begin:end]
            np.testing.assert_array_equal(getattr(some, name), expected)
        np.testing.assert_array_equal(some.owners + first, found.owners[begin:end])
