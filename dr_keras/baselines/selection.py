"""Selections: which candidates an arm keeps, why, and what data that leaves it.

All arms of a comparison drop the same number of examples, to the unit, whatever rule they drop
them by: a difference between arms is then a difference of *what* they keep. Ties are broken, and
random choices made, by a hash of (seed, id); nothing depends on the order of the examples.
"""

from collections import Counter
from collections.abc import Mapping
import dataclasses
import fractions
import math

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.data.columns import by_rows, value_counts
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.example_ids import uniform_hash
from dr_keras.rating.fractions import Decimal, exact_fraction, oversized_batch
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, Rated, find_rule

KEPT = "kept"
SIDES = ("highest", "lowest", "middle")


def kept_count(total: int, discard_fraction: Decimal) -> int:
    """How many of `total` examples stay: all but floor(total x f), of the exact decimal f.

    Raises:
      ConfigurationError: f is not in [0, 1).
    """
    return int(total) - math.floor(total * exact_fraction(discard_fraction))


def batch_fraction(batch_size: int, discard_fraction: Decimal) -> fractions.Fraction:
    """The exact share that batch top-K discards: 1 - B / B_up.

    Give it to the offline arms as their `discard_fraction` to match them to an online one.
    """
    oversized = oversized_batch(batch_size, discard_fraction)
    return fractions.Fraction(oversized - int(batch_size), oversized)


@dataclasses.dataclass(frozen=True, eq=False)
class Selection:
    """What one arm keeps.

    Attributes:
      arm: its name.
      candidates: what it chose among, N of them.
      kept: bool [N].
      scores: float64 [N], by which it chose, higher is kept first; NaN where it used none.
      reasons: object [N]: "kept", or why not (or, after "kept: ", in spite of what).
      discard_fraction: as asked for.
      facts: what else is known of the arm, JSON-able.
    """

    arm: str
    candidates: Candidates
    kept: np.ndarray
    scores: np.ndarray
    reasons: np.ndarray
    discard_fraction: float
    facts: Mapping = dataclasses.field(default_factory=dict)

    @property
    def achieved_fraction(self) -> float:
        """The share that was really dropped."""
        return float(1 - self.kept.mean())

    @property
    def ids(self) -> set[str]:
        """Ids of the kept candidates."""
        return set(self.candidates.ids[self.kept].tolist())

    @property
    def rows(self) -> np.ndarray:
        """Rows of the example set that stay, ascending."""
        return self.candidates.rows(self.kept)

    def examples(self) -> ExampleSet:
        """The kept part of the example set.

        Where corpora have weights, each is multiplied by the share of the corpus that stays: that
        is what batch top-K does to a stream of these weights, and dropping half of one corpus would
        otherwise only repeat its other half twice as often.

        Raises:
          DataError: the candidates were documents without an example set.
        """
        whole = self.candidates.examples
        if whole is None:
            raise DataError(
                f"The arm '{self.arm}' chose among documents that are not in windows: use `ids`, or"
                " choose among window_candidates or joined_candidates."
            )
        rows = self.rows
        kept = whole.take(rows, f"{self.arm} arm")
        if whole.weights is None:
            return kept
        before, after = value_counts(whole.corpora), value_counts(kept.corpora)
        weights = {
            name: weight * after[name] / before[name] if before[name] else weight
            for name, weight in whole.weights.items()
        }
        return dataclasses.replace(kept, weights=weights)

    def budget(self) -> dict:
        """The arm's data budget, JSON-able.

        `examples` (to choose among), `kept`, `discard_fraction` (achieved), `asked_fraction`,
        `unique_tokens` (of what is kept), `tokens_before`, `by_source` (kept, of how many), the
        number of examples by reason, and the arm's own facts.
        """
        candidates = self.candidates
        before = value_counts(candidates.sources)
        after = Counter(candidates.sources[self.kept].tolist())
        reasons = Counter(self.reasons.tolist())
        return {
            "arm": self.arm,
            "examples": len(candidates),
            "kept": int(self.kept.sum()),
            "discard_fraction": self.achieved_fraction,
            "asked_fraction": float(self.discard_fraction),
            "unique_tokens": int(candidates.tokens[self.kept].sum()),
            "tokens_before": int(candidates.tokens.sum()),
            "by_source": {
                str(name): {"examples": before[name], "kept": after[name]}
                for name in sorted(before)
            },
            "reasons": dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
            **self.facts,
        }


