"""What a heuristic rule is: a figure measured on a text, and the range that passes."""

from collections.abc import Callable
import dataclasses
import math

from dr_keras.baselines.texts import Text


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
        return not text.words_are_few(self.presumes)

    def broken(self, text: Text) -> bool:
        """Whether the text breaks the rule."""
        return self.applies(text) and not self.low <= self.measure(text) <= self.high


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
