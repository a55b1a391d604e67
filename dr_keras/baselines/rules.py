"""What a heuristic rule is: a figure measured on a text, and the range that passes.

Rules see a text as words, lines, sentences and paragraphs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
import dataclasses
import functools
import math
import re

_WORD_CHARACTER = re.compile(r"\w", re.UNICODE)
# A sentence ends in marks, perhaps closed by quotes or brackets, before white space or at the end.
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s|$)")


class Text:
    """One text and what rules count in it; everything is worked out once, when first asked for.

    Args:
      text: as found.
      passage: whether it is a piece of a longer document, cut where it happened to end.
    """

    def __init__(self, text: str, passage: bool = False):
        self.text, self.passage = text, passage

    @functools.cached_property
    def words(self) -> list[str]:
        """Stretches without white space that hold a letter or digit, with their punctuation."""
        return [word for word in self.text.split() if _WORD_CHARACTER.search(word)]

    @functools.cached_property
    def bare_words(self) -> list[str]:
        """`words` in lower case, without punctuation at their ends."""
        return [re.sub(r"^\W+|\W+$", "", word).lower() for word in self.words]

    @functools.cached_property
    def lines(self) -> list[str]:
        """Lines that hold anything, without white space at their ends."""
        return [line.strip() for line in self.text.splitlines() if line.strip()]

    @functools.cached_property
    def paragraphs(self) -> list[str]:
        """Stretches between empty lines, without white space at their ends."""
        return [part.strip() for part in re.split(r"\n\s*\n", self.text) if part.strip()]

    @functools.cached_property
    def sentences(self) -> int:
        """Number of sentence ends, line by line; a line without any counts none."""
        return sum(count_sentences(line) for line in self.lines)

    @functools.cached_property
    def characters(self) -> int:
        """Characters that are not white space."""
        return sum(len(part) for part in self.text.split())


def count_sentences(line: str) -> int:
    """Number of sentence ends in a line."""
    return len(_SENTENCE_END.findall(line))


def share(part: float, whole: float) -> float:
    """part / whole, and 0 of nothing."""
    return part / whole if whole else 0.0


def repeated_share(pieces: Sequence[str], by_characters: bool) -> float:
    """Share of pieces that occurred before in the same text, by number or by their characters."""
    seen: set[str] = set()
    repeated = total = 0
    for piece in pieces:
        size = len(piece) if by_characters else 1
        total += size
        repeated += size * (piece in seen)
        seen.add(piece)
    return share(repeated, total)


def top_ngram_share(words: Sequence[str], n: int) -> float:
    """Share of the words' characters in the commonest n-gram; 0 where none occurs twice.

    Of n-grams that are as common, the longest counts. One that overlaps itself can make no more
    than the whole.
    """
    counts = Counter(zip(*(words[k:] for k in range(n))))
    if not counts:
        return 0.0
    often, longest = max((times, sum(map(len, gram))) for gram, times in counts.items())
    total = sum(map(len, words))
    return share(min(often * longest, total), total) if often > 1 else 0.0


def repeated_ngram_share(words: Sequence[str], n: int) -> float:
    """Share of the words' characters inside n-grams that occur more than once.

    A word in several such n-grams counts once (Rae et al. 2021, appendix A1.1).
    """
    grams = list(zip(*(words[k:] for k in range(n))))
    counts = Counter(grams)
    inside = [False] * len(words)
    for start, gram in enumerate(grams):
        if counts[gram] > 1:
            inside[start : start + n] = [True] * n
    repeated = sum(len(word) for word, covered in zip(words, inside) if covered)
    return share(repeated, sum(map(len, words)))


@dataclasses.dataclass(frozen=True)
class Rule:
    """One named rule.

    Attributes:
      name: of the rule.
      measure: text -> the figure that the rule is about.
      low, high: a figure below `low` or above `high` breaks the rule.
      presumes: words that the rule presumes a text to have: of a *passage* (a piece of a longer
        document) with fewer it says nothing, so it cannot be broken. A whole document that is
        shorter is judged as it is.
      about: what breaks it, in a few words.
    """

    name: str
    measure: Callable[[Text], float]
    low: float = -math.inf
    high: float = math.inf
    presumes: int = 0
    about: str = ""

    def applies(self, text: Text) -> bool:
        """Whether the rule says anything about this text."""
        return not text.passage or len(text.words) >= self.presumes

    def broken(self, text: Text, figure: float | None = None) -> bool:
        """Whether the text breaks the rule; `figure` is its own, where it is known already."""
        if not self.applies(text):
            return False
        return not self.low <= (self.measure(text) if figure is None else figure) <= self.high


def rule(
    low: float = -math.inf,
    high: float = math.inf,
    presumes: int = 0,
    about: str = "",
    into: dict[str, Rule] | None = None,
) -> Callable:
    """Decorator: a function of a `Text` joins the table `into` as a rule of its own name."""

    def register(measure: Callable[[Text], float]) -> Callable[[Text], float]:
        into[measure.__name__] = Rule(measure.__name__, measure, low, high, presumes, about)
        return measure

    return register
