"""Some of a set's documents, whole: for the reference distribution, and for teachers that cost."""

from collections.abc import Iterator

import numpy as np

from dr_keras.data.columns import Column
from dr_keras.data.examples import ExampleSet, document_of, evenly_spread
from dr_keras.data.splits import unit_hash

_ROWS = 1 << 14  # whose ids are read at once
_LOOKED_AT = 1 << 20  # rows of a set that is read on demand, in pieces of so many:
_PIECE = 1 << 10


def whole_documents(examples: ExampleSet, size: int) -> ExampleSet:
    """Whole documents, chosen by a hash of their ids, with about `size` examples in all.

    Whole, because a document whose windows were thinned out would get another mean; by hash, so
    that the order of the corpus does not matter. No more ids are held than about twice as many as
    are chosen. Of a set that is read on demand, whose documents lie one after the other, about a
    million rows are looked at (or ten times `size`), in pieces that are evenly spread; where no
    document lies within a piece, rows are taken.
    """
    if len(examples) <= size:
        return examples
    kept: dict[str, list[int]] = {}  # document -> its rows
    hashes: dict[str, float] = {}
    limit, held = 2.0, 0  # documents with a hash above the limit are surely not among the first
    for first, owners in _pieces(examples, max(_LOOKED_AT, 10 * size)):
        for row, owner in enumerate(owners, first):
            if owner not in hashes:
                found = unit_hash("reference", owner)
                if found > limit:
                    continue
                hashes[owner], kept[owner] = found, []
            kept[owner].append(row)
            held += 1
        if held > 2 * size + _ROWS:
            chosen = _first(kept, hashes, size)
            limit, hashes = hashes[chosen[-1]], {owner: hashes[owner] for owner in chosen}
            kept = {owner: kept[owner] for owner in chosen}
            held = sum(map(len, kept.values()))
    chosen = _first(kept, hashes, size)
    if not chosen:  # every document is longer than a piece
        return examples.thinned(size)
    if len(chosen) > 1 and sum(len(kept[owner]) for owner in chosen) > size:
        chosen.pop()
    return examples.take(np.sort(np.concatenate([kept[owner] for owner in chosen])))


def _pieces(examples: ExampleSet, most: int) -> Iterator[tuple[int, list[str]]]:
    """(first row, document of each row), as whole documents, of all rows or of about `most`."""
    count = len(examples)
    if not isinstance(examples.ids, Column) or count <= most:
        for start in range(0, count, _ROWS):
            yield start, _owners(examples, start, start + _ROWS)
        return
    for number in evenly_spread(-(-count // _PIECE), most // _PIECE).tolist():
        start, end = number * _PIECE, min((number + 1) * _PIECE, count)
        owners = _owners(examples, start, end)
        # Who goes on from before the piece, or after it, may not be whole.
        first, last = 0, len(owners)
        while start and first < last and owners[first] == owners[0]:
            first += 1
        while end < count and last > first and owners[last - 1] == owners[-1]:
            last -= 1
        yield start + first, owners[first:last]


def _owners(examples: ExampleSet, start: int, end: int) -> list[str]:
    return [document_of(id) for id in examples.ids[start:end].tolist()]


def _first(kept: dict[str, list[int]], hashes: dict[str, float], size: int) -> list[str]:
    """Documents in the order of their hashes, until they have more than `size` rows."""
    order = sorted(kept, key=lambda owner: (hashes[owner], owner))
    sums = np.cumsum([len(kept[owner]) for owner in order])
    return order[: int(np.searchsorted(sums, size, side="right")) + 1]
