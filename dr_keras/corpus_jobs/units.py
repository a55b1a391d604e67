"""Units of a job, whatever is done with them: what is done already, and who does the others.

A unit is done when its facts have their name: they are written after the unit's files were renamed
into place, and name them. Whoever does a unit a second time writes the same files, so a retried or
repeated task does no harm.
"""

from collections.abc import Callable, Sequence
import concurrent.futures
import functools
from typing import Any

import tensorflow as tf

from dr_keras.corpus_jobs.runners import AnyWork, Unit
from dr_keras.errors import DataError
from dr_keras.rating import score_files

_READERS = 16  # of facts at a time: each is a request where files are far away

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
