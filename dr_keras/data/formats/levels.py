"""What a field says about how bad a record is: for evaluation only, no model is given it."""

from collections.abc import Mapping, Sequence
import math

from dr_keras.errors import ConfigurationError

Levels = Mapping[str | int | float | bool, float] | Sequence[float]


def check_levels(argument: str, levels: Levels) -> None:
    """Raises ConfigurationError unless `levels` can be read as `known_level` says."""
    if isinstance(levels, Mapping):
        wrong = [key for key, level in levels.items() if not _is_number(level, 0, 1)]
        if wrong:
            raise ConfigurationError(
                f"{argument}[{wrong[0]!r}] is {levels[wrong[0]]!r}: a level lies in [0, 1], 0 is"
                " clean."
            )
        return
    pair = list(levels)
    if len(pair) != 2 or not all(map(_is_number, pair)) or pair[0] == pair[1]:
        raise ConfigurationError(
            f"{argument} is {levels!r}: give the value of what is clean and that of what is as bad"
            " as can be, such as (100, 0), or a dict such as {'clean': 0.0, 'raw': 1.0}."
        )


def known_level(value: object, levels: Levels) -> tuple[float | None, str | None]:
    """Level of damage and its kind, as `Document` has them; (None, None) where nothing is known.

    Args:
      value: of the field; None where there is none.
      levels: value -> level in [0, 1]; or the values that mean 0 and 1, between which the level
        lies on a straight line and beyond which it stays.

    Raises:
      ValueError: the value is no number where one is needed.
    """
    if value is None:
        return None, None
    if isinstance(levels, Mapping):
        if not isinstance(value, str | int | float) or value not in levels:
            return None, None
        level, kind = float(levels[value]), str(value)
    else:
        if not _is_number(value):
            raise ValueError(f"it is {value!r}")
        clean, worst = map(float, levels)
        level, kind = min(max((float(value) - clean) / (worst - clean), 0.0), 1.0), "as found"
    return level, kind if level else "clean"


def _is_number(value: object, low: float = -math.inf, high: float = math.inf) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )
