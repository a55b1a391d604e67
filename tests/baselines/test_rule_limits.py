"""Every number in the rules of C4 and Gopher, from both sides: at the limit, and just beyond it."""

import math
import string

import pytest

from dr_keras.baselines.published_rules import (
    C4_RULES,
    GOPHER_RULES,
    bad_words_rule,
    repeated_spans,
)
from dr_keras.baselines.rules import Text

RULES = {**C4_RULES, **GOPHER_RULES}
NO = math.inf

# rule: lowest and highest figure that pass, words that a passage must have to be judged.
# Gopher: Rae et al. 2021, A1.1 and table A1. C4: Raffel et al. 2020, section 2.2; "more than half"
# and the words of passages are this package's.
LIMITS = {
    "c4_terminal_punctuation": (-NO, 0.5, 50),
    "c4_short_lines": (-NO, 0.5, 0),
    "c4_sentences": (3, NO, 50),
    "c4_javascript": (-NO, 0.5, 0),
    "c4_policy": (-NO, 0.5, 0),
    "c4_lorem_ipsum": (-NO, 0, 0),
    "c4_curly_bracket": (-NO, 0, 0),
    "gopher_word_count": (50, 100_000, 50),
    "gopher_word_length": (3, 10, 5),
    "gopher_hashes": (-NO, 0.1, 0),
    "gopher_ellipses": (-NO, 0.1, 0),
    "gopher_bullet_lines": (-NO, 0.9, 50),
    "gopher_ellipsis_lines": (-NO, 0.3, 50),
    "gopher_alphabetic_words": (0.8, NO, 0),
    "gopher_stop_words": (2, NO, 50),
    "gopher_repeated_lines": (-NO, 0.3, 50),
    "gopher_repeated_line_characters": (-NO, 0.2, 50),
    "gopher_repeated_paragraphs": (-NO, 0.3, 50),
    "gopher_repeated_paragraph_characters": (-NO, 0.2, 50),
    "gopher_top_2gram": (-NO, 0.20, 50),
    "gopher_top_3gram": (-NO, 0.18, 50),
    "gopher_top_4gram": (-NO, 0.16, 50),
    "gopher_repeated_5grams": (-NO, 0.15, 50),
    "gopher_repeated_6grams": (-NO, 0.14, 50),
    "gopher_repeated_7grams": (-NO, 0.13, 50),
    "gopher_repeated_8grams": (-NO, 0.12, 50),
    "gopher_repeated_9grams": (-NO, 0.11, 50),
    "gopher_repeated_10grams": (-NO, 0.10, 50),
}


def test_limits_are_those_of_the_papers():
    assert {n: (rule.low, rule.high, rule.presumes) for n, rule in RULES.items()} == LIMITS


