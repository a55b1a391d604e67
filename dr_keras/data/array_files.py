"""Rows of a NumPy file, read one by one: no page of it stays with the process.

A memory map would do the same in fewer lines, and each row that is read would bring its
neighbours into the resident memory of the process, until the whole file is in it. A file that was
cut short would end the process.
"""

import errno
import os
import threading
import weakref

import numpy as np

from dr_keras.data.columns import Column
from dr_keras.errors import DataError

# Files that are held open at once; of more, each is opened where it is read.
_MOST_OPEN = 512
_AT_ONCE = 1 << 24  # bytes of one read


class ArrayFile(Column):
    """An array in a `.npy` file on a local disk, rows first, in C order.

    It is sent to other processes by its path. Any number of threads may read.

    Args:
      path: of the file.
      shape, dtype: what it must hold.
      fingerprint: hex SHA-256 of the file.

    Raises:
      DataError: there is no such file, or it holds something else.
    """

    _opened = 0
    _counting = threading.Lock()

    def __init__(self, path: str, shape: tuple[int, ...], dtype: np.dtype | type, fingerprint: str):
        self.path, self.shape, self.dtype = path, tuple(shape), np.dtype(dtype)
        self._fingerprint = fingerprint
        self._start = _start_of_data(path, self.shape, self.dtype)
        self._row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        self._file: int | None = None
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    def read(self, rows: np.ndarray) -> np.ndarray:
        """The rows of these numbers; neighbours are read at once.

        Raises:
          DataError: the file has become shorter.
        """
        found = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not found.size:
            return found
        raw = found.reshape(-1).view(np.uint8).data
        size, most = self._row_bytes, max(_AT_ONCE // self._row_bytes, 1)
        ends = np.append(np.flatnonzero(np.diff(rows) != 1) + 1, len(rows))
        file, kept = self._descriptor()
        try:
            begin = 0
            for end in ends.tolist():
                first = int(rows[begin])
                for start in range(begin, end, most):
                    stop = min(start + most, end)
                    place = self._start + (first + start - begin) * size
                    if os.preadv(file, [raw[start * size : stop * size]], place) != (
                        (stop - start) * size
                    ):
                        raise _shorter(self.path)
                begin = end
        finally:
            if not kept:
                os.close(file)
        return found

    def _descriptor(self) -> tuple[int, bool]:
        """The open file, and whether it stays open."""
        with self._lock:
            if self._file is not None:
                return self._file, True
            file = _open(self.path)
            with ArrayFile._counting:
                kept = ArrayFile._opened < _MOST_OPEN
                ArrayFile._opened += kept
            if kept:
                self._file = file
                weakref.finalize(self, _close, file)
            return file, kept

    def __getstate__(self) -> dict:
        return {k: v for k, v in self.__dict__.items() if k not in ("_file", "_lock")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__ |= {**state, "_file": None, "_lock": threading.Lock()}


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.EISDIR):
            raise DataError(
                f"{path} is not there any more: copy the prepared corpus again, or prepare it anew."
            ) from error
        raise


def _close(file: int) -> None:
    with ArrayFile._counting:
        ArrayFile._opened -= 1
    os.close(file)


def _shorter(path: str) -> DataError:
    return DataError(
        f"{path} is shorter than it was: copy the prepared corpus again, or prepare it anew."
    )


def _start_of_data(path: str, shape: tuple[int, ...], dtype: np.dtype) -> int:
    """Where the rows begin, in bytes, of a file that holds such an array."""
    try:
        with open(path, "rb") as file:
            major, _ = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0
            if major != 1:
                read = np.lib.format.read_array_header_2_0
            found = read(file)
            start = file.tell()
    except (ValueError, EOFError) as error:
        raise DataError(
            f"{path} is no NumPy file, or a damaged one ({error}): copy the prepared corpus again,"
            " or prepare it anew."
        ) from error
    if found != (shape, False, dtype):
        raise DataError(
            f"{path} holds {found[2]} {list(found[0])}, and the manifest says {dtype}"
            f" {list(shape)}: the folder is mixed from several preparations; prepare it anew."
        )
    return start
