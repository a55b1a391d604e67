"""Where every document of a corpus goes: into which part, and into which shards of it.

What a document takes of its part is its *extent*: its windows or, where documents are packed, its
tokens with the end after them. Sums of extents by part, corpus and input shard say where each
output shard begins, so nobody needs a table of all documents, and the output knows nothing of how
the input was cut.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses

import numpy as np
import pyarrow

from dr_keras.corpus_jobs.prepared_work import (
    Array,
    Numbered,
    PreparingWork,
    placed_path,
    published,
    read_table,
)
from dr_keras.corpus_jobs.runners import UnitProgress
from dr_keras.corpus_jobs.shared_with_target import PART_NAMES
from dr_keras.corpus_jobs.work import abandon
from dr_keras.data.windows import windows_in

# part -> corpus -> extent
Extents = Mapping[str, Mapping[str, int]]


@dataclasses.dataclass(frozen=True)
class Made:
    """How windows are made, see `data.windows.window_documents`; `dtype` of tokens, by name."""

    sequence_length: int
    packing: bool
    minimum_tokens: int
    end_id: int
    dtype: str

    def extents(self, tokens: np.ndarray) -> np.ndarray:
        """What documents of so many tokens take of their part, int64."""
        if self.packing:
            return tokens + 1
        return windows_in(tokens, self.sequence_length, self.minimum_tokens)

    def rows(self, extent: int) -> int:
        """Windows of a corpus in a part, by its whole extent there."""
        if not self.packing:
            return extent
        return int(windows_in(np.int64(extent), self.sequence_length, self.minimum_tokens))

    @property
    def extent_of_row(self) -> int:
        """What a full window takes."""
        return self.sequence_length if self.packing else 1


@dataclasses.dataclass(frozen=True)
class Placing(PreparingWork):
    """Gives each document of an input shard its part.

    Attributes:
      made: how windows are made.
      parts: input shard -> the part of each document, int8 [n]: a place in `PART_NAMES`, or below 0
        why it is in none; can be pickled.
    """

    made: Made
    parts: Callable[[int], np.ndarray]

    phase = "placed"
    label = "placing"

    def run(self, unit: Numbered, tool=None, progress: UnitProgress | None = None) -> dict:
        """Places a shard; facts are `extents`, `left_out` (reason -> documents) and `files`."""
        del tool, progress
        codes = self.parts(unit.index)
        table = read_table(self.output, unit.index, ["corpus", "tokens"])
        extents = self.made.extents(table["tokens"].to_numpy())
        owners, names = coded(table["corpus"])
        found: dict[str, dict[str, int]] = {}
        for code in np.unique(codes[codes >= 0]).tolist():
            sums = np.bincount(owners[codes == code], extents[codes == code], len(names))
            there = np.bincount(owners[codes == code], minlength=len(names)) > 0
            # sums of whole numbers below 2^53 are exact in floats
            found[PART_NAMES[code]] = {names[k]: int(sums[k]) for k in np.flatnonzero(there)}
        left_out, counts = np.unique(codes[codes < 0], return_counts=True)
        output = Array(
            placed_path(self.output, unit.index), self.temporary, np.dtype(np.int8), codes.shape
        )
        try:
            output.write(codes)
            files = published([output], self.output)
        except BaseException:
            abandon([output])
            raise
        reasons = {str(code): count for code, count in zip(left_out.tolist(), counts.tolist())}
        return self.finish(unit, {"extents": found, "left_out": reasons, "files": files})


def coded(column: pyarrow.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Texts that repeat as numbers, int64 [n], and the texts that these stand for."""
    whole = column.unify_dictionaries().combine_chunks()
    if isinstance(whole, pyarrow.ChunkedArray):  # of no rows
        return np.zeros(0, np.int64), []
    return whole.indices.to_numpy().astype(np.int64), whole.dictionary.to_pylist()


@dataclasses.dataclass(frozen=True)
class Run:
    """Rows of one corpus in an output shard.

    Attributes:
      corpus: its name.
      first: place of the first row among those of the corpus in this part.
      rows: how many.
      whole: extent of the corpus in the part.
      shards: the input shards that hold these rows: (which, extent of those before it, its own).
    """

    corpus: str
    first: int
    rows: int
    whole: int
    shards: tuple[tuple[int, int, int], ...]


@dataclasses.dataclass(frozen=True)
class OutputShard:
    """A unit: a shard of a part.

    Attributes:
      part: its name.
      number, of: which it is, of how many.
      runs: its rows, in order.
      size: bytes of its tokens.
    """

    part: str
    number: int
    of: int
    runs: tuple[Run, ...]
    size: int

    @property
    def name(self) -> str:
        return f"{self.part}/{self.number:05d}-of-{self.of:05d}"

    @property
    def rows(self) -> int:
        return sum(run.rows for run in self.runs)


def corpora_of(part: str, order: Sequence[str], extents: Sequence[Extents]) -> dict[str, list]:
    """Corpus -> [(input shard, extent)], of the shards that have some of it in this part."""
    found: dict[str, list[tuple[int, int]]] = {name: [] for name in order}
    for shard, known in enumerate(extents):
        for corpus, extent in known.get(part, {}).items():
            if extent:
                found[corpus].append((shard, extent))
    return {corpus: shards for corpus, shards in found.items() if shards}


def output_shards(
    part: str,
    order: Sequence[str],
    extents: Sequence[Extents],
    made: Made,
    rows_per_shard: int,
    bytes_a_row: int,
) -> list[OutputShard]:
    """Cuts a part into shards.

    Args:
      part: its name.
      order: of the corpora in it.
      extents: of each input shard.
      made: how windows are made.
      rows_per_shard: of all shards but the last.
      bytes_a_row: of tokens.
    """
    shards: list[list[Run]] = []
    room = 0
    for corpus, known in corpora_of(part, order, extents).items():
        whole = sum(extent for _, extent in known)
        left, first = made.rows(whole), 0
        while left:
            if not room:
                shards.append([])
                room = rows_per_shard
            rows = min(room, left)
            held = tuple(_held(known, first, rows, made.extent_of_row))
            shards[-1].append(Run(corpus, first, rows, whole, held))
            first, left, room = first + rows, left - rows, room - rows
    return [
        OutputShard(
            part, number, len(shards), tuple(runs), bytes_a_row * sum(run.rows for run in runs)
        )
        for number, runs in enumerate(shards)
    ]


def _held(
    known: Sequence[tuple[int, int]], first: int, rows: int, extent_of_row: int
) -> Iterator[tuple[int, int, int]]:
    """The input shards that have something of some rows."""
    begin, end = first * extent_of_row, (first + rows) * extent_of_row
    before = 0
    for shard, extent in known:
        if before < end and before + extent > begin:
            yield shard, before, extent
        before += extent
