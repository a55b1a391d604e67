"""Units of a job, whatever is done with them: what is done already, and who does the others.

A unit is done when its facts have their name: they are written after the unit's files were renamed
into place, and name them. Whoever does a unit a second time writes the same files, so a retried or
repeated task does no harm.
"""

from collections.abc import Callable, Mapping, Sequence
import concurrent.futures
import functools
from typing import Any, Protocol

import tensorflow as tf

from dr_keras.errors import DataError
from dr_keras.rating import score_files

_READERS = 16  # of facts at a time: each is a request where files are far away

# bytes done since the last call
UnitProgress = Callable[[int], None]


class Unit(Protocol):
    """What is done at a time; can be pickled.

    Attributes:
      name: no other unit of the phase has it.
      size: bytes, for progress.
    """

    @property
    def name(self) -> str: ...

    @property
    def size(self) -> int: ...


class AnyWork(Protocol):
    """What is done with every unit; can be pickled and sent to workers.

    Doing a unit a second time writes the same files. It is done when its facts have their name,
    which they get last.

    Attributes:
      label: what the phase is called before users.
      where: the folder of its files, for messages.
    """

    @property
    def label(self) -> str: ...

    @property
    def where(self) -> str: ...

    def facts_path(self, unit: Any) -> str:
        """Where the facts of a unit lie: `files` in them is name -> `bytes` and more."""

    def output_path(self, name: str) -> str:
        """Where a file lies that facts name."""

    def check_workers(self) -> None:
        """Raises ConfigurationError where other processes cannot do it."""

    def load(self) -> Any:
        """What a process needs once for all its units (a rater, a tokenizer), or None."""

    def run(self, unit: Any, tool: Any = None, progress: UnitProgress | None = None) -> dict:
        """Does a unit with what `load` gives; returns its facts, which are also on disk."""

    def counters(self, facts: dict) -> Mapping[str, int]:
        """What the facts of a unit add to the counters of whoever runs it."""


# phase ("scoring", "reading", ...), bytes done, bytes in all
Progress = Callable[[str, int, int], None]


def facts_of(work: AnyWork, unit: Unit) -> dict | None:
    """The facts of a unit that is done, or None: its files are all there, in full length."""
    facts = score_files.read_json(work.facts_path(unit))
    if facts is None:
        return None
    for name, about in facts["files"].items():
        path = work.output_path(name)
        if not tf.io.gfile.exists(path) or tf.io.gfile.stat(path).length != about["bytes"]:
            return None
    return facts


def all_facts(work: AnyWork, units: Sequence[Unit]) -> dict[str, dict]:
    """Name -> facts of the units that are done."""
    with concurrent.futures.ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(functools.partial(facts_of, work), units)
        named = zip((unit.name for unit in units), found)
        return {name: facts for name, facts in named if facts is not None}


def do_units(
    work: AnyWork,
    units: Sequence[Unit],
    runner: Callable,
    tool: Any = None,
    progress: Progress | None = None,
) -> list[dict]:
    """Does the units that are not done yet; returns the facts of all, in their order.

    Args:
      work, units: what is to be done.
      runner: who does it, see `runners`.
      tool: what `work.load` would give, where it is at hand.
      progress: who is told.

    Raises:
      DataError: files of units that were done are gone.
    """
    before = all_facts(work, units)
    left = [unit for unit in units if unit.name not in before]
    total = sum(unit.size for unit in units)
    done = total - sum(unit.size for unit in left)

    def report(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(work.label, done, total)

    if left:
        runner(work, left, tool, report)
    found = all_facts(work, units) if left else before
    if missing := [unit.name for unit in units if unit.name not in found]:
        raise DataError(
            f"The shards {', '.join(missing[:5])} were done, but their files are gone from"
            f" {work.where}: let nobody else write there, and run this again."
        )
    return list(found.values())
