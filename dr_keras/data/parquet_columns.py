"""Columns of Parquet files, of which one row group at a time is read."""

from collections import OrderedDict
from collections.abc import Iterator
import contextlib
import hashlib
import threading

import numpy as np
import pyarrow
import pyarrow.parquet

from dr_keras.data.columns import Column
from dr_keras.errors import DataError

_GROUPS_KEPT = 32  # of all columns together; a group of 8,192 ids takes about 0.3 MB


class ParquetColumn(Column):
    """One column of a Parquet file on a local disk.

    It is sent to other processes by its path. Any number of threads may read.

    Args:
      path: of the file.
      name: of the column.
      rows: that the file has.
      dtype: object for texts (null is None), or a type of numbers (null is NaN).
      fingerprint: hex SHA-256 of the file.
    """

    def __init__(self, path: str, name: str, rows: int, dtype: np.dtype | type, fingerprint: str):
        self.path, self.name = path, name
        self.shape, self.dtype = (rows,), np.dtype(dtype)
        self._fingerprint = hashlib.sha256(f"{name} {fingerprint}".encode()).hexdigest()
        self._ends: np.ndarray | None = None

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers.

        Raises:
          DataError: the file is missing, damaged, or has other rows or columns.
        """
        found = np.empty(len(rows), self.dtype)
        if not len(rows):
            return found
        if self._ends is None:
            self._ends = _GROUPS.ends(self.path, self.name, len(self))
        groups = np.searchsorted(self._ends, rows, side="right")
        for group in np.unique(groups).tolist():
            here = groups == group
            start = int(self._ends[group - 1]) if group else 0
            values = _GROUPS.column(self.path, self.name, group).take(
                pyarrow.array(rows[here] - start)
            )
            if pyarrow.types.is_dictionary(values.type):  # one text for all rows that have it
                known = np.array([*values.dictionary.to_pylist(), None], object)
                codes = values.indices.fill_null(len(known) - 1)
                found[here] = known[codes.to_numpy(zero_copy_only=False)]
            elif self.dtype == object:
                found[here] = values.to_pylist()
            else:
                found[here] = values.to_numpy(zero_copy_only=False)
        return found


class _Groups:
    """Row groups read last, and the files that they are of; one thread reads at a time."""

    def __init__(self):
        self._kept: OrderedDict[tuple, pyarrow.Array] = OrderedDict()
        self._files: OrderedDict[str, pyarrow.parquet.ParquetFile] = OrderedDict()
        self._lock = threading.Lock()

    def ends(self, path: str, column: str, rows: int) -> np.ndarray:
        """Row after each group, int64 [groups], of a file that has this column and these rows."""
        with self._lock, _reading(path):
            about = self._file(path).metadata
            names = about.schema.to_arrow_schema().names
            if about.num_rows != rows or column not in names:
                raise DataError(
                    f"{path} has {about.num_rows:,} rows of {', '.join(names)}, and the manifest"
                    f" says {rows:,} with {column}: the folder is mixed from several preparations;"
                    " prepare it anew."
                )
            sizes = [about.row_group(k).num_rows for k in range(about.num_row_groups)]
            return np.cumsum(np.asarray(sizes, np.int64))

    def column(self, path: str, name: str, group: int) -> pyarrow.Array:
        """One column of one group."""
        key = (path, name, group)
        with self._lock, _reading(path):
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
            table = self._file(path).read_row_group(group, columns=[name], use_threads=False)
            found = table.column(0).combine_chunks()
            self._kept[key] = found
            while len(self._kept) > _GROUPS_KEPT:
                self._kept.popitem(last=False)
            return found

    def _file(self, path: str) -> pyarrow.parquet.ParquetFile:
        if path not in self._files:
            while len(self._files) >= _GROUPS_KEPT:
                self._files.popitem(last=False)[1].close()
            self._files[path] = pyarrow.parquet.ParquetFile(path)
        self._files.move_to_end(path)
        return self._files[path]


@contextlib.contextmanager
def _reading(path: str) -> Iterator[None]:
    """Says of a file that cannot be read which one it is."""
    try:
        yield
    except (pyarrow.ArrowException, FileNotFoundError) as error:
        reason = str(error).splitlines()[0][:200]
        raise DataError(
            f"{path} cannot be read ({reason}): copy the prepared corpus again, or prepare it anew."
        ) from error


_GROUPS = _Groups()
