"""Whom a choice by scores favours: a corpus before and after filtering, group by group.

A *dimension* is a way to sort documents into groups: by source, script, length, or a field that
says something of them. Of every group are counted its documents, those that are kept, and the sum
of its scores; counts of shards add up. A rater learns what helps on the held-out set, so it is
blind to, or against, what that set lacks: the audit says where the held-out set has less than half
the share that a group has in the corpus, beyond what chance explains.

    {"documents", "kept", "held_out" (documents, or None), "dimensions": {dimension: {group:
        {"documents", "kept", "mean_score", "share_before", "share_after", "held_out_share"}}},
     "notes": [sentence]}
"""

from collections.abc import Iterable, Mapping, Sequence
import math
from typing import Any

import numpy as np

from dr_keras.data.text_groups import bands_in_order

# dimension -> group -> [documents, kept, with a score, sum of scores]
Tallies = dict[str, dict[str, list]]
# dimension -> group -> documents
Counts = Mapping[str, Mapping[str, int]]

OTHERS = "(others)"
UNKNOWN = "(not known)"
# A group that is listed by itself; a field with more values than this is hardly a label.
MAXIMUM_GROUPS = 200
_SHOWN_SHARE = 0.001  # of the corpus, from which on a group is worth a sentence
_LESS = 0.5  # of the share in the corpus, below which the held-out set or the choice has little
_ERRORS = 3.0  # standard errors of a share
_NAMED = 5  # groups that a sentence names


def tally(
    groups: Mapping[str, Sequence[str]], scores: np.ndarray, keep: Sequence[bool] | None = None
) -> Tallies:
    """Counts of some documents.

    Args:
      groups: dimension -> group of every document, [N].
      scores: [N]; those that are not finite count for no mean.
      keep: [N]; None keeps all.
    """
    scores = np.asarray(scores, np.float64)
    finite = np.isfinite(scores)
    kept = np.ones(len(scores), bool) if keep is None else np.asarray(keep, bool)
    found: Tallies = {}
    for dimension, names in groups.items():
        codes, places = np.unique(np.asarray(names, dtype=str), return_inverse=True)
        sums = (
            np.bincount(places, weights, len(codes))
            for weights in (None, kept, finite, np.where(finite, scores, 0.0))
        )
        found[dimension] = {
            str(name): [int(documents), int(stay), int(known), float(total)]
            for name, documents, stay, known, total in zip(codes, *sums)
        }
    return found


def add(into: Tallies, more: Mapping[str, Mapping[str, Sequence]]) -> None:
    """Adds counts; of a dimension, groups beyond `MAXIMUM_GROUPS` become `OTHERS`."""
    for dimension, groups in more.items():
        known = into.setdefault(dimension, {})
        for name, counts in groups.items():
            if name not in known and len(known) >= MAXIMUM_GROUPS:
                name = OTHERS
            before = known.setdefault(name, [0, 0, 0, 0.0])
            known[name] = [one + other for one, other in zip(before, counts)]


def counted(groups: Mapping[str, Sequence[str]]) -> dict[str, dict[str, int]]:
    """Documents of a held-out set by dimension and group."""
    found: Tallies = {}
    for dimension, names in groups.items():
        add(found, tally({dimension: names}, np.zeros(len(names))))
    return {
        dimension: {name: counts[0] for name, counts in known.items()}
        for dimension, known in found.items()
    }


def are_counts(value: object) -> bool:
    """Whether a stranger's JSON is what `counted` returns."""
    return isinstance(value, dict) and all(
        isinstance(known, dict) and all(type(n) is int and n >= 0 for n in known.values())
        for known in value.values()
    )


def audit(tallies: Tallies, held_out: Counts | None = None, chosen: bool = True) -> dict:
    """What the counts say, JSON-able; see the top of this module.

    Args:
      tallies: of the corpus, each dimension over the same documents.
      held_out: of the set that the rater was made for; None where it is not known.
      chosen: whether anything was kept and dropped; else "kept" and "share_after" are left out.
    """
    held_out = held_out or {}
    total = max((_sum(known, 0) for known in tallies.values()), default=0)
    kept = max((_sum(known, 1) for known in tallies.values()), default=0)
    tallies = {dimension: _whole(known, total, kept) for dimension, known in tallies.items()}
    dimensions: dict[str, dict] = {}
    notes: list[str] = []
    for dimension, known in tallies.items():
        asked = held_out.get(dimension)
        dimensions[dimension] = _groups(dimension, known, asked, total, kept, chosen)
        notes += _notes(dimension, dimensions[dimension], asked, total, kept, chosen)
    size = max((sum(known.values()) for known in held_out.values()), default=None)
    if size is None:
        notes.append("what the rater was judged by is not known: nothing is said of what it lacks")
    made: dict[str, Any] = {"documents": total}
    if chosen:
        made["kept"] = kept
    return {**made, "held_out": size, "dimensions": dimensions, "notes": notes}


