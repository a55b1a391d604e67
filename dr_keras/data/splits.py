"""The four disjoint parts of every corpus, decided by what a document says and nothing else.

A part depends on the document's key (a hash of its group, such as the page that it is a version of,
else of its normalised content), so it does not move when files are renamed, re-ordered, or joined
by others; it is the same on every machine and in every process, unlike Python's own `hash`.
"""

from collections.abc import Mapping
import functools
import hashlib
import math

from dr_keras.errors import ConfigurationError
import gin

PARTS = ("train", "outer", "validation", "test")

# From the most to the least protected part. Shares are laid out in this order: a border depends
# only on the shares before it, so a larger outer set takes documents from train, never from test.
PROTECTION = PARTS[::-1]


@gin.configurable
def split_fractions(
    train: float = 0.85, outer: float = 0.05, validation: float = 0.05, test: float = 0.05
) -> dict[str, float]:
    """Returns the share of each part of a corpus.

    Raises:
      ConfigurationError: a share is negative or not finite, or they do not add up to 1.
    """
    fractions = {"train": train, "outer": outer, "validation": validation, "test": test}
    _borders(tuple(fractions[part] for part in PROTECTION))
    return fractions


@functools.lru_cache(maxsize=64)
def _borders(shares: tuple[float, ...]) -> tuple[float, ...]:
    """Checks shares given in the order of `PROTECTION`; returns their running sums."""
    described = ", ".join(f"{part} {share}" for part, share in zip(PROTECTION, shares))
    if not all(math.isfinite(share) and share >= 0 for share in shares):
        raise ConfigurationError(
            f"every share of a split must be a number of at least 0, not: {described}"
        )
    if abs(math.fsum(shares) - 1) > 1e-6:
        raise ConfigurationError(
            f"the shares of a split must add up to 1, not {math.fsum(shares):.6g}: {described}"
        )
    return tuple(math.fsum(shares[: i + 1]) for i in range(len(shares)))


def unit_hash(*names: object) -> float:
    """Returns a number in [0, 1) that depends on the names alone, evenly spread.

    Every choice made "by hash" (parts, which passages are damaged) goes through here; the first
    name says what the choice is about, so that choices are independent of each other.
    """
    digest = hashlib.sha256("\0".join(map(str, names)).encode("utf-8", "surrogatepass")).digest()
    return (int.from_bytes(digest[:8], "big") >> 11) / 2**53  # 53 bits are exact in a float


def part_of(key: str, fractions: Mapping[str, float] | None = None) -> str:
    """Returns the part, one of `PARTS`, in which the document with this key lies.

    Args:
      key: `Document.split_key`.
      fractions: share of each part, by name; None for `split_fractions()`.

    Raises:
      ConfigurationError: a part is missing or unknown, or the shares are not a split.
    """
    if fractions is None:
        fractions = split_fractions()
    if set(fractions) != set(PARTS):
        raise ConfigurationError(
            f"a split needs exactly the shares {', '.join(PARTS)}; got {', '.join(fractions)}"
        )
    position = unit_hash("part", key)
    borders = _borders(tuple(fractions[part] for part in PROTECTION))
    for part, border in zip(PROTECTION, borders):
        if position < border:
            return part
    return max(PARTS, key=fractions.__getitem__)  # shares that add up to a hair less than 1
