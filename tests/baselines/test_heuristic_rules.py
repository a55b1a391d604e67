"""Each rule of C4 and Gopher against texts whose figure was worked out by hand."""

import math

from hypothesis import example, given, settings
from hypothesis import strategies as st
import pytest

from dr_keras.baselines.published_rules import (
    C4_RULES,
    GOPHER_RULES,
    bad_words_rule,
    repeated_spans,
)
from dr_keras.baselines.rules import Text, repeated_ngram_share, repeated_share, top_ngram_share

RULES = {**C4_RULES, **GOPHER_RULES}
PROSE = "the cat sat on a mat"  # six words of 15 letters in all
LONG = " ".join(f"word{chr(97 + k // 26)}{chr(97 + k % 26)}" for k in range(60))  # all distinct

# rule, text, figure, whether a whole document breaks the rule
CASES = [
    # 10 of 20 characters in the unended line: not more than half
    ("c4_terminal_punctuation", "One line.!\nno end mar", 10 / 20, False),
    ("c4_terminal_punctuation", "It ends.\nthis line does not end", 22 / 30, True),
    ("c4_terminal_punctuation", "Ends in dots...", 1.0, True),
    ("c4_terminal_punctuation", 'He said "yes"\nReally?\nYes!\n', 0.0, False),
    ("c4_short_lines", "one two three four five\nMenu", 4 / 27, False),
    ("c4_short_lines", "Home\nAbout us\nthis line has five words", 12 / 36, False),
    ("c4_short_lines", "Home\nAbout us and you\nthis line has words ok", 20 / 42, False),
    ("c4_short_lines", "one two three four", 1.0, True),
    ("c4_sentences", "One. Two! Three?", 3, False),
    ("c4_sentences", "One. Two at 3.5 per cent", 1, True),
    ("c4_sentences", 'He said "go." She went... Fine.', 3, False),
    ("c4_javascript", "Please enable JavaScript\nand", 24 / 27, True),
    ("c4_javascript", "a line of eleven\njavascript", 10 / 26, False),
    ("c4_policy", "By using this site you accept our Terms of Use.", 1.0, True),
    ("c4_policy", "cookie policy\nA longer line of ordinary text here.", 13 / 49, False),
    ("c4_lorem_ipsum", "Lorem ipsum dolor, lorem ipsum", 2, True),
    ("c4_lorem_ipsum", "lorem dolor ipsum", 0, False),
    ("c4_curly_bracket", "if (x) { y(); }", 1, True),
    ("c4_curly_bracket", "if (x) [ y(); ] }", 0, False),
    ("gopher_word_count", LONG, 60, False),
    ("gopher_word_count", PROSE + " - !", 6, True),
    ("gopher_word_length", PROSE, 15 / 6, True),
    ("gopher_word_length", "three four fives", 14 / 3, False),
    ("gopher_word_length", "elevenchars elevencharss", 23 / 2, True),
    ("gopher_hashes", "# one two three four five six seven eight nine ten", 0.1, False),
    ("gopher_hashes", "#one #two three", 2 / 3, True),
    ("gopher_ellipses", "well ... so… and", 2 / 3, True),
    ("gopher_ellipses", "well. so.. and", 0, False),
    ("gopher_bullet_lines", "- one\n* two\n• three\nfour", 3 / 4, False),
    ("gopher_bullet_lines", "- one\n* two", 1.0, True),
    ("gopher_ellipsis_lines", "more...\nand more…\nend\nend", 2 / 4, True),
    ("gopher_ellipsis_lines", "more...\nend\nend\nend", 1 / 4, False),
    ("gopher_alphabetic_words", "a1 b c d 5", 4 / 5, False),
    ("gopher_alphabetic_words", "a b c 4 5", 3 / 5, True),
    ("gopher_stop_words", "The end of it", 2, False),
    ("gopher_stop_words", "the ends, there", 1, True),
    ("gopher_repeated_lines", "a\nb\na\na", 2 / 4, True),
    ("gopher_repeated_lines", "a\nb\nc\na", 1 / 4, False),
    ("gopher_repeated_line_characters", "long line\nx\nlong line", 9 / 19, True),
    ("gopher_repeated_line_characters", "x\nlong line\nx", 1 / 11, False),
    ("gopher_repeated_paragraphs", "a\n\nb\n\na", 1 / 3, True),
    ("gopher_repeated_paragraphs", "a\na\n\nb", 0, False),
    ("gopher_repeated_paragraph_characters", "aaaa\n\nb\n\naaaa", 4 / 9, True),
    ("gopher_repeated_paragraph_characters", "b\n\naaaaaaaa\n\nb", 1 / 10, False),
    # "a bb" twice: 6 of 12 characters
    ("gopher_top_2gram", "a bb ccc a bb ddd", 6 / 12, True),
    ("gopher_top_2gram", LONG, 0, False),
    ("gopher_top_3gram", "a b c a b c d", 6 / 7, True),
    ("gopher_top_4gram", "a b c d a b c d e", 8 / 9, True),
    ("gopher_repeated_5grams", "a b c d e f a b c d e", 10 / 11, True),
    ("gopher_repeated_6grams", "a b c d e f a b c d e", 0, False),
    ("gopher_repeated_7grams", "a b c d e f g a b c d e f g", 1.0, True),
    ("gopher_repeated_8grams", "a b c d e f g a b c d e f g", 0, False),
    ("gopher_repeated_9grams", "a b c d e f g h i j a b c d e f g h i", 18 / 19, True),
    ("gopher_repeated_10grams", "a b c d e f g h i j a b c d e f g h i", 0, False),
]


