from hypothesis import example, given
from hypothesis import strategies as st
import pytest

from dr_keras.data.damage import cut_passages

text_that_utf8_can_hold = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


def test_it_cuts_at_white_space_and_fills_each_passage():
    assert cut_passages("one two three four", 8) == ["one two", "three", "four"]
    assert cut_passages("one two  three\n\n four", 7) == ["one two", "three", "four"]
    assert cut_passages("a b\n  c", 20) == ["a b\n  c"]
    assert cut_passages(" \n ", 8) == []
    assert cut_passages("", 8) == []


def test_long_words_are_cut_between_characters():
    assert cut_passages("abcdefghij kl", 4) == ["abcd", "efgh", "ij", "kl"]
    assert cut_passages("\u00fc" * 5, 5) == ["\u00fc\u00fc", "\u00fc\u00fc", "\u00fc"]
    assert cut_passages("\U0001f600" * 2, 4) == ["\U0001f600"] * 2


@given(text_that_utf8_can_hold, st.integers(4, 40))
@example("a" * 8 + " b", 8)
@example("a" * 8 + " ", 8)
def test_nothing_is_lost_and_nothing_is_too_long(text, max_bytes):
    passages = cut_passages(text, max_bytes)
    white = dict.fromkeys(map(ord, " \t\n\r\f\v"))
    assert "".join(passages).translate(white) == text.translate(white)
    position = 0
    for passage in passages:
        assert 0 < len(passage.encode()) <= max_bytes
        position = text.index(passage, position) + len(passage)  # a slice, in order


@given(st.lists(st.text("ab\u00fc", min_size=1, max_size=6), min_size=1), st.integers(12, 40))
def test_each_passage_is_as_long_as_fits(words, max_bytes):
    passages = cut_passages(" ".join(words), max_bytes)
    assert " ".join(passages) == " ".join(words)
    for passage, following in zip(passages, passages[1:]):
        assert len(f"{passage} {following.split()[0]}".encode()) > max_bytes


def test_a_passage_must_hold_any_character():
    with pytest.raises(ValueError, match="at least 4 bytes, not 3"):
        cut_passages("a", 3)
