"""Arms by rules that people wrote, and the features that a score is compared with.

Rules do not come with a fraction. To drop exactly as much as the other arms, examples are ranked by
how many rules they break: those that break most go first. Where fewer than the fraction break one,
the rest is dropped by hash (or, before a rater, by its score); where more do, those that break
fewest stay. The budget says how many broke one, so that a reader sees how far the fraction is from
the rules' own.
"""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.published_rules import (
    C4_RULES,
    GOPHER_RULES,
    bad_words_rule,
    repeated_spans,
)
from dr_keras.baselines.rules import Rule, Text, share
from dr_keras.baselines.selection import KEPT, Selection, hashes, keep_first
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal
import gin

SPANS = "c4_repeated_spans"
_MOST = 0.5
FAMILIES = {"c4": (*C4_RULES, SPANS), "gopher": tuple(GOPHER_RULES)}

PASSES_C4 = "passes_c4"  # 1.0 where none of the rules of C4 in use is broken

# Not rules of anybody's: plain figures of a text, which scores are compared with as well. With
# those of the rules, of a window (tokens, packing) and of a language model they are the paper's.
FEATURES = {
    "characters": lambda text: float(text.characters),
    "words": lambda text: float(len(text.words)),
    "unique_characters": lambda text: float(len(set(text.text))),
    "lines": lambda text: float(len(text.lines)),
    "empty_lines": lambda text: share(
        sum(not line.strip() for line in text.text.splitlines()), len(text.text.splitlines())
    ),
    "sentences": lambda text: float(text.sentences),
    "words_a_sentence": lambda text: len(text.words) / max(text.sentences, 1),
    "distinct_words": lambda text: share(len(set(text.bare_words)), len(text.bare_words)),
    "non_alphanumeric": lambda text: _share_of_characters(
        text, lambda c: not (c.isalnum() or c.isspace())
    ),
    "punctuation": lambda text: _share_of_characters(text, lambda c: c in _PUNCTUATION),
    "digits": lambda text: _share_of_characters(text, str.isdigit),
    "upper_case": lambda text: _share_of_characters(text, str.isupper),
    "white_space": lambda text: _share_of_characters(text, str.isspace),
    "non_ascii": lambda text: _share_of_characters(text, lambda c: not c.isascii()),
}
# The rule that measures the same: one figure under two names would share its weight in a
# regression.
_SAME = {"words": "gopher_word_count", "sentences": "c4_sentences"}
_PUNCTUATION = frozenset(".,;:!?'\"()-–—“”‘’…")


def _share_of_characters(text: Text, is_counted) -> float:
    return share(sum(map(is_counted, text.text)), len(text.text))


@dataclasses.dataclass(frozen=True)
class Heuristics:
    """Rules in use, and whether texts are passages; made by `heuristics`.

    Attributes:
      rules: name -> rule of one text.
      spans: whether repeated three-sentence spans of the corpus are a rule too.
      passages: whether texts are pieces of longer documents; None asks the candidates.
    """

    rules: dict[str, Rule]
    spans: bool = True
    passages: bool | None = None

    def texts(self, candidates: Candidates) -> list[Text]:
        passages = candidates.passages if self.passages is None else self.passages
        return [Text(text, passages) for text in candidates.texts]

    def measure(self, candidates: Candidates, features: bool = False) -> dict[str, np.ndarray]:
        """The figure of every rule for every candidate, float64 [N] each.

        Args:
          candidates: N of them.
          features: add the plain figures of `FEATURES`, but for those that a rule in use measures,
            and `PASSES_C4`, where rules of C4 are in use.
        """
        texts = self.texts(candidates)
        measures = {name: rule.measure for name, rule in self.rules.items()}
        if features:
            measures |= {n: m for n, m in FEATURES.items() if _SAME.get(n) not in self.rules}
        found = {
            name: np.array([measure(text) for text in texts], np.float64)
            for name, measure in measures.items()
        }
        if self.spans:
            found[SPANS] = self._spans(candidates)
        of_c4 = [
            [rule.broken(*both) for both in zip(texts, found[name])]
            for name, rule in self.rules.items()
            if name.startswith("c4_")
        ]
        if self.spans:
            of_c4.append(found[SPANS] > _MOST)
        if features and of_c4:
            found[PASSES_C4] = 1.0 - np.any(of_c4, axis=0)
        return found

    def broken(self, candidates: Candidates) -> dict[str, np.ndarray]:
        """Which rules each candidate breaks: rule -> bool [N]."""
        texts = self.texts(candidates)
        broken = {
            name: np.array([rule.broken(text) for text in texts], bool)
            for name, rule in self.rules.items()
        }
        if self.spans:
            broken[SPANS] = self._spans(candidates) > _MOST
        return broken

    def _spans(self, candidates: Candidates) -> np.ndarray:
        # Which of two copies counts as the repeated one must not depend on the order of the set.
        order = np.argsort(candidates.ids.astype(str), kind="stable")
        shares = np.empty(len(order))
        shares[order] = repeated_spans([candidates.texts[row] for row in order])
        return shares


