"""What a corpus in shards has in common with its target, and which part each document goes to.

How much of a target is held out may depend on how much of the corpus it would take, so what is
found for a document is the *share* of the target from which on it is left out (inf: never): the
target holds out a unit where its hash lies below the share. All sums follow, for any share.
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pyarrow as pa

from dr_keras.corpus_jobs.duplicates import Deduplication, Verdicts
from dr_keras.data.splits import PARTS

# Codes of parts: places in this tuple. "own_test" is the corpus's own test part beside a target's.
PART_NAMES = (*PARTS, "own_test")
# In no part: a duplicate, a near-duplicate, shared with what is held out, and what nobody uses (the
# outer and validation parts of a corpus beside a target, what of a target is not held out).
DUPLICATE, NEAR_DUPLICATE, SHARED, UNUSED = -1, -2, -3, -4


def parts_without_target(
    table: pa.Table, verdicts: Verdicts, fractions: Mapping[str, float]
) -> np.ndarray:
    """The part of each document of a shard, int8 [n]: a place in `PART_NAMES`, or why in none."""
    raise NotImplementedError


def decide(job: Deduplication, settled: Iterable[dict]):  # -> data.targets.TargetPlan
    """How much of the target is held out, in which shares, with the notes that `split_target` gives.

    Args:
      job: the rounds.
      settled: the facts of all of "settle".

    Raises:
      DataError: as `split_target`: too few documents, or nothing left to choose from.
    """
    raise NotImplementedError


def parts_with_target(job: Deduplication, shard: int, plan) -> np.ndarray:
    """Like `parts_without_target`, for any shard of a corpus and its target."""
    raise NotImplementedError