@pytest.mark.parametrize("name, text, figure, broken", CASES)
def test_rule(name, text, figure, broken):
    rule = RULES[name]
    assert rule.measure(Text(text)) == pytest.approx(figure)
    assert rule.broken(Text(text)) is broken


def test_every_rule_has_a_case_a_citation_and_its_own_limits():
    assert {name for name, *_ in CASES} == set(RULES)
    for name, rule in RULES.items():
        function = getattr(rule.measure, "func", rule.measure)
        cited = "section 2.2" if name.startswith("c4_") else "A1"
        assert cited.lower() in function.__doc__.lower(), name
        assert rule.about and (rule.low > -math.inf or rule.high < math.inf)
    table = [RULES[f"gopher_repeated_{n}grams"].high for n in range(5, 11)]
    assert table == [0.15, 0.14, 0.13, 0.12, 0.11, 0.10]
    assert [RULES[f"gopher_top_{n}gram"].high for n in (2, 3, 4)] == [0.20, 0.18, 0.16]


def test_a_passage_shorter_than_a_rule_presumes_cannot_break_it():
    for name in ("gopher_word_count", "gopher_stop_words", "c4_sentences", "gopher_top_2gram"):
        rule = RULES[name]
        text = "spam spam spam spam"
        assert rule.broken(Text(text)), name
        assert not rule.applies(Text(text, passage=True)) and rule.applies(Text(text))
        assert not rule.broken(Text(text, passage=True)), name
    # with the words that it presumes, a passage is judged like any text
    long = " ".join(["spam"] * 50)
    assert RULES["gopher_top_2gram"].broken(Text(long, passage=True))
    # rules that presume nothing judge every passage
    assert RULES["c4_curly_bracket"].broken(Text("{", passage=True))


def test_the_last_line_of_a_passage_may_be_unfinished():
    text = "\n".join(["A line that ends."] * 3 + ["and one that was cut somewhere in its long mid"])
    measure = C4_RULES["c4_terminal_punctuation"].measure
    assert measure(Text(text)) == pytest.approx(46 / 97)
    assert measure(Text(text, passage=True)) == 0


def test_bad_words_are_matched_whole_and_phrases_too():
    rule = bad_words_rule(["darn", "oh no"])
    assert rule.measure(Text("Darn it, darn! Oh no.")) == 3
    assert not rule.broken(Text("darning socks, oh not now"))


def test_repeated_spans_of_three_sentences():
    first = "One two. Three four. Five six. Seven."  # two spans
    second = "Three four. Five six. Seven. New one."  # its first span is the other's second
    assert repeated_spans([first, second, "Short. One."]) == [0, 0.5, 0]
    assert repeated_spans([first, first]) == [0, 1]


def test_empty_text_has_figures():
    for name, rule in RULES.items():
        assert math.isfinite(rule.measure(Text(""))), name


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="ab {}#.\n…-é0", max_size=80), st.booleans())
@example("0 0 0", False)  # a pair that overlaps itself
def test_figures_are_finite_and_shares_are_shares(text, passage):
    seen = Text(text, passage)
    for name, rule in RULES.items():
        figure = rule.measure(seen)
        assert math.isfinite(figure) and figure >= 0
        if rule.high <= 1 and name not in (
            "c4_lorem_ipsum",
            "c4_curly_bracket",
            "gopher_hashes",
            "gopher_ellipses",
        ):
            assert figure <= 1 + 1e-9, name


@given(st.lists(st.sampled_from(["a", "bb", "c"]), max_size=30), st.integers(2, 5))
def test_repetition_shares_agree_with_counting_them_plainly(words, n):
    grams = [tuple(words[k : k + n]) for k in range(len(words) - n + 1)]
    total = sum(map(len, words)) or 1
    covered = {k + j for k, g in enumerate(grams) if grams.count(g) > 1 for j in range(n)}
    assert repeated_ngram_share(words, n) == pytest.approx(
        sum(len(words[k]) for k in covered) / total
    )
    most = max((grams.count(g) for g in grams), default=0)
    sizes = [sum(map(len, g)) for g in grams if grams.count(g) == most]
    assert top_ngram_share(words, n) == pytest.approx(
        min(1, most * max(sizes) / total) if most > 1 else 0
    )
    assert repeated_share(words, False) == pytest.approx(
        (len(words) - len(set(words))) / max(len(words), 1)
    )
