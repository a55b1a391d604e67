"""The random arm: as many examples as any other arm keeps, source by source, chosen by hash."""

from collections import Counter
from collections.abc import Mapping
import fractions

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.selection import Selection, hashes, keep_first, kept_count
from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal


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