def hashes(ids, seed: int, purpose: str) -> np.ndarray:
    """Numbers in [0, 1) from (seed, id), another set for each purpose: float64 [N]."""
    return by_rows(lambda some: uniform_hash([f"{purpose}\0{id}" for id in some], seed), ids)


def folds_of(documents, folds: int, seed: int) -> np.ndarray:
    """Fold of each example, int64 [N] in [0, folds): those of one document share it.

    Raises:
      ConfigurationError: fewer than 2 folds.
      DataError: a fold is empty.
    """
    if folds < 2:
        raise ConfigurationError(f"folds is {folds}: it must be at least 2.")
    names, inverse = np.unique(np.asarray(documents).astype(str), return_inverse=True)
    if len(names) < folds:
        raise DataError(
            f"{len(names)} documents cannot be cut into {folds} folds: add documents or lower"
            " folds."
        )
    # Ranks of the hashes, so that folds are equal to within one document.
    ranks = np.argsort(np.argsort(hashes(names, seed, "fold"), kind="stable"), kind="stable")
    return (ranks % folds)[inverse]


def keep_first(
    arm: str,
    candidates: Candidates,
    order: np.ndarray,
    discard_fraction: Decimal,
    scores: np.ndarray | None = None,
    dropped: str | np.ndarray = "dropped",
    facts: Mapping | None = None,
) -> Selection:
    """Keeps the first of an order, as many as the fraction leaves.

    Args:
      arm: its name.
      candidates: N of them.
      order: int [N], rows from the one to keep first to the one to drop first.
      discard_fraction: f in [0, 1).
      scores: float [N] to report with the selection.
      dropped: reason for what goes, one for all or object [N].
      facts: see `Selection`.
    """
    count = kept_count(len(candidates), discard_fraction)
    kept = np.zeros(len(candidates), bool)
    kept[order[:count]] = True
    reasons = np.full(len(candidates), KEPT, object)
    reasons[~kept] = dropped if isinstance(dropped, str) else dropped[~kept]
    if scores is None:
        scores = np.full(len(candidates), np.nan)
    return Selection(
        arm,
        candidates,
        kept,
        np.asarray(scores, np.float64),
        reasons,
        float(exact_fraction(discard_fraction)),
        dict(facts or {}),
    )


def select_by_score(
    arm: str,
    candidates: Candidates,
    scores,
    discard_fraction: Decimal,
    seed: int = 0,
    keep: str = "highest",
    method: str = "threshold",
    batch_size: int = 64,
    facts: Mapping | None = None,
) -> Selection:
    """Keeps one side, or the middle, of a ranking by score; NaN goes first.

    Args:
      arm: name of the arm.
      candidates: N of them.
      scores: float [N].
      discard_fraction: f in [0, 1).
      seed: of the hash that breaks ties and makes draws.
      keep: "highest", "lowest", or "middle": as many are dropped above as below (one more above
        where the number is odd).
      method: the discard rule: "threshold" keeps the best; "keep_probability", and any other of
        `rules.RULES`, keeps each with about the chance that the rule gives it, so that some
        middling ones stay, and still exactly as many: the K with the smallest hash / probability
        (sequential Poisson sampling, Ohlsson 1998).
      batch_size: B of that batch top-K.
      facts: see `Selection`.

    Raises:
      ConfigurationError: a setting out of its range; scores of another length.
      DataError: no score is finite.
    """
    if keep not in SIDES:
        raise ConfigurationError(f"keep is {keep!r}: choose one of {', '.join(SIDES)}.")
    rule = find_rule(method)
    scores = np.asarray(scores, np.float64)
    if scores.shape != (len(candidates),):
        raise ConfigurationError(
            f"{arm}: {len(candidates)} examples but scores of shape {scores.shape}: give each"
            " example one score, in the same order."
        )
    unknown = np.isnan(scores)
    if unknown.all():
        raise DataError(f"{arm}: none of the {len(scores)} scores is a number.")
    draws = hashes(candidates.ids, seed, "selection")
    goodness = {"highest": scores, "lowest": -scores}.get(keep)
    if goodness is None:
        # Distance of the rank from the middle: halves, so that no two but opposite ones are equal.
        ranks = np.empty(len(scores))
        ranks[np.lexsort((draws, scores))] = np.arange(len(scores))  # NaN is sorted last
        goodness = -np.abs(ranks - (np.sum(~unknown) - 1) / 2 + 0.25)
    goodness = np.where(unknown, -np.inf, goodness)
    order = np.lexsort((draws, -goodness, unknown))
    if method != "threshold":
        reference = ReferenceDistribution.from_scores(goodness)
        percentile = reference.percentile(np.where(unknown, np.nan, goodness))
        amount = Amount(discard_fraction, batch_size)
        chance = rule.decide(Rated(candidates.ids, percentile), amount)[1]
        with np.errstate(divide="ignore"):
            urgency = np.where(chance > 0, draws / chance, np.inf)
        place = np.empty(len(order))
        place[order] = np.arange(len(order))
        order = np.lexsort((place, urgency, unknown))
    reasons = np.full(len(scores), f"not among the {keep} by {arm}", object)
    reasons[unknown] = "no score"
    facts = {"keep": keep, "method": method, **(facts or {})}
    return keep_first(arm, candidates, order, discard_fraction, goodness, reasons, facts)


