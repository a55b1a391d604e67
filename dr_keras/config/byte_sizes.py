"""Numbers of bytes as people write them: 64MB, 1.5 GiB."""

import fractions
import re

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = "kmgt"


def parse_bytes(text: str) -> int:
    """The number of bytes that `text` says: '64MB' is 64,000,000, '64MiB' is 67,108,864.

    A number and a unit, in capitals or not: B, kB, MB, GB, TB (powers of 1,000), KiB, MiB, GiB, TiB
    (powers of 1,024), with or without a space between them.

    Raises:
      ValueError: `text` is something else, or no whole number of bytes.
    """
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size: write a number and a unit, such as '64MB'")
    power = _POWERS.index(found[2].lower()) + 1 if found[2] else 0
    size = fractions.Fraction(found[1]) * (1024 if found[3] else 1000) ** power
    if size.denominator != 1:
        raise ValueError(f"{text!r} is {float(size):g} bytes, which is no whole number")
    return int(size)
