"""The rules by which C4 and MassiveWeb were cleaned, each as a figure of one text and a range.

C4: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer" (JMLR 21), section 2.2. C4 *edits* pages: some rules remove single lines, and a page
goes when too little is left. A filter of examples keeps or drops, so a rule about lines measures
the share of the text (in characters) that lies in lines which C4 would remove, and is broken where
that is more than half. The limits of the rules about whole pages are the paper's. Not here:
deduplication of three-sentence spans needs the whole corpus (`repeated_spans`, which `Heuristics`
adds); the citation markers of Wikipedia are edited away in C4, and nothing is dropped for them; the
test for English (langdetect at 0.99) needs a model that is not a dependency.

Gopher: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training
Gopher" (arXiv 2112.11446), appendix A1.1: quality filtering, and repetition removal with the limits
of its table A1. A page that breaks any of them is dropped there.

`tests/baselines/test_rules_of_datatrove.py` holds both against another implementation.
"""

from collections.abc import Sequence
import functools
import re

from dr_keras.baselines.rules import (
    Rule,
    Text,
    repeated_ngram_share,
    repeated_share,
    rule,
    share,
    top_ngram_share,
)

C4_RULES: dict[str, Rule] = {}

TERMINAL_MARKS = (".", "!", "?", '"', "”")
POLICY_PHRASES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
_MOST = 0.5


def _share_of_lines(text: Text, removed) -> float:
    """Share of the characters in lines for which `removed(line)` holds."""
    sizes = [(len(line), removed(line)) for line in text.lines]
    return share(sum(size for size, gone in sizes if gone), sum(size for size, _ in sizes))


# The last line of a passage is cut anywhere, and in flowing text it is all there is.
@rule(high=_MOST, presumes=50, about="lines without a final . ! ? or quote", into=C4_RULES)
def c4_terminal_punctuation(text: Text) -> float:
    """Share of the text in lines that do not end in a terminal punctuation mark.

    "We only retained lines that ended in a terminal punctuation mark (i.e. a period, exclamation
    mark, question mark, or end quotation mark)" (section 2.2). A line that ends in an ellipsis does
    not count as ended, as in the published code. The unfinished last line of a passage is left out.
    """
    lines = text.lines
    if text.passage and lines and not lines[-1].endswith(TERMINAL_MARKS):
        lines = lines[:-1]
    part = Text("\n".join(lines))
    return _share_of_lines(
        part, lambda line: not line.endswith(TERMINAL_MARKS) or line.endswith("...")
    )


@rule(high=_MOST, about="lines of fewer than five words", into=C4_RULES)
def c4_short_lines(text: Text) -> float:
    """Share of the text in lines of fewer than five words.

    "... and only retained lines that contained at least 5 words" (section 2.2). Words are what
    white space separates.
    """
    return _share_of_lines(text, lambda line: len(line.split()) < 5)


# Three sentences of ordinary prose are about fifty words.
@rule(low=3, presumes=50, about="fewer than three sentences", into=C4_RULES)
def c4_sentences(text: Text) -> float:
    """Number of sentences.

    "We discarded any page with fewer than 3 sentences" (section 2.2). A passage of fewer than 50
    words may be too short for three, so of such a one the rule says nothing.
    """
    return float(text.sentences)


@rule(high=_MOST, about="lines that speak of JavaScript", into=C4_RULES)
def c4_javascript(text: Text) -> float:
    """Share of the text in lines with the word "javascript", whatever its case.

    "Many of the scraped pages contained warnings stating that Javascript should be enabled so we
    removed any line with the word Javascript" (section 2.2).
    """
    return _share_of_lines(text, lambda line: "javascript" in line.lower())


@rule(high=_MOST, about="lines of a policy notice", into=C4_RULES)
def c4_policy(text: Text) -> float:
    """Share of the text in lines with a phrase of boilerplate policy notices.

    "... so we removed any lines containing the strings "terms of use", "privacy policy", "cookie
    policy", "uses cookies", "use of cookies", or "use cookies"" (section 2.2).
    """
    return _share_of_lines(text, lambda line: any(p in line.lower() for p in POLICY_PHRASES))


@rule(high=0, about="lorem ipsum", into=C4_RULES)
def c4_lorem_ipsum(text: Text) -> float:
    """How often the phrase "lorem ipsum" occurs.

    "... we removed any page where the phrase "lorem ipsum" appeared" (section 2.2).
    """
    return float(text.text.lower().count("lorem ipsum"))


@rule(high=0, about="a curly bracket", into=C4_RULES)
def c4_curly_bracket(text: Text) -> float:
    """Number of opening curly brackets.

    "Since the curly bracket "{" appears in many programming languages ... but not in natural text,
    we removed any pages that contained a curly bracket" (section 2.2).
    """
    return float(text.text.count("{"))


def bad_words_rule(words: Sequence[str]) -> Rule:
    """Number of words of a list; one breaks the rule.

    "We removed any page that contained any word on the "List of Dirty, Naughty, Obscene or
    Otherwise Bad Words"" (section 2.2). The list is not shipped: C4 took it from
    github.com/LDNOOBW/List-of-Dirty-Naughty-Obscene-and-Otherwise-Bad-Words; bind it, or another,
    as `heuristics.bad_words`.

    Args:
      words: words or phrases, matched whole and without regard to case.
    """
    listed = "|".join(re.escape(word.lower()) for word in sorted(words, key=len, reverse=True))
    pattern = re.compile(rf"(?<!\w)(?:{listed})(?!\w)")

    def c4_bad_words(text: Text) -> float:
        return float(len(pattern.findall(text.text.lower())))

    return Rule("c4_bad_words", c4_bad_words, high=0, about="a word on the list of bad words")


def repeated_spans(texts: Sequence[str]) -> list[float]:
    """Share of each text's spans of three sentences that occurred before in the corpus.

    "To deduplicate the data set, we discarded all but one of any three-sentence span occurring more
    than once in the data set" (section 2.2). Texts count in the order given; one of fewer than
    three sentences has no span, and the share 0.
    """
    seen: set[int] = set()
    shares = []
    for text in texts:
        sentences = [s for s in re.split(r"(?<=[.!?…])\s+", text.strip()) if s]
        spans = [hash(tuple(sentences[k : k + 3])) for k in range(len(sentences) - 2)]
        shares.append(share(sum(span in seen for span in spans), len(spans)))
        seen.update(spans)
    return shares


# ---------------------------------------------------------------------------------------- Gopher

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
