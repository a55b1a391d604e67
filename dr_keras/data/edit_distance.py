"""Levenshtein distance, fast enough to measure the damage of every passage of a corpus."""

from collections.abc import Hashable, Sequence


def edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Returns the fewest insertions, deletions and substitutions that turn one into the other.

    Myers' bit-vector algorithm in the form of Hyyro (2003): a column of the dynamic programme is
    two integers of len(first) bits, and Python's integers have as many bits as it takes. About
    0.1 ms for two passages of 128 characters.

    Args:
      first, second: strings, or sequences of words.
    """
    if not first:
        return len(second)
    positions: dict[Hashable, int] = {}
    for i, item in enumerate(first):
        positions[item] = positions.get(item, 0) | 1 << i
    mask = (1 << len(first)) - 1
    last = 1 << (len(first) - 1)
    rises, falls, distance = mask, 0, len(first)  # differences down the current column
    for item in second:
        equal = positions.get(item, 0)
        vertical = equal | falls
        horizontal = (((equal & rises) + rises) ^ rises) | equal
        up = (falls | ~(horizontal | rises)) & mask  # differences to the next column
        down = rises & horizontal
        distance += bool(up & last) - bool(down & last)
        up = (up << 1 | 1) & mask
        down = (down << 1) & mask
        rises = (down | ~(vertical | up)) & mask
        falls = up & vertical
    return distance


def normalised_edit_distance(first: Sequence[Hashable], second: Sequence[Hashable]) -> float:
    """Returns the edit distance as a share, in [0, 1], of the longer of the two."""
    longer = max(len(first), len(second))
    return edit_distance(first, second) / longer if longer else 0.0
