"""The last phase of preparing a corpus: an output shard is cut from what the input shards hold.

Rows are written some thousands at a time. In memory are these, their tokens, and of one input shard
what is known of its documents.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import os
from typing import NamedTuple

import numpy as np
import pyarrow

from dr_keras.corpus_jobs.placing import Made, OutputShard, Run, coded
from dr_keras.corpus_jobs.prepared_work import (
    ROWS_SCHEMA,
    Array,
    PreparingWork,
    Rows,
    placed_path,
    published,
    read_table,
    tokens_path,
)
from dr_keras.corpus_jobs.runners import UnitProgress
from dr_keras.corpus_jobs.shared_with_target import PART_NAMES
from dr_keras.corpus_jobs.summary import MAXIMUM_SOURCES, OTHERS
from dr_keras.corpus_jobs.work import abandon
from dr_keras.data.formats.reading import open_binary
from dr_keras.data.prepared_manifest import shard_files
from dr_keras.data.tokenizers import PAD_ID
from dr_keras.data.windows import Windows, cut, pack
from dr_keras.errors import DataError

ROWS_A_GROUP = 8192
_GAP = 1 << 16  # bytes between two documents that are read and thrown away
COUNTS = ("rows", "tokens", "documents")


@dataclasses.dataclass(frozen=True)
class Cutting(PreparingWork):
    """Writes the shards of the parts.

    Attributes:
      made: how windows are made.
    """

    made: Made

    phase = "cut"
    label = "writing"

    def run(self, unit: OutputShard, tool=None, progress: UnitProgress | None = None) -> dict:
        """Writes a shard.

        Returns:
          `rows`, `tokens` (real ones) and `documents` (whose first token is in it), `sources`
          (source -> these, the rarest together where there are very many), `shard` (as the manifest
          has it), `files`.
        """
        del tool
        names = shard_files(unit.part, unit.number, unit.of)
        paths = [os.path.join(self.output, name) for name in names]
        schema = ROWS_SCHEMA
        if self.made.packing:
            schema = schema.append(pyarrow.field("documents", pyarrow.int64(), nullable=False))
        held = _Held(self.output, unit.part, self.made)
        outputs: list = []
        sources: dict[str, Counter[str]] = {}
        try:
            shape = (unit.rows, self.made.sequence_length)
            outputs.append(Array(paths[0], self.temporary, self.made.dtype, shape))
            outputs.append(Rows(paths[1], self.temporary, schema))
            tokens, rows = outputs
            for group in _groups(unit.runs):
                blocks = [held.block(*each) for each in group]
                for block in blocks:
                    tokens.write(block.windows.tokens)
                    block.count(sources)
                rows.write(_table(blocks, schema))
                if progress is not None:
                    size = sum(block.windows.tokens.size for block in blocks)
                    progress(size * np.dtype(self.made.dtype).itemsize)
            files = published(outputs, self.output)
        except BaseException:
            abandon(outputs)
            raise
        about = [
            {"file": name, "bytes": file["bytes"], "sha256": file["sha256"]}
            for name, file in files.items()
        ]
        facts = {
            **{name: sum(counts[name] for counts in sources.values()) for name in COUNTS},
            "sources": fewer(sources),
            "shard": {"rows": unit.rows, "tokens": about[0], "rows_file": about[1]},
            "files": files,
        }
        return self.finish(unit, facts)


def fewer(sources: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Counts by source, by name; where there are very many sources, the rarest ones together."""
    common = sorted(sources, key=lambda name: (name == OTHERS, -sources[name]["rows"], name))
    found: dict[str, Counter[str]] = {name: Counter() for name in common[:MAXIMUM_SOURCES]}
    for name in common:
        found.setdefault(name if name in found else OTHERS, Counter()).update(sources[name])
    return {name: {count: found[name][count] for count in COUNTS} for name in sorted(found)}


def _groups(runs: Sequence[Run]) -> Iterator[list[tuple[Run, int, int]]]:
    """What each row group holds: (run, first row, rows) in order."""
    group: list[tuple[Run, int, int]] = []
    room = ROWS_A_GROUP
    for run in runs:
        first, left = run.first, run.rows
        while left:
            rows = min(room, left)
            group.append((run, first, rows))
            first, left, room = first + rows, left - rows, room - rows
            if not room:
                yield group
                group, room = [], ROWS_A_GROUP
    if group:
        yield group


@dataclasses.dataclass(frozen=True)
class _Block:
    """Windows of a corpus.

    Attributes:
      windows: of the documents.
      ids: of the documents.
      sources: int64, of each document the place of its source in `names`.
      names: of sources.
      begins: bool, whether the first token of each document is in these windows.
    """

    windows: Windows
    ids: Sequence[str]
    sources: np.ndarray
    names: Sequence[str]
    begins: np.ndarray

    def count(self, sources: dict[str, Counter[str]]) -> None:
        """Adds windows, real tokens and documents to those of each source."""
        of_windows = self.sources[self.windows.owners]
        real = np.count_nonzero(self.windows.tokens != PAD_ID, axis=1)
        found = {
            "rows": np.bincount(of_windows, minlength=len(self.names)),
            "tokens": np.bincount(of_windows, real, len(self.names)),
            "documents": np.bincount(self.sources[self.begins], minlength=len(self.names)),
        }
        for name, *counts in zip(self.names, *found.values()):
            if any(counts):
                known = sources.setdefault(name, Counter())
                known.update({key: int(count) for key, count in zip(found, counts)})


def _table(blocks: Sequence[_Block], schema: pyarrow.Schema) -> pyarrow.Table:
    """A row group, whose bytes say nothing of how it was put together."""
    columns: dict[str, list] = {field.name: [] for field in schema}
    for block in blocks:
        columns["id"] += block.windows.ids(block.ids).tolist()
        columns["source"] += [block.names[k] for k in block.sources[block.windows.owners].tolist()]
        for name, values in block.windows.labels().items():
            columns[name] += values.tolist()
    arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
    return pyarrow.Table.from_arrays(arrays, schema=schema)


class _Placed(NamedTuple):
    """The documents of an input shard that one corpus has in a part.

    Attributes:
      documents: their id, source, tokens, level and damage.
      tokens: int64 [n], how many each has.
      places: int64 [n], where those of each begin in the file.
      ends: int64 [n], where the extent of each ends among these.
    """

    documents: pyarrow.Table
    tokens: np.ndarray
    places: np.ndarray
    ends: np.ndarray


class _Held:
    """What input shards hold of a part."""

    def __init__(self, output: str, part: str, made: Made):
        self._output, self._made = output, made
        self._code = PART_NAMES.index(part)
        self._last: tuple[tuple[int, str] | None, _Placed | None] = (None, None)

    def block(self, run: Run, first: int, rows: int) -> _Block:
        """Some rows of a corpus, from the `first` of those it has in the part."""
        made = self._made
        begin = first * made.extent_of_row
        end = min((first + rows) * made.extent_of_row, run.whole)
        tables, encoded, begins, skipped = [], [], [], None
        for shard, before, extent in run.shards:
            if before < end and before + extent > begin:
                table, ids, left_out = self._piece(
                    shard, run.corpus, max(begin - before, 0), min(end - before, extent)
                )
                tables.append(table)
                encoded += ids
                begins += [left_out == 0] + [True] * (len(ids) - 1)
                skipped = left_out if skipped is None else skipped
        known = pyarrow.concat_tables(tables)
        levels = known["level"].to_numpy().astype(np.float32)
        kinds = known["damage"].to_pylist()
        length, minimum = made.sequence_length, made.minimum_tokens
        if made.packing:
            sizes = known["tokens"].to_numpy() + 1
            flat = np.concatenate(encoded)
            windows = pack(flat, sizes, levels, kinds, length, minimum, skipped or 0)
        else:
            windows = cut(encoded, levels, kinds, length, minimum, skipped or 0)
            begins = (np.array(begins) & np.isin(np.arange(len(encoded)), windows.owners)).tolist()
        if len(windows.tokens) != rows:
            raise DataError(
                f"{self._output}: {len(windows.tokens)} windows of the corpus '{run.corpus}' are"
                f" where {rows} should be: the files of the unfinished job do not belong together;"
                " start over with --fresh."
            )
        sources, names = coded(known["source"])
        return _Block(windows, known["id"].to_pylist(), sources, names, np.array(begins, bool))

    def _piece(
        self, shard: int, corpus: str, begin: int, end: int
    ) -> tuple[pyarrow.Table, list[np.ndarray], int]:
        """What an input shard has between two extents of it.

        Returns:
          The documents; the tokens of each in between, with the end after them where documents are
          packed; and what of the first document's extent lies before.
        """
        made, placed = self._made, self._placed(shard, corpus)
        first = int(np.searchsorted(placed.ends, begin, side="right"))
        last = int(np.searchsorted(placed.ends, end, side="left"))
        chosen = slice(first, last + 1)
        ends, tokens, places = placed.ends[chosen], placed.tokens[chosen], placed.places[chosen]
        starts = ends - made.extents(tokens)
        a, b = np.maximum(begin - starts, 0), np.minimum(end, ends) - starts
        size = 1 if made.packing else made.sequence_length
        encoded = read_ranges(
            tokens_path(self._output, shard),
            np.dtype(made.dtype),
            places + np.minimum(a * size, tokens),
            places + np.minimum(b * size, tokens),
        )
        if made.packing:
            tail = np.array([made.end_id], made.dtype)
            encoded = [
                np.concatenate([ids, tail]) if ended else ids
                for ids, ended in zip(encoded, (b > tokens).tolist())
            ]
        return placed.documents.slice(first, last + 1 - first), encoded, int(a[0])

    def _placed(self, shard: int, corpus: str) -> _Placed:
        if self._last[0] != (shard, corpus):
            columns = ["id", "source", "corpus", "tokens", "level", "damage"]
            table = read_table(self._output, shard, columns)
            with open_binary(placed_path(self._output, shard)) as file:
                codes = np.load(file)
            owners, names = coded(table["corpus"])
            wanted = names.index(corpus) if corpus in names else -1
            chosen = np.flatnonzero((codes == self._code) & (owners == wanted))
            tokens = table["tokens"].to_numpy()
            places = np.cumsum(tokens) - tokens
            table = table.drop_columns(["corpus"]).take(pyarrow.array(chosen))
            ends = np.cumsum(self._made.extents(tokens[chosen]))
            self._last = (shard, corpus), _Placed(table, tokens[chosen], places[chosen], ends)
        found = self._last[1]
        assert found is not None
        return found


def read_ranges(
    path: str, dtype: np.dtype, starts: np.ndarray, stops: np.ndarray
) -> list[np.ndarray]:
    """Ranges of the numbers in a file, ascending; what lies close together is read at once.

    Args:
      path: of the bare numbers.
      dtype: of them.
      starts, stops: int64 [n], in numbers.
    """
    gaps = (starts[1:] - stops[:-1]) * dtype.itemsize > _GAP
    firsts = np.concatenate([[0], np.flatnonzero(gaps) + 1, [len(starts)]])
    found = []
    with open_binary(path) as file:
        for first, after in zip(firsts[:-1].tolist(), firsts[1:].tolist()):
            begin, end = int(starts[first]), int(stops[after - 1])
            file.seek(begin * dtype.itemsize)
            numbers = np.frombuffer(file.read((end - begin) * dtype.itemsize), dtype)
            if len(numbers) != end - begin:
                raise DataError(f"{path} was cut short: start over with --fresh.")
            found += [
                numbers[start - begin : stop - begin]
                for start, stop in zip(starts[first:after].tolist(), stops[first:after].tolist())
            ]
    return found
