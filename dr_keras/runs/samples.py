"""Some of a set's documents, whole: for the reference distribution, and for teachers that cost."""

import numpy as np

from dr_keras.data.examples import ExampleSet, document_of
from dr_keras.data.splits import unit_hash

_ROWS = 1 << 14  # whose ids are read at once


def whole_documents(examples: ExampleSet, size: int) -> ExampleSet:
    """Whole documents, chosen by a hash of their ids, with about `size` examples in all.

    Whole, because a document whose windows were thinned out would get another mean; by hash, so
    that the order of the corpus does not matter. No more ids are held than about twice as many as
    are chosen.
    """
    if len(examples) <= size:
        return examples
    kept: dict[str, list[int]] = {}  # document -> its rows
    hashes: dict[str, float] = {}
    limit, held = 2.0, 0  # documents with a hash above the limit are surely not among the first
    for start in range(0, len(examples), _ROWS):
        for row, id in enumerate(examples.ids[start : start + _ROWS].tolist(), start):
            owner = document_of(id)
            if owner not in hashes:
                found = unit_hash("reference", owner)
                if found > limit:
                    continue
                hashes[owner], kept[owner] = found, []
            kept[owner].append(row)
            held += 1
        if held > 2 * size + _ROWS:
            first = _first(kept, hashes, size)
            limit, hashes = hashes[first[-1]], {owner: hashes[owner] for owner in first}
            kept = {owner: kept[owner] for owner in first}
            held = sum(map(len, kept.values()))
    chosen = _first(kept, hashes, size)
    if len(chosen) > 1 and sum(len(kept[owner]) for owner in chosen) > size:
        chosen.pop()
    return examples.take(np.sort(np.concatenate([kept[owner] for owner in chosen])))


def _first(kept: dict[str, list[int]], hashes: dict[str, float], size: int) -> list[str]:
    """Documents in the order of their hashes, until they have more than `size` rows."""
    order = sorted(kept, key=lambda owner: (hashes[owner], owner))
    sums = np.cumsum([len(kept[owner]) for owner in order])
    return order[: int(np.searchsorted(sums, size, side="right")) + 1]
