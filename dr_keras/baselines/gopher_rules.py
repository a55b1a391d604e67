"""The rules by which MassiveWeb was filtered for Gopher, each as a figure of one text and a range.

Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher"
(arXiv 2112.11446), appendix A1.1: quality filtering, and repetition removal with the limits of its
table A1. A page that breaks any of them is dropped there.
"""

import functools
import re

from dr_keras.baselines.rules import Rule, rule
from dr_keras.baselines.texts import (
    Text,
    repeated_ngram_share,
    repeated_share,
    share,
    top_ngram_share,
)

GOPHER_RULES: dict[str, Rule] = {}

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
BULLETS = ("•", "‣", "◦", "●", "▪", "·", "-", "*")
# A page of Gopher's has 50 words at least: limits on shares were set for such.
_PAGE = 50


@rule(
    low=50,
    high=100_000,
    presumes=_PAGE,
    about="fewer than 50 or over 100,000 words",
    into=GOPHER_RULES,
)
def gopher_word_count(text: Text) -> float:
    """Number of words: "between 50 and 100,000 words" (A1.1).

    A passage of fewer says nothing about the length of its document.
    """
    return float(len(text.words))


@rule(low=3, high=10, presumes=5, about="mean word length outside 3 to 10", into=GOPHER_RULES)
def gopher_word_length(text: Text) -> float:
    """Mean characters a word: "mean word length is outside the range of 3 to 10" (A1.1).

    Of a passage of fewer than five words the mean says nothing.
    """
    return share(sum(map(len, text.words)), len(text.words))


@rule(high=0.1, about="over 0.1 hash marks a word", into=GOPHER_RULES)
def gopher_hashes(text: Text) -> float:
    """Hash marks a word: "symbol-to-word ratio greater than 0.1 for ... the hash symbol" (A1.1)."""
    return text.text.count("#") / max(len(text.words), 1)


@rule(high=0.1, about="over 0.1 ellipses a word", into=GOPHER_RULES)
def gopher_ellipses(text: Text) -> float:
    """Ellipses a word: "symbol-to-word ratio greater than 0.1 for ... the ellipsis" (A1.1)."""
    return len(re.findall(r"…|\.{3,}", text.text)) / max(len(text.words), 1)


@rule(high=0.9, presumes=_PAGE, about="over 90% of lines are bullet points", into=GOPHER_RULES)
def gopher_bullet_lines(text: Text) -> float:
    """Share of lines that start with a bullet: "more than 90%" breaks it (A1.1).

    A short passage may lie inside one list of a longer page.
    """
    return share(sum(line.startswith(BULLETS) for line in text.lines), len(text.lines))


@rule(high=0.3, presumes=_PAGE, about="over 30% of lines end in an ellipsis", into=GOPHER_RULES)
def gopher_ellipsis_lines(text: Text) -> float:
    """Share of lines that end with an ellipsis: "more than 30%" breaks it (A1.1)."""
    return share(sum(line.endswith(("...", "…")) for line in text.lines), len(text.lines))


@rule(low=0.8, about="under 80% of words have a letter", into=GOPHER_RULES)
def gopher_alphabetic_words(text: Text) -> float:
    """Share of words with at least one letter: "80% of words in a document" must have (A1.1).

    Words are here all stretches without white space, or a text of symbols would have none to judge.
    """
    words = text.text.split()
    return share(sum(any(c.isalpha() for c in word) for word in words), len(words))


@rule(low=2, presumes=_PAGE, about="fewer than two English stop words", into=GOPHER_RULES)
def gopher_stop_words(text: Text) -> float:
    """How many words are one of eight stop words; two must be there (A1.1).

    "does not contain at least two of the following English words: the, be, to, of, and, that, have,
    with". Occurrences are counted, repeated ones too. A passage of fewer than 50 words may do
    without.
    """
    return float(sum(word in STOP_WORDS for word in text.bare_words))


@rule(high=0.30, presumes=_PAGE, about="over 30% of lines repeat another", into=GOPHER_RULES)
def gopher_repeated_lines(text: Text) -> float:
    """Share of lines that occurred before in the text (table A1: 0.30)."""
    return repeated_share(text.lines, by_characters=False)


@rule(high=0.20, presumes=_PAGE, about="over 20% of text in repeated lines", into=GOPHER_RULES)
def gopher_repeated_line_characters(text: Text) -> float:
    """Share of characters in lines that occurred before (table A1: 0.20)."""
    return repeated_share(text.lines, by_characters=True)


@rule(high=0.30, presumes=_PAGE, about="over 30% of paragraphs repeat another", into=GOPHER_RULES)
def gopher_repeated_paragraphs(text: Text) -> float:
    """Share of paragraphs that occurred before in the text (table A1: 0.30)."""
    return repeated_share(text.paragraphs, by_characters=False)


@rule(high=0.20, presumes=_PAGE, about="over 20% of text in repeated paragraphs", into=GOPHER_RULES)
def gopher_repeated_paragraph_characters(text: Text) -> float:
    """Share of characters in paragraphs that occurred before (table A1: 0.20)."""
    return repeated_share(text.paragraphs, by_characters=True)


def gopher_top_ngram(text: Text, n: int) -> float:
    """Share of the words' characters in the commonest n-gram, where it occurs more than once.

    Table A1: at most 0.20, 0.18 and 0.16 for n of 2, 3 and 4. A short passage has few n-grams, and
    the commonest makes a large part of it by chance.
    """
    return top_ngram_share(text.bare_words, n)


def gopher_repeated_ngrams(text: Text, n: int) -> float:
    """Share of the words' characters in n-grams that occur more than once, each counted once.

    Table A1: at most 0.15, 0.14, 0.13, 0.12, 0.11 and 0.10 for n of 5 to 10.
    """
    return repeated_ngram_share(text.bare_words, n)


def _ngram_rules(name: str, measure, limits: dict[int, float], about: str) -> None:
    for n, high in limits.items():
        GOPHER_RULES[name.format(n)] = Rule(
            name.format(n),
            functools.partial(measure, n=n),
            high=high,
            presumes=_PAGE,
            about=about.format(high, n),
        )


_ngram_rules(
    "gopher_top_{}gram",
    gopher_top_ngram,
    {2: 0.20, 3: 0.18, 4: 0.16},
    "over {:.0%} of text in one {}-gram",
)
_ngram_rules(
    "gopher_repeated_{}grams",
    gopher_repeated_ngrams,
    {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10},
    "over {:.0%} of text in repeated {}-grams",
)
