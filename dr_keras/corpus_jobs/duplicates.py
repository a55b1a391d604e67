"""Which documents of a corpus in shards stay: what `merge_duplicates` says, without a table of all.

Rounds of units, each of which may run anywhere once the round before is done:

    scatter (a shard)   documents to the bucket of their key, of their id, of each of their bands
    resolve (a bucket)  which of equal rows is first; what they are together; ids that mean two texts
    collect (a shard)   what stays: `Verdicts`; with a target also what may be shared with it
    link    (a bucket)  with a target only: what of the corpus it has, see `shared_with_target`
    settle  (a shard)   with a target only: the counts by which its share is decided

Rows that agree within a shard are joined before they are sent, so a text that is repeated without
end makes no bucket large. Nothing depends on how documents lie in shards but for their order.
"""

from collections.abc import Callable, Iterable
import dataclasses

import numpy as np
import pyarrow as pa

from dr_keras.errors import DataError

STAYS, DUPLICATE, NEAR_DUPLICATE = 0, 1, 2


@dataclasses.dataclass
class Verdicts:
    """What became of the documents of a shard, in their order.

    Attributes:
      reason: uint8 [n], `STAYS`, `DUPLICATE` or `NEAR_DUPLICATE`.
      count: int64 [n], of what stays: how often the corpus has it.
      group: [n] strings, of what stays: the least of all groups it was found in, "" for none.
    """

    reason: np.ndarray
    count: np.ndarray
    group: np.ndarray


@dataclasses.dataclass(frozen=True)
class Deduplication:
    """The rounds over one corpus and, where there is one, its target. Can be pickled.

    What a unit leaves lies under its own name in `folder` when `run` returns, whole; whoever does
    it again writes the same bytes.

    Attributes:
      folder: of the files of the rounds; goes with the job.
      tables: shard -> its table (`document_tables.DOCUMENT_SCHEMA`), in reading order; picklable.
      shards: how many there are; those of a target come last.
      own_shards: how many of them are of the corpus; `shards` where there is no target.
      documents: in all shards, which says into how many buckets they go.
      bands: of near-duplicates (`near_duplicates.NearDuplicates.bands`); 0 does not look for them.
    """

    folder: str
    tables: Callable[[int], pa.Table]
    shards: int
    own_shards: int
    documents: int
    bands: int = 0

    def rounds(self) -> list[tuple[str, int]]:
        """The names of the rounds in order, and how many units each has, numbered from 0."""
        raise NotImplementedError

    def run(self, round: str, unit: int) -> dict:
        """Does one unit of a round, and returns JSON-able facts about it.

        Facts of "resolve" hold `conflict`, None or what `conflict_error` takes; those of "collect"
        hold `duplicates` and `near_duplicates`, documents left out; those of "settle" `counts`.
        """
        raise NotImplementedError

    def verdicts(self, shard: int) -> Verdicts:
        """What stays of a shard, once all of "resolve" is done."""
        raise NotImplementedError


def conflict_error(
    conflicts: Iterable[dict | None], describe: Callable[[int, int], tuple[str, str, str]]
) -> DataError | None:
    """The error about the first two documents with one id and different content, or None.

    Args:
      conflicts: of the facts of "resolve".
      describe: (shard, row) -> (id, source, place for people, such as "a.jsonl, line 12").
    """
    raise NotImplementedError
