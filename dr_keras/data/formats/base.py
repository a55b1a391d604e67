"""What a file format is: one object that the whole project asks, found by its name in `FORMATS`.

To add a format, write a module like `jsonl.py`: a gin-configurable `<name>_corpus` that ends in
`records.file_corpus`, and a subclass of `Format`; and `register` an instance. Here beside the
others it is found by itself; elsewhere an `import` line in a gin file brings it. Meta-training,
scoring and filtering (here, in workers and on Beam) then take files of it.
"""

import abc
from collections.abc import Callable, Hashable, Iterator
import dataclasses
import math
from typing import Any

from dr_keras.data.corpora.base import Corpus, Malformed
from dr_keras.data.documents import Document
from dr_keras.data.formats.reading import READABLE, SUFFIXES, file_compression, read_chunks
from dr_keras.data.formats.writing import Lines, Output


@dataclasses.dataclass(frozen=True)
class Part:
    """A file, or a range of one.

    Attributes:
      path: of the file.
      start, end: where the range begins and ends, in what the format counts; None for a whole file.
      size: bytes of input, for progress; None where nobody counts them.
    """

    path: str
    start: int | None = None
    end: int | None = None
    size: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """A record that can be used.

    Attributes:
      document: id, text and source.
      whole: what the format's `output` writes where the record is kept; None where it is not asked
        for.
    """

    document: Document
    whole: object = None


class Format(abc.ABC):
    """How files of one format are told, cut, read and written.

    Attributes:
      name: of the format; its corpus is `<name>_corpus` in gin.
      suffixes: how the names of its files end, in lower case, without those of compression.
      unit: what messages call a record: they count them from 1.
      text_argument: the argument of the corpus that says what the text is, as a corpus describes
        itself and as messages name it.
      group_argument: the one that says which documents belong together; "" where there is none.
      label_argument: the one that names fields for evaluation; "" where there is none.
      packed_itself: what a file is that is read only as it is, such as "a Parquet file"; "" where
        files may be compressed.
      corpus: the gin-configurable function that makes a corpus of files.
      has_records: whether records can be scored in ranges and kept whole; else files are only read
        as a corpus, and what is below `read` is never called.
    """

    name: str
    suffixes: tuple[str, ...]
    unit: str
    text_argument: str
    group_argument = ""
    label_argument = ""
    packed_itself = ""
    corpus: Callable[..., Corpus]
    has_records = True

    def setting(self, argument: str) -> str:
        """What gin calls an argument of the corpus."""
        return f"{self.name}_corpus.{argument}"

    def begins(self, content: bytes) -> bool:
        """Whether the first bytes of a file, once decompressed, are of this format for certain."""
        del content
        return False

    def is_plain(self, stored: bytes) -> bool:
        """Whether the first bytes are not compressed, even where they look as if they were."""
        del stored
        return False

    def refused(
        self, path: str, named: bool, content: bytes, compression: str
    ) -> tuple[str, str] | None:
        """What a file is that cannot be read, and what to do then; None for one that can be.

        Args:
          path: a file of this format.
          named: whether its name says so.
          content: its first bytes, once decompressed.
          compression: see `reading.compression_of`.
        """
        del path, named, content
        if self.packed_itself and compression:
            return f"{self.packed_itself} inside {compression}, which is not read", DECOMPRESS
        if compression in READABLE:
            return None
        return f"compressed by {compression}, which is read in TFRecord files only", DECOMPRESS

    def check(self, fields: dict[str, Any]) -> None:  # noqa: B027  most have nothing to check
        """Raises ConfigurationError where an argument of the corpus is out of its range, beside
        those that all formats have."""

    @abc.abstractmethod
    def read(
        self, part: Part, fields: dict[str, Any], whole: bool
    ) -> Iterator[Record | Malformed | None]:
        """Yields one thing for every unit of a part, in order; None for one that is no record.

        Args:
          part: what to read.
          fields: the arguments of the corpus without path, name and number of documents.
          whole: whether records are asked for with `Record.whole`.

        Raises:
          DataError: the file is damaged, or has no such text at all.
        """

    def parts(self, path: str, size: int, part_bytes: int) -> tuple[list[Part], Hashable]:
        """A file cut into parts of about `part_bytes`, and what files must have in common whose
        records one output may hold. By default a file is never cut.

        Raises:
          DataError: the file cannot be read.
        """
        del part_bytes
        return [Part(path, size=size)], file_compression(path)

    def before(self, part: Part) -> int:
        """Units of the file before a part: counted only for the message of an error."""
        del part
        return 0

    def output(self, path: str, temporary: str, like: str, fields: dict[str, Any]) -> Output:
        """A file for records that are kept whole, written as those of a file of the input are.

        Args:
          path: what it is to be called, without suffix.
          temporary: see `writing.Output`.
          like: a file of the input.
          fields: see `read`.
        """
        raise NotImplementedError(f"{self.name} files have no records that can be kept whole")


class LineFormat(Format):
    """A format whose records are lines.

    Ranges are of bytes: a part has the lines that begin in it. A whole record is its line, without
    its end.
    """

    unit = "line"

    def parts(self, path, size, part_bytes):
        form = file_compression(path)
        if form:
            return [Part(path, size=size)], form
        pieces = max(1, math.ceil(size / part_bytes))
        edges = [size * piece // pieces for piece in range(pieces + 1)]
        return [Part(path, a, b, b - a) for a, b in zip(edges, edges[1:])], form

    def before(self, part):
        if not part.start:
            return 0
        lines, left = 1, part.start - 1  # a line begins at 0 and after every newline
        for chunk in read_chunks(part.path, decompress=False):
            lines += chunk.count(b"\n", 0, left)
            left -= len(chunk)
            if left <= 0:
                break
        return lines

    def output(self, path, temporary, like, fields):
        compression = file_compression(like)
        return Lines(f"{path}{self.suffixes[0]}{SUFFIXES[compression]}", temporary, compression)


DECOMPRESS = "decompress it first"
FORMATS: dict[str, Format] = {}


def register(format: Format) -> None:
    """Adds a format: files of it are found, read and written from now on."""
    FORMATS[format.name] = format


def parsed(make: Callable[..., Document], *arguments: Any, whole: object = None):
    """The `Record` of the document that `make` returns, or the `Malformed` that it raises."""
    try:
        return Record(make(*arguments), whole)
    except Malformed as found:
        return found.with_traceback(None)  # whose frames hold the text
