"""Files whose records say how long they are (tar, WARC): read forward, passed over, cut at records.

Where such a record begins is known only from the one before it: a file is cut by going over the
heads of all its records once, which costs no more than that in a local file, and a request a record
elsewhere. So files elsewhere, and compressed ones, are not cut.
"""

import abc
from collections.abc import Iterator
import contextlib
import io
import itertools
from typing import BinaryIO

from dr_keras.data.formats.base import Format, Part
from dr_keras.data.formats.reading import file_compression, local_path, open_binary, read_chunks

_PIECE = 1 << 20


class Content(contextlib.AbstractContextManager):
    """The content of a file, decompressed, from front to back.

    Attributes:
      offset: of what is read next, in the content.
    """

    def __init__(self, path: str, start: int | None = None):
        """Args:
        path: a file.
        start: of an uncompressed file, where to begin.

        Raises:
          DataError: the file cannot be read (here or later), or is damaged compressed data.
        """
        self.offset = start or 0
        self._file: BinaryIO
        local = local_path(path)
        if local is not None and (start is not None or not file_compression(path)):
            self._file = open_binary(path)
            self._file.seek(self.offset)
        else:
            chunks = read_chunks(path, decompress=start is None, start=self.offset)
            self._file = io.BufferedReader(_Chunks(chunks), _PIECE)  # type: ignore[assignment]

    def __exit__(self, *exception) -> None:
        self._file.close()

    def read(self, size: int) -> bytes:
        """The next bytes. Raises EOFError where there are not so many."""
        found = self._file.read(size)
        self.offset += len(found)
        if len(found) < size:
            raise EOFError(f"it ends at byte {self.offset}, within a record")
        return found

    def line(self, at_most: int) -> bytes:
        """The next line with its end, or as much of it; b"" at the end of the content."""
        found = self._file.readline(at_most)
        self.offset += len(found)
        return found

    def pass_over(self, size: int) -> None:
        """Leaves out the next bytes. Raises EOFError where there are not so many."""
        if self._file.seekable() and size > _PIECE // 16:
            self._file.seek(size - 1, io.SEEK_CUR)
            self.offset += size - 1
            size = 1  # which is there, or the file is shorter
        while size:
            size -= len(self.read(min(size, _PIECE)))


class _Chunks(io.RawIOBase):
    """Chunks of bytes as a file."""

    def __init__(self, chunks: Iterator[bytes]):
        super().__init__()
        self._chunks, self._chunk = chunks, memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        while not self._chunk:
            found = next(self._chunks, None)
            if found is None:
                return 0
            self._chunk = memoryview(found)
        size = min(len(buffer), len(self._chunk))
        buffer[:size] = self._chunk[:size]
        self._chunk = self._chunk[size:]
        return size


class FramedFormat(Format):
    """A format of such files. Ranges are of bytes, from record to record."""

    @abc.abstractmethod
    def starts(self, content: Content, path: str) -> Iterator[int]:
        """Where every record of a content begins; DataError where the file is damaged."""

    def parts(self, path, size, part_bytes):
        form = file_compression(path)
        if form or size <= part_bytes or local_path(path) is None:
            return [Part(path, size=size)], form
        found, first = [], 0
        with Content(path) as content:
            for start in self.starts(content, path):
                if start - first >= part_bytes:
                    found.append(Part(path, first, start, start - first))
                    first = start
        return [*found, Part(path, first, size, size - first)], form

    def before(self, part):
        if not part.start:
            return 0
        with Content(part.path) as content:
            starts = self.starts(content, part.path)
            return sum(1 for _ in itertools.takewhile(lambda start: start < part.start, starts))
