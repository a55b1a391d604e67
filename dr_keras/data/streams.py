"""Endless batches addressed by (seed, step).

A stream holds no position: batch number `step` is a pure function of the seed, the step and the
set. A run that was stopped therefore continues with the very batch it would have read next, and
several readers can share one stream. tf.data iterators over Python data cannot be checkpointed.

Nor does it hold an order: rows are permuted where they are asked for (`permutations`), so that a
stream is as large and begins as soon for a billion rows as for ten.
"""

import copy
import dataclasses
import math

import numpy as np

from dr_keras.data.columns import Column, Runs
from dr_keras.data.examples import ExampleSet
from dr_keras.data.permutations import permuted
from dr_keras.errors import ConfigurationError, DataError

# What a permutation is for: keeps those of the two purposes apart.
_ORDER_OF_ROWS = 0
_ORDER_OF_CORPORA = 1

# Weights become whole numbers of this unit, so that shares add up without rounding errors.
_WEIGHT_UNIT = 1 << 32

_ROWS_AT_ONCE = 1 << 16  # of a column of corpora that is searched for its runs


class BatchStream:
    """Batches of a set, in an order that depends on nothing but `seed` and the step.

    Without corpus weights, each epoch is a permutation of all rows. Epochs join without a gap: the
    last rows of one and the first rows of the next share a batch, so no row is ever left out (and
    such a batch may hold a row twice).

    With corpus weights, the draws are cut into blocks. Every block holds each corpus in its share,
    to within one draw, in an order shuffled per block; each corpus is walked through by
    permutations of its own rows. So the share is exact where independent draws would wander, small
    corpora repeat only after all their rows were used, and a draw needs no memory of earlier ones.

    In memory are the order of a few blocks and, with weights, a number or two for each run of rows
    of one corpus: nothing that grows with the rows where a corpus' rows lie together.

    Args:
      examples: the set to draw from.
      batch_size: rows in a batch.
      seed: whole number in [0, 2**64).

    Raises:
      ConfigurationError: batch size or seed out of range.
      DataError: fewer rows than one batch needs; weights that do not fit the set's corpora.
    """

    def __init__(self, examples: ExampleSet, batch_size: int, seed: int = 0):
        if batch_size < 1:
            raise ConfigurationError(f"batch_size is {batch_size}: it must be at least 1.")
        if len(examples) < batch_size:
            raise DataError(
                f"The set '{examples.name}' has {len(examples)} examples, fewer than one batch of"
                f" {batch_size}: lower the batch size, add documents, or shorten the sequences."
            )
        self.examples = examples
        self.batch_size = int(batch_size)
        self.seed = _checked_seed(seed)
        self._blocks: dict[int, tuple[np.ndarray, list[int]]] = {}
        if examples.weights is None:
            self._rows = [_Rows.of(np.zeros(1, np.int64), np.array([len(examples)]))]
            self._bounds = None
        else:
            self._rows, self._bounds, self._block = _shares(examples)

    def with_seed(self, seed: int) -> "BatchStream":
        """A stream of the same batches in another order, without another look at the corpora."""
        other = copy.copy(self)
        other.seed, other._blocks = _checked_seed(seed), {}
        return other

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """Features of batch number `step` (from 0), each [batch_size, ...]."""
        rows = self.indices(step)
        return {name: values[rows] for name, values in self.examples.features.items()}

    def indices(self, step: int) -> np.ndarray:
        """Row numbers of batch number `step`, int64 [batch_size]."""
        if step < 0:
            raise ConfigurationError(f"step is {step}: steps are counted from 0.")
        first = int(step) * self.batch_size
        draws = range(first, first + self.batch_size)
        if self._bounds is None:
            return self._walk(0, draws)
        rows = np.empty(self.batch_size, np.int64)
        filled = 0
        for block in range(draws[0] // self._block, draws[-1] // self._block + 1):
            start = block * self._block
            inside = slice(max(first - start, 0), min(draws[-1] + 1 - start, self._block))
            order, counts = self._corpora_of_block(block)
            here = order[inside]
            for corpus in np.unique(here):
                # Draws of this corpus before the batch: earlier blocks, then this block's start.
                before = counts[corpus] + int(np.sum(order[: inside.start] == corpus))
                places = np.flatnonzero(here == corpus)
                rows[filled + places] = self._walk(corpus, range(before, before + len(places)))
            filled += len(here)
        return rows

    def _walk(self, corpus: int, draws: range) -> np.ndarray:
        """Rows number `draws` in the endless walk through one corpus."""
        rows = self._rows[corpus]
        parts = []
        for epoch in range(draws[0] // len(rows), draws[-1] // len(rows) + 1):
            start = epoch * len(rows)
            inside = np.arange(max(draws[0] - start, 0), min(draws[-1] + 1 - start, len(rows)))
            order = permuted(inside, len(rows), self.seed, _ORDER_OF_ROWS, corpus, epoch)
            parts.append(rows[order])
        return np.concatenate(parts)

    def _corpora_of_block(self, block: int) -> tuple[np.ndarray, list[int]]:
        """The corpus of each draw in a block [block size], and each corpus' draws before it."""
        found = self._blocks.get(block)
        if found is None:
            before = _counts(self._bounds, block * self._block)
            after = _counts(self._bounds, (block + 1) * self._block)
            order = permuted(
                np.arange(self._block), self._block, self.seed, _ORDER_OF_CORPORA, block
            )
            ends = np.cumsum([b - a for a, b in zip(before, after)])
            found = np.searchsorted(ends, order, side="right").astype(np.int32), before
            while len(self._blocks) > 2:  # a batch and its neighbours are in few
                self._blocks.pop(next(iter(self._blocks)), None)
            self._blocks[block] = found
        return found


@dataclasses.dataclass(frozen=True)
class _Rows:
    """Rows of one corpus, as runs of neighbours: as many numbers as runs, not as rows.

    Attributes:
      ends: the corpus' rows up to the end of each run, int64 [R].
      offsets: what a row's number in the set is above its number in the corpus, int64 [R].
    """

    ends: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, starts: np.ndarray, lengths: np.ndarray) -> "_Rows":
        """Args: first row of each run, int64 [R], ascending, and its rows, int64 [R]."""
        ends = np.cumsum(lengths)
        return cls(ends, starts - (ends - lengths))

    def __len__(self) -> int:
        return int(self.ends[-1])

    def __getitem__(self, numbers: np.ndarray) -> np.ndarray:
        """Rows of the set, int64 [n], of these of the corpus."""
        return numbers + self.offsets[np.searchsorted(self.ends, numbers, side="right")]


def _checked_seed(seed: int) -> int:
    if not 0 <= seed < 1 << 64:
        raise ConfigurationError(f"seed is {seed}: it must be in [0, 2**64).")
    return int(seed)


def _by_corpus(corpora: np.ndarray | Column) -> dict[str, _Rows]:
    """Corpus -> its rows."""
    names, ends = _runs(corpora)
    lengths = np.diff(ends, prepend=0)
    names, starts, lengths = (x[lengths > 0] for x in (names, ends - lengths, lengths))
    chosen = {name: names == name for name in dict.fromkeys(names.tolist())}
    return {name: _Rows.of(starts[here], lengths[here]) for name, here in chosen.items()}


def _runs(corpora: np.ndarray | Column) -> tuple[np.ndarray, np.ndarray]:
    """(names, object [R], rows up to the end of each, int64 [R]) of runs of one name."""
    if isinstance(corpora, Runs):
        return corpora.values, corpora.ends
    names, ends = [], []
    for start in range(0, len(corpora), _ROWS_AT_ONCE):
        some = np.asarray(corpora[start : start + _ROWS_AT_ONCE], object)
        last = np.append(np.flatnonzero(some[1:] != some[:-1]), len(some) - 1)
        names.append(some[last])
        ends.append(start + 1 + last)
    return np.concatenate(names), np.concatenate(ends)


def _shares(examples: ExampleSet) -> tuple[list[_Rows], list[int], int]:
    """Rows of each corpus, cumulative integer weights, and the block size that fits them."""
    weights = {name: float(weight) for name, weight in examples.weights.items()}
    by_corpus = _by_corpus(examples.corpora)
    present = set(by_corpus)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights.values()):
        raise DataError(f"The weights of '{examples.name}' must be finite and >= 0: {weights}.")
    missing = sorted(present - set(weights))
    if missing:
        raise DataError(
            f"The set '{examples.name}' holds examples of {missing}, which its weights do not name:"
            " give each corpus a weight (0 leaves it out)."
        )
    drawn = sorted(name for name, weight in weights.items() if weight > 0)
    if not drawn:
        raise DataError(f"All weights of '{examples.name}' are 0: raise at least one.")
    empty = [name for name in drawn if name not in present]
    if empty:
        raise DataError(
            f"The set '{examples.name}' has no example of {empty}, yet its weights ask for them:"
            " add documents to these corpora or set their weights to 0."
        )
    rows = [by_corpus[name] for name in drawn]
    total = math.fsum(weights[name] for name in drawn)
    bounds = [0]
    for name in drawn:
        bounds.append(bounds[-1] + max(round(weights[name] / total * _WEIGHT_UNIT), 1))
    bounds = [bound * _WEIGHT_UNIT // bounds[-1] for bound in bounds]
    # A block must have room for two draws of the rarest corpus, or rounding could ask for -1.
    smallest = min(b - a for a, b in zip(bounds, bounds[1:]))
    if smallest < _WEIGHT_UNIT >> 20:
        raise DataError(
            f"The weights of '{examples.name}' differ by more than a factor of a million:"
            f" {weights}. Set the smallest to 0 or raise it."
        )
    block = 256
    while block * smallest < 2 * _WEIGHT_UNIT:
        block *= 2
    return rows, bounds, block


def _counts(bounds: list[int], draws: int) -> list[int]:
    """How many of the first `draws` draws (a whole number of blocks) fall to each corpus."""
    ends = [draws * bound // _WEIGHT_UNIT for bound in bounds]
    return [b - a for a, b in zip(ends, ends[1:])]


def rows_of(stream, steps: int) -> np.ndarray:
    """Row numbers of all batches of a run, int [steps, B].

    Args:
      stream: a `BatchStream`, or anything else with `indices(step)`.
    """
    return np.stack([stream.indices(step) for step in range(steps)])
