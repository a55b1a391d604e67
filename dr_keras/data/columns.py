"""Columns of examples that need not be in memory: rows are read where they are asked for.

An `ExampleSet` holds one array or `Column` for each feature, and for ids, sources, corpora and
labels. Whoever reads some rows, `column[rows]`, gets a NumPy array of either. Whoever needs all of
a column, as `np.asarray(column)` or by arithmetic, gets it whole, in memory.
"""

import abc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
import hashlib
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin


class Column(NDArrayOperatorsMixin, abc.ABC):
    """Rows of one kind, read on demand.

    Attributes:
      shape: of the whole, rows first.
      dtype: of what reading gives.
      bounds: the smallest and the largest value that there may be, where that is known.
      known_nonzero: values other than 0, where their number is known.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    bounds: tuple[int, int] | None = None
    known_nonzero: int | None = None

    @abc.abstractmethod
    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers, int64 [n] in [0, N), as an array [n, ...] of `dtype`."""

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 that stands for all rows, in order; of what has no shorter way, of them."""
        digest = _digest(f"{self.dtype.str} {self.shape}")
        for start in range(0, len(self), _ROWS_A_STEP):
            block = np.ascontiguousarray(self[start : start + _ROWS_A_STEP])
            if block.dtype == object:
                digest.update(_texts(repr(block.tolist())))
            else:
                digest.update(block.data)
        return digest.hexdigest()

    def counts(self) -> Counter:
        """Value -> rows that have it; of a column of single values."""
        found: Counter = Counter()
        for start in range(0, len(self), _ROWS_A_STEP):
            found.update(self[start : start + _ROWS_A_STEP].tolist())
        return found

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows) -> Any:
        """One row by its number; an array of those of some numbers, a mask [N] or a slice.

        Numbers may have any shape [...]; what is read has [..., *shape of a row]. What stands
        behind a comma is applied to what was read.

        Raises:
          IndexError: there is no such row.
        """
        rows, *within = rows if isinstance(rows, tuple) else (rows,)
        numbers = row_numbers(rows, len(self))
        found = self.read(numbers.reshape(-1))
        found = found.reshape(*numbers.shape, *found.shape[1:]) if numbers.ndim else found[0]
        return found[(*[slice(None)] * numbers.ndim, *within)] if within else found

    def __iter__(self) -> Iterator:
        for start in range(0, len(self), _ROWS_A_STEP):
            yield from self[start : start + _ROWS_A_STEP]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        del copy  # there is nothing that could be shared
        whole = self.read(np.arange(len(self)))
        return whole if dtype is None else whole.astype(dtype)

    def __array_ufunc__(self, ufunc, method, *inputs, **keywords):
        whole = (np.asarray(x) if isinstance(x, Column) else x for x in inputs)
        return getattr(ufunc, method)(*whole, **keywords)

    def astype(self, dtype) -> np.ndarray:
        """All rows as another type."""
        return np.asarray(self).astype(dtype)

    def tolist(self) -> list:
        """All rows as Python objects."""
        return np.asarray(self).tolist()

    def take(self, rows: np.ndarray) -> "Column":
        """The rows of these numbers, int64 [n], in that order, as a column: nothing is read."""
        return Chosen(self, rows)


_ROWS_A_STEP = 4096


class Chosen(Column):
    """Some rows of a column, in an order of their own.

    Args:
      column: to choose from.
      rows: int [n]; best of `smallest`, which columns of one set then share.
    """

    def __init__(self, column: Column, rows: np.ndarray):
        self._column = column
        self._rows = smallest(rows, len(column))
        self.shape, self.dtype = (len(self._rows), *column.shape[1:]), column.dtype
        self.bounds = column.bounds

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self._column.read(self._rows[rows].astype(np.int64))

    def take(self, rows: np.ndarray) -> Column:
        return Chosen(self._column, self._rows[rows])

    @property
    def fingerprint(self) -> str:
        digest = _digest(f"chosen {self._column.fingerprint} {self._rows.dtype.str}")
        digest.update(np.ascontiguousarray(self._rows).data)
        return digest.hexdigest()


def smallest(rows: np.ndarray, count: int) -> np.ndarray:
    """Numbers of `count` rows in the smallest type: such a table is what choosing costs."""
    rows = np.asarray(rows)
    return rows.astype(np.min_scalar_type(max(count - 1, 0)), copy=False)


class Joined(Column):
    """Arrays (memory-mapped ones among them) or columns one after the other.

    Args:
      parts: at least one; all [n, ...] of the same shape but for n.
      dtype: of what reading gives; None for that of the first.
      known_counts: what `counts` gives, where it is known.
    """

    def __init__(
        self,
        parts: Sequence[np.ndarray | Column],
        dtype: np.dtype | type | None = None,
        known_counts: Mapping | None = None,
    ):
        self._parts, self._counts = list(parts), known_counts
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.shape = (int(self._ends[-1]), *self._parts[0].shape[1:])
        self.dtype = np.dtype(self._parts[0].dtype if dtype is None else dtype)

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        owners = np.searchsorted(self._ends, rows, side="right")
        for owner in np.unique(owners):
            here = owners == owner
            part = self._parts[owner]
            found[here] = part[rows[here] - (self._ends[owner] - len(part))]
        return found

    @property
    def fingerprint(self) -> str:
        columns = [part for part in self._parts if isinstance(part, Column)]
        if len(columns) < len(self._parts):
            return super().fingerprint
        known = " ".join(column.fingerprint for column in columns)
        return _digest(f"joined {self.dtype.str} {self.shape} {known}").hexdigest()

    def counts(self) -> Counter:
        return super().counts() if self._counts is None else Counter(self._counts)


class Runs(Column):
    """Texts that repeat: each value so many times, one after the other.

    Attributes:
      values: of the runs, which may repeat.
      ends: row after each run, int64 [number of runs], ascending.
    """

    dtype = np.dtype(object)

    def __init__(self, values: Sequence[str], lengths: Sequence[int]):
        """Args:
        values: one for each run.
        lengths: rows of each run.
        """
        self.values = np.array([*values, None], object)[:-1]
        self.ends = np.cumsum(np.asarray(lengths, np.int64))
        self.shape = (int(self.ends[-1]) if len(self.ends) else 0,)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return self.values[np.searchsorted(self.ends, rows, side="right")]

    @property
    def fingerprint(self) -> str:
        runs = list(zip(self.values.tolist(), self.ends.tolist()))
        return _digest(f"runs {runs!r}").hexdigest()

    def counts(self) -> Counter:
        found: Counter = Counter()
        for value, length in zip(self.values.tolist(), np.diff(self.ends, prepend=0).tolist()):
            found[value] += length
        return found


class Each(Column):
    """What a function makes of each value of a column [N]; it is called where rows are read.

    Args:
      function: of one value; sent to other processes with the column.
      column: of single values.
    """

    dtype = np.dtype(object)

    def __init__(self, function: Callable[[Any], Any], column: Column):
        self._function, self._column, self.shape = function, column, column.shape

    def read(self, rows: np.ndarray) -> np.ndarray:
        found = np.empty(len(rows), object)
        found[:] = [self._function(value) for value in self._column.read(rows)]
        return found


def row_numbers(rows, count: int) -> np.ndarray:
    """Row numbers in [0, count) of what an array may be indexed by along its rows, int64.

    Args:
      rows: a number, numbers of any shape, a boolean mask [count] or a slice.
      count: rows that there are.

    Raises:
      IndexError: there is no such row, or the mask is of another length.
    """
    if isinstance(rows, slice):
        return np.arange(*rows.indices(count))
    rows = np.asarray(rows)
    if rows.dtype == bool:
        if rows.shape != (count,):
            raise IndexError(f"a mask of shape {rows.shape} for {count} rows")
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64) if rows.size == 0 else rows
    if not np.issubdtype(rows.dtype, np.integer):
        raise IndexError(f"rows are numbered by integers, not by {rows.dtype}")
    rows = rows.astype(np.int64)
    if rows.size and not (-count <= rows.min() and rows.max() < count):
        raise IndexError(f"row {rows.max() if rows.max() >= count else rows.min()} of {count}")
    return np.where(rows < 0, rows + count, rows)


def taken(values: "np.ndarray | Column", rows: np.ndarray) -> "np.ndarray | Column":
    """Some rows: of an array a copy, of a column one that reads them where they are asked for."""
    return values.take(rows) if isinstance(values, Column) else values[rows]


def concatenated(parts: Sequence[np.ndarray | Column]) -> np.ndarray | Column:
    """Arrays as one; a column where there is one among them."""
    if any(isinstance(part, Column) for part in parts):
        return Joined(parts)
    return np.concatenate(parts)


def by_rows(
    function: Callable[[np.ndarray], np.ndarray], values: np.ndarray | Column, rows: int = 1 << 15
) -> np.ndarray:
    """A function of rows [n, ...] -> [n, ...] over all of an array or column, some rows at once."""
    if not isinstance(values, Column):
        return function(values)
    starts = range(0, max(len(values), 1), rows)
    return np.concatenate([function(values[start : start + rows]) for start in starts])


def value_counts(values: "np.ndarray | Column") -> Counter:
    """Value -> rows that have it, of an array or a column [N]."""
    return values.counts() if isinstance(values, Column) else Counter(values.tolist())


def _digest(text: str) -> "hashlib._Hash":
    return hashlib.sha256(_texts(text))


def _texts(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
