"""Settings that differ by member: one number for all, one for each, or drawn.

    MetaTrainer.learning_rates = 3e-3                 # for all members
    MetaTrainer.learning_rates = [1e-3, 3e-3, 1e-2]   # one for each member
    MetaTrainer.learning_rates = @log_uniform()       # drawn for each, anew in each of its lives
    log_uniform.low = 1e-3
    log_uniform.high = 1e-2

A draw is a pure function of (seed, member, generation): a run that is resumed draws what it would
have drawn, and nothing is saved. A function of your own with these arguments is a draw, too.
"""

from collections.abc import Callable, Sequence
import dataclasses
import math
import numbers
from typing import Any, Protocol

from dr_keras.errors import ConfigurationError
from dr_keras.meta.seeds import derive_seed
import gin


class Draw(Protocol):
    """What a member's setting is in one of its lives."""

    def __call__(self, seed: int, member: int, generation: int) -> Any:
        """The value.

        Args:
          seed: of the run and the setting.
          member: index in the population.
          generation: initialisations of that member before this one.
        """

    def bounds(self) -> Sequence:
        """Values between which it stays, or all that it has: checked before the run begins."""


# A plain function need not know its bounds.
Drawn = Draw | Callable[[int, int, int], Any]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class uniform:
    """Every number from `low` to `high` alike; where whole numbers are wanted, the nearest one."""

    low: float
    high: float

    def __post_init__(self):
        _check_order(self)

    def bounds(self):
        return self.low, self.high

    def __call__(self, seed: int, member: int, generation: int) -> float:
        return self.low + _fraction(seed, member, generation) * (self.high - self.low)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class log_uniform:
    """Every order of magnitude from `low` to `high` alike: for learning rates, for ages."""

    low: float
    high: float

    def __post_init__(self):
        _check_order(self)
        if self.low <= 0:
            raise ConfigurationError(f"log_uniform.low is {self.low}: it must be positive.")

    def bounds(self):
        return self.low, self.high

    def __call__(self, seed: int, member: int, generation: int) -> float:
        span = math.log(self.high / self.low)
        return self.low * math.exp(_fraction(seed, member, generation) * span)


@gin.configurable
@dataclasses.dataclass(frozen=True)
class listed:
    """Member i has the i-th value; further members begin the list again.

    A plain list says the same and must have a value for each member.
    """

    values: Sequence

    def __post_init__(self):
        if not self.values:
            raise ConfigurationError("listed.values is empty: give at least one value.")

    def bounds(self):
        return self.values

    def __call__(self, seed: int, member: int, generation: int) -> Any:
        return self.values[member % len(self.values)]


def _check_order(draw) -> None:
    if draw.low > draw.high:
        raise ConfigurationError(
            f"{type(draw).__name__} has low {draw.low} and high {draw.high}: low must not be above"
            " high."
        )


def _fraction(seed: int, member: int, generation: int) -> float:
    """A number of (0, 1)."""
    return (derive_seed(seed, member, generation) + 0.5) / 2**31


def by_member(
    name: str,
    setting: Any,
    size: int,
    seed: int,
    check: Callable[[str, Any], Any],
    whole: bool = False,
) -> Callable[[int, int], Any]:
    """(member, generation) -> the member's value of a setting.

    Args:
      name: of the setting, for messages and for its random numbers.
      setting: a value for all members, a list of one for each, or drawn.
      size: members.
      seed: of the run.
      check: (name, value) -> the value as it is used; raises ConfigurationError.
      whole: numbers that are drawn are rounded to whole ones; those that are written are not.

    Raises:
      ConfigurationError: a list of another length, what is no draw, or a value out of its range:
        what can be known of a draw's values is checked here, the rest when they are drawn.
    """
    if isinstance(setting, (list, tuple)):
        if len(setting) != size:
            raise ConfigurationError(
                f"{name} lists {len(setting)} values for {size} members: give one for each"
                " (population_size), or @listed() with listed.values, which begins again."
            )
        values = [check(f"{name}[{index}]", value) for index, value in enumerate(setting)]
        return lambda member, generation: values[member]
    if not callable(setting):
        same = check(name, setting)
        return lambda member, generation: same
    own_seed = derive_seed(seed, name)
    as_wanted = _rounded if whole else lambda value: value

    def drawn(member: int, generation: int) -> Any:
        try:
            value = setting(own_seed, member, generation)
        except TypeError as error:
            raise ConfigurationError(
                f"{name} is {setting!r}, which is no draw: it must take (seed, member, generation)"
                f" ({error}). Use @uniform(), @log_uniform(), @listed() or a function of yours."
            ) from error
        return check(f"{name} of member {member}", as_wanted(value))

    for member in range(size):
        drawn(member, 0)
    for bound in getattr(setting, "bounds", tuple)():
        check(f"{name}, a bound of {type(setting).__name__},", as_wanted(bound))
    return drawn


def rate(name: str, value: Any) -> float:
    """A check for `by_member`: a positive number."""
    if not _is_number(value) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}: it must be a positive number.")
    return float(value)


def relative_noise(name: str, value: Any) -> float:
    """A check for `by_member`: 0 or a positive number."""
    if not _is_number(value) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name} is {value!r}: it must be 0 or a positive number.")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _rounded(value: Any) -> Any:
    return round(value) if _is_number(value) and math.isfinite(value) else value
