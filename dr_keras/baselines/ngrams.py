"""Hashed n-gram features of texts, as sparse rows of unit length."""

import dataclasses
import re
import zlib

import numpy as np

from dr_keras.data.tokenizers.base import utf8
from dr_keras.errors import ConfigurationError
import gin

UNITS = ("words", "bytes")
_UNIT = re.compile(r"\w+|[^\w\s]")
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclasses.dataclass(frozen=True, eq=False)
class SparseRows:
    """A sparse matrix [rows, columns] as triples, sorted by row.

    Attributes:
      row, column: int64 [entries].
      value: float64 [entries].
      shape: (rows, columns).
    """

    row: np.ndarray
    column: np.ndarray
    value: np.ndarray
    shape: tuple[int, int]

    def times(self, vector: np.ndarray) -> np.ndarray:
        """The matrix times a vector [columns]: [rows]."""
        return np.bincount(self.row, self.value * vector[self.column], self.shape[0])

    def transposed_times(self, vector: np.ndarray) -> np.ndarray:
        """The transposed matrix times a vector [rows]: [columns]."""
        return np.bincount(self.column, self.value * vector[self.row], self.shape[1])

    def take(self, rows: np.ndarray) -> "SparseRows":
        """The rows at `rows` (bool [rows]), renumbered."""
        chosen = rows[self.row]
        place = np.cumsum(rows) - 1
        return SparseRows(
            place[self.row[chosen]],
            self.column[chosen],
            self.value[chosen],
            (int(rows.sum()), self.shape[1]),
        )


@gin.configurable
@dataclasses.dataclass(frozen=True)
class NgramFeatures:
    """Texts -> counts of hashed n-grams: log(1 + count), rows scaled to length 1.

    Attributes:
      unit: "words" (lower case; punctuation marks are words) or "bytes".
      orders: which n.
      buckets: columns; n-grams that hash alike share one.

    Raises:
      ConfigurationError: a setting out of its range.
    """

    unit: str = "words"
    orders: tuple[int, ...] = (1, 2)
    buckets: int = 1 << 16

    def __post_init__(self):
        if self.unit not in UNITS:
            raise ConfigurationError(
                f"NgramFeatures.unit is {self.unit!r}: choose one of {', '.join(UNITS)}."
            )
        if not self.orders or min(self.orders) < 1 or self.buckets < 2:
            raise ConfigurationError(
                f"NgramFeatures: orders {self.orders} must be numbers from 1, and buckets"
                f" ({self.buckets}) at least 2."
            )

    def __call__(self, texts) -> SparseRows:
        """The features of N texts, [N, buckets]; a text without a unit is a row of zeros."""
        codes: dict[str, int] = {}
        rows, columns, values = [], [], []
        for row, text in enumerate(texts):
            units = self._codes(text, codes)
            hashed = [_ngrams(units, n) % np.uint64(self.buckets) for n in sorted(self.orders)]
            found, counts = np.unique(np.concatenate(hashed), return_counts=True)
            value = np.log1p(counts)
            rows.append(np.full(len(found), row, np.int64))
            columns.append(found.astype(np.int64))
            values.append(value / max(np.sqrt(value @ value), 1e-30))
        empty = np.zeros(0, np.int64)
        return SparseRows(
            np.concatenate([empty, *rows]),
            np.concatenate([empty, *columns]),
            np.concatenate([np.zeros(0), *values]),
            (len(rows), self.buckets),
        )

    def _codes(self, text: str, codes: dict[str, int]) -> np.ndarray:
        """A number for each unit of a text, uint64 [units]; `codes` remembers words."""
        if self.unit == "bytes":
            return np.frombuffer(utf8(text), np.uint8).astype(np.uint64) + np.uint64(1)
        found = []
        for word in _UNIT.findall(text.lower()):
            code = codes.get(word)
            if code is None:
                code = codes[word] = zlib.crc32(utf8(word)) + 1
            found.append(code)
        return np.array(found, np.uint64)


def _ngrams(units: np.ndarray, n: int) -> np.ndarray:
    """A hash of each n-gram, uint64 [max(units - n + 1, 0)]."""
    count = max(len(units) - n + 1, 0)
    hashed = np.full(count, n, np.uint64)  # n-grams of different n differ, whatever their units
    with np.errstate(over="ignore"):
        for k in range(n):
            hashed = (hashed ^ units[k : k + count]) * _MULTIPLIER
            hashed ^= hashed >> np.uint64(29)
    return hashed
