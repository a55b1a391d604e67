from hypothesis import given
from hypothesis import strategies as st
import pytest

from dr_keras.data.damage_kinds import edit_distance, normalised_edit_distance


def by_the_book(first, second):
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        above, row = row, [i]
        for j, b in enumerate(second, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (a != b)))
    return row[-1]


@given(st.text("abc", max_size=90), st.text("abc", max_size=90))
def test_it_agrees_with_the_textbook(first, second):
    assert edit_distance(first, second) == by_the_book(first, second)


@given(st.text(), st.text())
def test_any_text(first, second):
    distance = edit_distance(first, second)
    assert distance == by_the_book(first, second) == edit_distance(second, first)


def test_known_distances():
    assert edit_distance("kitten", "sitting") == 3
    assert edit_distance("", "abc") == 3 == edit_distance("abc", "")
    assert edit_distance(["the", "cat", "sat"], ["the", "dog", "sat", "down"]) == 2
    assert edit_distance("a" * 500, "b" * 500) == 500


def test_it_is_a_share_of_the_longer():
    assert normalised_edit_distance("kitten", "sitting") == pytest.approx(3 / 7)
    assert normalised_edit_distance("", "") == 0.0
    assert normalised_edit_distance("ab", "xyzw") == 1.0
