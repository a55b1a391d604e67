"""The source-weights arm: of each source as much as a learned mixture has of it.

The weights are those that a rater of sources has learned (`dr-keras source-weights`), or any
others. An arm drops an exact number and repeats nothing, so that a source cannot give more than it
has: what it owes is shared by the others in proportion to their weights. Within a source, examples
are chosen by hash. `best_sources` takes whole sources, one after the other; an arm that learned
from examples and not from sources must beat both.
"""

from collections import Counter
from collections.abc import Mapping
import json
import math
import os
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import Selection, kept_count, random_arm
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal
import gin

if TYPE_CHECKING:
    from dr_keras.baselines.arms import Baselines

NAME = "source_weights"


@gin.configurable(denylist=["candidates", "outer", "seed"])
def source_weights(
    candidates: Candidates,
    outer: Candidates | None,
    table: str | os.PathLike | Mapping[str, float] | None = None,
    seed: int = 0,
) -> Scores:
    """How much heavier the source of every candidate is in a mixture than among the candidates.

    Args:
      candidates: of the train part.
      outer: not read: the mixture was made for it.
      table: `source_weights/table.json` of a run, or source -> weight, at least 0; they need not
        add up to 1.
      seed: not read; ties are broken by whoever selects.

    Returns:
      log of weight over share of its source, the higher the more wanted; -inf of no weight. Facts:
      "weights", source -> weight, adding up to 1; "entropy" of them, nats. Costs: what the table
      says of the meta-training that made it; scoring is a look at a table.

    Raises:
      ConfigurationError: no table, or it is none.
      DataError: a candidate is of a source that the table lacks.
    """
    weights, flops = _read(table)
    sources = candidates.sources.astype(str)
    present = Counter(sources.tolist())
    if unknown := sorted(set(present) - set(weights)):
        raise DataError(
            f"{NAME}: {present[unknown[0]]:,} examples are of the source {unknown[0]!r}, which the"
            f" table of weights does not have: it has {', '.join(weights)}. Learn the weights on"
            " this corpus, or give the source one (0 leaves it out)."
        )
    total = math.fsum(weights.values())
    weights = {name: weight / total for name, weight in weights.items()}
    with np.errstate(divide="ignore"):
        logs = {
            name: float(np.log(weights[name] * len(sources) / count))
            for name, count in present.items()
        }
    entropy = -math.fsum(w * math.log(w) for w in weights.values() if w > 0)
    values = np.array([logs[name] for name in sources], np.float64)
    return Scores(values, flops, facts={"weights": weights, "entropy": entropy})


def mixture_arm(study: "Baselines", discard_fraction: Decimal, seed: int) -> Selection:
    """Keeps of every source what its weight says, as an arm of `baselines.arms`."""
    found = study.scores(NAME)
    present = Counter(study.candidates.sources.astype(str).tolist())
    count = kept_count(len(study.candidates), discard_fraction)
    wanted = filled_counts(found.facts["weights"], present, count)
    chosen = random_arm(study.candidates, discard_fraction, seed, wanted, NAME)
    chosen.facts[NAME] = dict(found.facts)
    return chosen


def filled_counts(
    weights: Mapping[str, float], present: Mapping[str, int], count: int
) -> dict[str, int]:
    """How many of each source make `count`, in proportion to weights as far as there are enough.

    A source that has too few gives all; the others share what is left by their weights, in turn. Of
    those without weight is only taken what nobody else has, in proportion to their sizes.

    Args:
      weights: source -> at least 0; of all that are present.
      present: source -> examples.
      count: at most all of them.

    Returns:
      source -> number; they add up to `count`. Remainders go to the largest, then by name.
    """
    wanted: dict[str, int] = {}
    left = count
    for shares in (weights, present):
        open_ = {name: shares[name] for name in present if name not in wanted and shares[name] > 0}
        while open_:
            total = math.fsum(open_.values())
            full = [name for name in open_ if left * open_[name] / total >= present[name]]
            if not full:
                break
            for name in full:
                wanted[name] = present[name]
                left -= present[name]
                del open_[name]
        if open_:
            wanted |= _in_proportion(open_, left)
            left = 0
    return {name: wanted.get(name, 0) for name in present}


def _in_proportion(shares: Mapping[str, float], count: int) -> dict[str, int]:
    total = math.fsum(shares.values())
    exact = {name: count * share / total for name, share in shares.items()}
    found = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: (found[name] - exact[name], name))
    for name in by_remainder[: count - sum(found.values())]:
        found[name] += 1
    return found


def _read(table) -> tuple[dict[str, float], float]:
    """Weights as given, and the operations of making them."""
    place, flops = f"{NAME}.table", 0.0
    if table is None:
        raise ConfigurationError(
            f"the arm {NAME} needs weights: set {place} to the source_weights/table.json that"
            " dr-keras source-weights writes, or to a dict of weights by source."
        )
    if not isinstance(table, Mapping):
        place = os.fspath(table)
        try:
            with open(place, encoding="utf-8") as file:
                stored = json.load(file)
            table, flops = stored["weights"], stored.get("flops") or 0.0
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{place} is no table of source weights ({error!r}): name the"
                " source_weights/table.json that dr-keras source-weights writes."
            ) from error
    weights = dict(table)
    wrong = [
        name
        for name, weight in weights.items()
        if not isinstance(weight, int | float) or not (math.isfinite(weight) and weight >= 0)
    ]
    if wrong or not any(weights.values()):
        raise ConfigurationError(
            f"{place}: "
            + (f"the weight of {wrong[0]!r} is {weights[wrong[0]]!r}" if wrong else "all are 0")
            + ": weights are at least 0, and one of them above it."
        )
    return {str(name): float(weight) for name, weight in weights.items()}, float(flops)