def random_arm(
    candidates: Candidates,
    discard_fraction: Decimal,
    seed: int = 0,
    match: Selection | Mapping[str, int] | None = None,
    arm: str = "random",
) -> Selection:
    """Keeps examples by a hash of (seed, id), a fixed number from each source.

    Args:
      candidates: what to choose among.
      discard_fraction: f in [0, 1).
      seed: of the hash.
      match: None keeps every source's share of the corpus (to within one example); a selection, or
        source -> number, keeps just as many of each source as that one did. An arm that beats the
        first but not the second has learned which sources to prefer and nothing else.
      arm: name of the arm.

    Raises:
      ConfigurationError: `match` keeps more or fewer than the fraction does, or more of a source
        than there is.
    """
    sources = candidates.sources.astype(str)
    present = Counter(sources.tolist())
    count = kept_count(len(candidates), discard_fraction)
    if match is None:
        wanted = proportional_counts(present, count)
    else:
        wanted = _matched(match, present, count)
    draws = hashes(candidates.ids, seed, "random arm")
    # Each source's rows by draw; the place in its source decides, first those within the number.
    place = np.empty(len(candidates), np.int64)
    for name in present:
        rows = np.flatnonzero(sources == name)
        place[rows[np.argsort(draws[rows], kind="stable")]] = np.arange(len(rows))
    beyond = place >= np.array([wanted.get(name, 0) for name in sources])
    order = np.lexsort((draws, beyond))
    facts = {"matched": "corpus" if match is None else getattr(match, "arm", "given counts")}
    return keep_first(
        arm, candidates, order, discard_fraction, dropped="dropped at random", facts=facts
    )


def proportional_counts(present: Mapping[str, int], count: int) -> dict[str, int]:
    """Splits `count` over sources in proportion to their sizes, by largest remainders.

    Of equal remainders the source first by name gets the unit. The numbers add up to `count` and
    none is above its source's size.
    """
    total = sum(present.values())
    exact = {name: fractions.Fraction(size * count, total) for name, size in present.items()}
    wanted = {name: int(share) for name, share in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (wanted[name] - exact[name], name))
    for name in by_remainder[: count - sum(wanted.values())]:
        wanted[name] += 1
    return wanted


def _matched(
    match: Selection | Mapping[str, int], present: Mapping[str, int], count: int
) -> dict[str, int]:
    if isinstance(match, Selection):
        match = Counter(match.candidates.sources[match.kept].astype(str).tolist())
    wanted = {str(name): int(number) for name, number in match.items()}
    for name, number in wanted.items():
        if not 0 <= number <= present.get(name, 0):
            raise ConfigurationError(
                f"random_arm: {number} examples of the source '{name}' are asked for, of"
                f" {present.get(name, 0)}: match a selection of the same examples."
            )
    if sum(wanted.values()) != count:
        raise ConfigurationError(
            f"random_arm: the matched selection keeps {sum(wanted.values())} examples and the"
            f" fraction {count}: give both the same fraction."
        )
    return wanted
