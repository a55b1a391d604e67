"""How figures are written in reports."""

from collections.abc import Mapping


def count(value: float | None) -> str | None:
    """A whole number with commas, None for None."""
    return None if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 3) -> str | None:
    """A number, None for None."""
    return None if value is None else f"{value:.{digits}f}"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 100:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def flops(value: float | None) -> str | None:
    """A number of operations in a readable unit, None for None."""
    if value is None:
        return None
    for unit, name in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if abs(value) >= unit:
            return f"{value / unit:.3g} {name}FLOP"
    return f"{value:.0f} FLOP"


def shares(counts: Mapping[str, int]) -> str | None:
    """The largest eight of some counts as percentages, None for none."""
    total = sum(counts.values())
    if not total:
        return None
    largest = sorted(counts.items(), key=lambda item: -item[1])
    shown = [f"{spaced(name)} {100 * count / total:.0f}%" for name, count in largest[:8]]
    return ", ".join(shown) + (f" and {len(largest) - 8} more" if len(largest) > 8 else "")


def spaced(name: str) -> str:
    """A name of the code as words."""
    return name.replace("_", " ")


def plural(number: int, thing: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
