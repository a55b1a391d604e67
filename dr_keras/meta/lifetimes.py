"""When members start again: a pure function of the seed and the meta-step."""

import bisect
from collections.abc import Sequence

from dr_keras.errors import ConfigurationError
from dr_keras.meta.checks import at_least
from dr_keras.meta.draws import Drawn, by_member


class Lifetimes:
    """The lives of a population's members.

    Args:
      lifetime: inner updates of meta-steps after which a member starts again; None: never. A list
        has one for each member; a draw is asked for each life of each member, counted from 0.
      size: members.
      updates_per_step: inner updates per meta-step.
      seed: of the run.

    Raises:
      ConfigurationError: a lifetime shorter than one meta-step.
    """

    def __init__(
        self,
        lifetime: int | Sequence[int | None] | Drawn | None,
        size: int,
        updates_per_step: int,
        seed: int,
    ):
        self._size, self._updates = size, updates_per_step
        self._lifetime = by_member("lifetime", lifetime, size, seed, self._checked, whole=True)
        # Member -> updates done at the ends of its lives, as far as anybody has asked.
        self._ends: dict[int, list[int]] = {}

    def _checked(self, name: str, lifetime: int | None) -> int | None:
        if lifetime is None:
            return None
        at_least(name, lifetime, 1)
        if lifetime < self._updates:
            raise ConfigurationError(
                f"{name} is {lifetime} inner updates, shorter than the {self._updates} of one"
                " meta-step: raise lifetime or lower unroll_length."
            )
        return int(lifetime)

    def end(self, member: int, meta_step: int) -> bool:
        """Whether the member is to start again before `meta_step` (counted from 0)."""
        first = self._lifetime(member, 0)
        if first is None or meta_step == 0:
            return False
        # Member i starts as if it had lived i/size of a lifetime: its first is that much shorter.
        done = meta_step * self._updates + member * first // self._size
        return self._lives(member, done) > self._lives(member, done - self._updates)

    def _lives(self, member: int, updates: int) -> int:
        """Lives that end within so many updates."""
        ends = self._ends.setdefault(member, [])
        while not ends or ends[-1] <= updates:
            life = self._lifetime(member, len(ends))
            if life is None:  # drawn for a later life
                break
            ends.append((ends[-1] if ends else 0) + life)
        return bisect.bisect_right(ends, updates)
