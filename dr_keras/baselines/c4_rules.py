"""The rules by which C4 was cleaned, each as a figure of one text and a limit.

Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer" (JMLR 21), section 2.2. C4 *edits* pages: some rules remove single lines, and a page
goes when too little is left. A filter of examples keeps or drops, so a rule about lines measures
the share of the text (in characters) that lies in lines which C4 would remove, and is broken where
that is more than half. The limits of the rules about whole pages are the paper's.

Not here: deduplication of three-sentence spans needs the whole corpus (`repeated_spans`, which
`Heuristics` adds); the citation markers of Wikipedia are edited away in C4, and nothing is dropped
for them; the test for English (langdetect at 0.99) needs a model that is not a dependency.
"""

from collections.abc import Sequence
import re

from dr_keras.baselines.rules import Rule, rule
from dr_keras.baselines.texts import Text, share

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