@gin.configurable
def heuristics(
    rules: Sequence[str] | None = None,
    bad_words: Sequence[str] = (),
    more_rules: Sequence[Rule] = (),
    passages: bool | None = None,
    families: Sequence[str] = ("c4", "gopher"),
) -> Heuristics:
    """The rules to use.

    Args:
      rules: names of C4 and Gopher rules; None takes all of the families.
      bad_words: C4's list of bad words, or another; empty leaves that rule out.
      more_rules: `rules.Rule` objects of your own.
      passages: whether texts are pieces of longer documents, so that rules say nothing about
        shorter ones than they presume; None: windows are, whole documents are not.
      families: "c4", "gopher" or both; what a caller narrows the rules to.

    Raises:
      ConfigurationError: an unknown name, or no rule at all.
    """
    known = {**C4_RULES, **GOPHER_RULES}
    for name in rules or ():
        if name not in known and name != SPANS:
            raise ConfigurationError(
                f"heuristics.rules names {name!r}, which is no rule: choose among"
                f" {', '.join([*known, SPANS])}."
            )
    if set(families) - set(FAMILIES):
        raise ConfigurationError(f"families are {', '.join(FAMILIES)}, not {list(families)}.")
    in_families = [name for family in families for name in FAMILIES[family]]
    names = [name for name in in_families if rules is None or name in rules]
    chosen = {name: known[name] for name in names if name != SPANS}
    if bad_words and "c4" in families:
        found = bad_words_rule(bad_words)
        chosen[found.name] = found
    chosen |= {added.name: added for added in more_rules}
    if not names and not chosen:
        raise ConfigurationError(f"no rule of {', '.join(families)} is left: name some.")
    return Heuristics(chosen, SPANS in names, passages)


def heuristics_arm(
    candidates: Candidates,
    discard_fraction: Decimal,
    seed: int = 0,
    scores=None,
    broken: Mapping[str, np.ndarray] | None = None,
    arm: str = "heuristics",
) -> Selection:
    """Drops what breaks most rules, then what is scored lowest; ties go by a hash of (seed, id).

    Where more break a rule than may go, those that break fewest stay, the best-scored first.

    Args:
      candidates: what to choose among.
      discard_fraction: f in [0, 1).
      seed: of the hash.
      scores: float [N], higher is better, NaN ranks lowest; None leaves it to the hash.
      broken: `heuristics().broken(candidates)`, or that of other rules; None works it out.
      arm: name of the arm.

    Raises:
      DataError: scores of another length.
    """
    if broken is None:
        broken = heuristics().broken(candidates)
    draws = hashes(candidates.ids, seed, "heuristics arm")
    otherwise = "breaks no rule; " + ("dropped at random" if scores is None else "scored lowest")
    scores = np.zeros(len(candidates)) if scores is None else np.asarray(scores, np.float64)
    if scores.shape != (len(candidates),):
        raise DataError(f"{arm}: {len(candidates)} examples but scores of shape {scores.shape}.")
    scores = np.where(np.isnan(scores), -np.inf, scores)
    names = np.array(list(broken), object)
    table = np.stack([broken[name] for name in names])
    number = table.sum(axis=0)
    first = names[table.argmax(axis=0)]
    facts = {
        "broke_a_rule": int((number > 0).sum()),
        "broke_a_rule_share": float((number > 0).mean()),
        "by_rule": {str(name): int(broken[name].sum()) for name in names},
    }
    chosen = keep_first(
        arm,
        candidates,
        np.lexsort((draws, -scores, number)),
        discard_fraction,
        -number,
        np.where(number > 0, first, otherwise).astype(object),
        facts,
    )
    in_spite = chosen.kept & (number > 0)
    chosen.facts["kept_in_spite"] = int(in_spite.sum())
    chosen.reasons[in_spite] = f"{KEPT}: in spite of a broken rule"
    return chosen
