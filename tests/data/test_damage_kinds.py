import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from dr_keras.data import damage_kinds
from dr_keras.data.damage_kinds import KINDS, edit_distance, normalised_edit_distance

PROSE = (
    "The garbage collector \u201csees\u201d only objects that were caf\u00e9s once; all others "
    "are \u2013 as before \u2013 freed when their count falls to zero, and modern code knows it."
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=150).map(
    lambda text: text.strip(" \t\n\r\f\v")
)
strengths = st.floats(0, 1, exclude_min=True)
seeds = st.integers(0, 2**32)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS))


def rng(seed=0):
    return np.random.default_rng(seed)


@every_kind
@given(texts, strengths, seeds)
def test_damage_is_real_or_refused_and_repeatable(kind, text, strength, seed):
    outcome = kind(text, strength, rng(seed))
    assert outcome == kind(text, strength, rng(seed))
    if outcome is not None:
        damaged, level = outcome
        assert damaged != text and damaged
        assert damaged == damaged.strip(" \t\n\r\f\v")
        assert type(level) is float and 0 < level <= 1


@every_kind
def test_prose_is_never_refused_and_the_level_follows_the_strength(kind):
    asked = np.linspace(0.01, 1, 200)
    levels = np.array([kind(PROSE, strength, rng(i))[1] for i, strength in enumerate(asked)])
    assert np.corrcoef(asked, levels)[0, 1] > (0.8 if kind is damage_kinds.mojibake else 0.95)
    assert levels.min() < 0.1
    assert levels.max() > (0.15 if kind is damage_kinds.mojibake else 0.7)


@every_kind
def test_other_seeds_do_other_damage(kind):
    assert len({kind(PROSE, 0.4, rng(i))[0] for i in range(8)}) > 1


@pytest.mark.parametrize("name", ["random_characters", "ocr_confusions", "mojibake"])
@given(strength=strengths, seed=seeds)
def test_the_level_is_the_edit_distance_of_the_outcome(name, strength, seed):
    damaged, level = KINDS[name](PROSE, strength, rng(seed))
    assert level == edit_distance(PROSE, damaged) / max(len(PROSE), len(damaged))


def test_random_characters_change_about_the_share_asked_for():
    for strength in (0.1, 0.3, 0.6):
        _, level = damage_kinds.random_characters(PROSE * 8, strength, rng())
        assert level == pytest.approx(strength, rel=0.15)


def test_ocr_makes_only_confusions_it_knows():
    outcomes = {damage_kinds.ocr_confusions("burn", 0.01, rng(i))[0] for i in range(200)}
    # b -> h, 6; u -> n, ii; rn -> m
    assert outcomes == {"hurn", "6urn", "bnrn", "biirn", "bum"}
    assert damage_kinds.ocr_confusions("\u4e2d\u6587", 0.5, rng()) is None


@given(strengths, seeds)
def test_mojibake_can_be_read_back(strength, seed):
    damaged, _ = damage_kinds.mojibake(PROSE, strength, rng(seed))
    encoding = "latin-1" if "\x80" in damaged else "cp1252"
    for _ in range(1 + (strength > 0.5)):
        raw = b"".join(
            c.encode(encoding) if ord(c) > 0x9F or ord(c) < 0x80 else bytes([ord(c)])
            for c in damaged
        )
        damaged = raw.decode("utf-8")
    assert damaged == PROSE


def test_mojibake_as_it_is_known():
    assert damage_kinds.misread_utf8("caf\u00e9", "latin-1") == "caf\u00c3\u00a9"
    assert damage_kinds.misread_utf8("it\u2019s", "cp1252") == "it\u00e2\u20ac\u2122s"
    assert damage_kinds.misread_utf8("\u201d", "cp1252") == "\u00e2\u20ac\x9d"  # 9d: undefined
    assert damage_kinds.mojibake("plain ASCII", 0.9, rng()) is None


@given(st.lists(st.text("abc", min_size=1, max_size=3), min_size=2), strengths, seeds)
def test_shuffling_moves_words_and_keeps_layout(words, strength, seed):
    text = "\n  ".join(words)
    outcome = damage_kinds.shuffled_words(text, strength, rng(seed))
    if outcome is None:
        return
    damaged, level = outcome
    assert sorted(damaged.split()) == sorted(words)
    assert re.sub(r"\S+", "", damaged) == re.sub(r"\S+", "", text)
    assert level == np.mean([a != b for a, b in zip(words, damaged.split())])


def test_shuffling_needs_two_different_words():
    assert damage_kinds.shuffled_words("one", 0.9, rng()) is None
    assert damage_kinds.shuffled_words("one one one", 0.9, rng()) is None
    assert damage_kinds.shuffled_words("one two", 0.1, rng()) == ("two one", 1.0)


@pytest.mark.parametrize("name", ["boilerplate", "number_tables"])
@given(strength=strengths, seed=seeds)
def test_a_replaced_span_leaves_the_rest_as_it_was(name, strength, seed):
    damaged, level = KINDS[name](PROSE, strength, rng(seed))
    kept = round((1 - level) * len(PROSE))
    # What is kept stands at the two ends; white space next to the span may go.
    ends = [(PROSE[:head], PROSE[len(PROSE) - kept + head :]) for head in range(kept + 1)]
    assert any(
        damaged.startswith(head.strip()) and damaged.endswith(tail.strip()) for head, tail in ends
    )
    assert len(damaged) <= len(PROSE)
    assert level >= strength - 1 / len(PROSE)
    assert level <= strength + 0.25  # whole words


def test_what_spans_are_replaced_by():
    table, level = damage_kinds.number_tables(PROSE, 1.0, rng(1))
    assert level == 1.0 and re.fullmatch(r"[-\d.\s]+", table)
    menu, level = damage_kinds.boilerplate("word " * 100, 1.0, rng(1))
    assert level == 1.0 and "word" not in menu
    first_line = menu.split("\n")[0]
    assert menu.count(first_line[:30]) > 1  # over and over


def by_the_book(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row = row, [i]
        for j, b in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_edit_distance_agrees_with_the_textbook(first, second):
    assert edit_distance(first, second) == by_the_book(first, second)


@given(st.text(), st.text())
def test_edit_distance_of_any_text(first, second):
    distance = edit_distance(first, second)
    assert distance == by_the_book(first, second) == edit_distance(second, first)


def test_known_distances():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3 == edit_distance("abc", "")
    assert edit_distance(["the", "cat", "sat"], ["the", "dog", "sat", "down"]) == 2
    assert edit_distance("a" * 500, "b" * 500) == 500


def test_edit_distance_as_a_share_of_the_longer():
    assert normalised_edit_distance("kitten", "sitting") == pytest.approx(3 / 7)
    assert normalised_edit_distance("", "") == 0.0
    assert normalised_edit_distance("ab", "xyzw") == 1.0