def _sum(known: Mapping[str, Sequence], place: int) -> int:
    return sum(counts[place] for counts in known.values())


def _whole(known: dict[str, list], total: int, kept: int) -> dict[str, list]:
    """With what a field that not all shards have says nothing of."""
    lacks = [total - _sum(known, 0), kept - _sum(known, 1), 0, 0.0]
    if not lacks[0]:
        return known
    found: Tallies = {}
    add(found, {"": known})
    add(found, {"": {UNKNOWN: lacks}})
    return found[""]


def _groups(
    dimension: str,
    known: Mapping[str, Sequence],
    asked: Mapping[str, int] | None,
    total: int,
    kept: int,
    chosen: bool,
) -> dict[str, dict]:
    size = sum(asked.values()) if asked else 0
    ordered = sorted(known, key=lambda name: (-known[name][0], name))
    found = {}
    for name in bands_in_order(known) if dimension == "length" else ordered:
        documents, stay, scored, score = known[name]
        row: dict[str, Any] = {
            "documents": documents,
            "mean_score": score / scored if scored else None,
            "share_before": documents / total if total else 0.0,
        }
        if chosen:
            row |= {"kept": stay, "share_after": stay / kept if kept else 0.0}
        row["held_out_share"] = asked.get(name, 0) / size if asked and size else None
        found[name] = row
    return found


def _notes(
    dimension: str,
    groups: Mapping[str, dict],
    asked: Mapping[str, int] | None,
    total: int,
    kept: int,
    chosen: bool,
) -> Iterable[str]:
    size = sum(asked.values()) if asked else 0
    large = {n: g for n, g in groups.items() if g["share_before"] >= _SHOWN_SHARE}
    if len(groups) < 2 and not (asked and set(asked) - set(groups)):
        return
    if size and asked and not set(asked) & set(groups):
        yield f"by {dimension}, the corpus and the held-out set have no group in common"
    elif size:
        lacking = [
            name
            for name, group in large.items()
            if _has_little(group["share_before"], group["held_out_share"], size)
        ]
        if lacking:
            share = sum(large[name]["share_before"] for name in lacking)
            held = sum(large[name]["held_out_share"] for name in lacking)
            named = _named(lacking, large, "held_out_share")
            yield (
                f"by {dimension}, the held-out set has less than half the share of {named}:"
                f" {share:.1%} of the corpus, {held:.1%} of the held-out set; how these are scored"
                " says what helps elsewhere, not how good they are"
            )
        foreign = sum(number for name, number in (asked or {}).items() if name not in groups)
        if foreign > 0.01 * size:
            yield (
                f"by {dimension}, {foreign / size:.0%} of the held-out set is of groups that the"
                " corpus has nothing of"
            )
    if chosen and 0 < kept < total:
        lost = [
            name
            for name, group in large.items()
            if _has_little(group["share_before"], group["share_after"], kept)
        ]
        if lost:
            yield (
                f"by {dimension}, what is kept has less than half the share of"
                f" {_named(lost, large, 'share_after')}"
            )


def _has_little(before: float, now: float, size: int) -> bool:
    """Whether a share fell below half, by more than a sample of this size may by chance."""
    error = math.sqrt(before * (1 - before) / size)
    return now < _LESS * before and before - now > _ERRORS * error


def _named(names: Sequence[str], groups: Mapping[str, dict], now: str) -> str:
    first = sorted(names, key=lambda name: -groups[name]["share_before"])[:_NAMED]
    shown = [
        f"'{name}' ({groups[name]['share_before']:.1%} → {groups[name][now]:.1%})" for name in first
    ]
    more = len(names) - len(first)
    return ", ".join(shown) + (f" and {more} more" if more else "")