def distinct(count, length=3):
    """Words that occur once, none of them a stop word or with anything but letters."""
    letters, words = string.ascii_lowercase, []
    for n in range(count):
        words.append("".join(letters[n // 26**k % 26] for k in range(2)) + "z" * (length - 2))
    return words


def prose(count, length=3):
    return " ".join(distinct(count, length))


def lines(special, plain, join="\n"):
    """So many lines of the one kind, then so many of the other, all different but as it says."""
    return join.join([*special, *plain])


def repeating(n, size, total):
    """Words of `total` characters, an n-gram of `size` characters twice among words that are not.

    It makes 2 * size / total of the text.
    """
    gram = list("ABCDEFGHIJ"[:n])
    gram[0] += "q" * (size - n)
    rest = total - 2 * size
    words = distinct(rest // 3)
    words[-1] += "y" * (rest % 3)
    text = [*gram, *words[:9], *gram, *words[9:]]
    assert sum(map(len, text)) == total
    return " ".join(text)


LINES = [f"line {word} of text" for word in distinct(100)]  # 16 characters each
# rule, a text at the limit, and one beyond it by as little as texts can be
SIDES = [
    ("c4_terminal_punctuation", "Ended now.\nunended he", "Ended now.\nunended her"),
    ("c4_short_lines", "a bb ccc d e\nonly 4 words", "a bb ccc d e\nonly four wds"),
    ("c4_short_lines", "five words make a line", "four make a line"),
    ("c4_sentences", "One. Two. Three.", "One. Two."),
    ("c4_javascript", "javascript!\nelevenchars", "javascript!\ntenletters"),
    ("c4_policy", "cookie policy\nthirteen char", "cookie policy\ntwelve chars"),
    ("c4_lorem_ipsum", "lorem dolor", "lorem ipsum"),
    ("c4_curly_bracket", "}", "{"),
    ("gopher_word_count", "w " * 50, "w " * 49),
    ("gopher_word_count", "w " * 100_000, "w " * 100_001),
    ("gopher_word_length", prose(100, 3), prose(99, 3) + " ab"),
    ("gopher_word_length", prose(100, 10), prose(99, 10) + " elevenchars"),
    ("gopher_hashes", prose(100) + " #" * 10, prose(100) + " #" * 11),
    ("gopher_ellipses", prose(100) + " ..." * 10, prose(100) + " …" * 11),
    ("gopher_bullet_lines", lines(["- x"] * 90, LINES[:10]), lines(["• x"] * 91, LINES[:9])),
    (
        "gopher_ellipsis_lines",
        lines([f"{line}..." for line in LINES[:30]], LINES[30:]),
        lines([f"{line}…" for line in LINES[:31]], LINES[31:]),
    ),
    ("gopher_alphabetic_words", prose(80) + " 12" * 20, prose(79) + " 12" * 21),
    ("gopher_stop_words", prose(60) + " The with", prose(60) + " the"),
    (
        "gopher_repeated_lines",
        lines(LINES[:70], LINES[:30]), lines(LINES[:69], LINES[:31]),
    ),
    (
        "gopher_repeated_line_characters",
        lines(LINES[:80], LINES[:20]), lines([*LINES[:79], LINES[79][:-1]], LINES[:20]),
    ),
    (
        "gopher_repeated_paragraphs",
        lines(LINES[:70], LINES[:30], "\n\n"), lines(LINES[:69], LINES[:31], "\n\n"),
    ),
    (
        "gopher_repeated_paragraph_characters",
        lines(LINES[:80], LINES[:20], "\n\n"),
        lines([*LINES[:79], LINES[79][:-1]], LINES[:20], "\n\n"),
    ),
    *((f"gopher_top_{n}gram", repeating(n, size, 100), repeating(n, size, 99))
      for n, size in ((2, 10), (3, 9), (4, 8))),
    *((f"gopher_repeated_{n}grams", repeating(n, size, 200), repeating(n, size, 199))
      for n, size in ((5, 15), (6, 14), (7, 13), (8, 12), (9, 11), (10, 10))),
]  # fmt: skip


@pytest.mark.parametrize("name, at_the_limit, beyond", SIDES)
def test_a_rule_is_broken_beyond_its_limit_and_not_at_it(name, at_the_limit, beyond):
    low, high, _ = LIMITS[name]
    rule = RULES[name]
    figure = rule.measure(Text(at_the_limit))
    if name != "c4_short_lines" or "\n" in at_the_limit:
        assert figure in (low, high)
    assert not rule.broken(Text(at_the_limit))
    further = rule.measure(Text(beyond))
    assert further < low or further > high
    assert abs(further - figure) <= max(1, 0.05 * abs(figure))
    assert rule.broken(Text(beyond))


def test_every_limit_has_its_two_sides():
    found = {
        (name, side)
        for name, text, _ in SIDES
        for side in (0, 1)
        if RULES[name].measure(Text(text)) == LIMITS[name][side]
    }
    assert found == {(name, side) for name, limits in LIMITS.items()
                     for side in (0, 1) if abs(limits[side]) < NO}  # fmt: skip


@pytest.mark.parametrize("name", [name for name, limits in LIMITS.items() if limits[2]])
def test_a_passage_is_judged_from_the_words_on_that_the_rule_presumes(name):
    presumed, rule = LIMITS[name][2], RULES[name]
    assert not rule.applies(Text("w " * (presumed - 1), passage=True))
    assert rule.applies(Text("w " * presumed, passage=True))
    assert rule.applies(Text("w " * (presumed - 1)))


def test_what_the_rules_say_about_themselves_has_their_numbers():
    """Reports show these sentences: they must not outlive a change of the numbers."""
    said = {
        "c4_sentences": "three", "gopher_word_length": "3 to 10", "gopher_stop_words": "two",
        "gopher_hashes": "0.1", "gopher_ellipses": "0.1", "gopher_alphabetic_words": "80%",
        "gopher_bullet_lines": "90%", "gopher_ellipsis_lines": "30%", "c4_short_lines": "five",
    }  # fmt: skip
    for name, rule in GOPHER_RULES.items():
        if "repeated" in name or "_top_" in name:
            said[name] = f"{100 * rule.high:.0f}%"
    assert not {name: rule for name, rule in said.items() if rule not in RULES[name].about}
    about = RULES["gopher_word_count"].about
    assert "50" in about.split() and "100,000" in about.split()


@pytest.mark.parametrize("word", ["the", "be", "to", "of", "and", "that", "have", "with"])
def test_each_stop_word_counts(word):
    rule = RULES["gopher_stop_words"]
    assert rule.measure(Text(f"{word} {word.upper()}, {word}x")) == 2


@pytest.mark.parametrize("joint, pieces", [("\n", "lines"), ("\n\n", "paragraphs")])
def test_repetition_by_number_is_not_that_by_characters(joint, pieces):
    text = Text(joint.join(["a", "four", "a"]))
    of_one = pieces[:-1]
    assert RULES[f"gopher_repeated_{pieces}"].measure(text) == 1 / 3
    assert RULES[f"gopher_repeated_{of_one}_characters"].measure(text) == 1 / 6


@pytest.mark.parametrize("name, text", [("gopher_hashes", "## #"), ("gopher_ellipses", "… ... …")])
def test_symbols_without_any_word_count_as_beside_one(name, text):
    assert RULES[name].measure(Text(text)) == 3


def test_one_bad_word_is_too_many_and_a_phrase_counts_once():
    rule = bad_words_rule(["oh", "no", "oh no"])
    assert rule.measure(Text("Oh no")) == 1 and rule.broken(Text("Oh no"))
    assert not rule.broken(Text("nobody"))


def test_only_the_last_line_of_a_passage_may_be_unfinished():
    rule = C4_RULES["c4_terminal_punctuation"]
    assert rule.measure(Text("not ended\nIt ends.\ncut", passage=True)) == 9 / 17
    assert rule.measure(Text("It ends.\nnot ended\nIt ends.", passage=True)) == 9 / 25
    assert rule.measure(Text("not ended\ncut", passage=True)) == 1
    assert rule.measure(Text("cut", passage=True)) == 0


def test_spans_are_of_three_sentences_and_no_more():
    first = "A one. B two. C three. D four."
    assert repeated_spans([first, "B two. C three. D four. E five. F six."]) == [0, 1 / 3]
    # two sentences in a row are none
    assert repeated_spans([first, "A one. B two. X three. C three. D four."]) == [0, 0]
