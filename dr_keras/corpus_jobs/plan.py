"""What a job on files works on: the input files, cut or gathered into shards.

A shard is a part of a large file, a whole file, or several small files that are alike; where a file
can be cut is for its format to say.
"""

from collections.abc import Hashable, Iterator, Sequence
import dataclasses
import itertools

from dr_keras.corpus_jobs.identity import InputFile
from dr_keras.data.formats.base import FORMATS, Format, Part
from dr_keras.errors import ConfigurationError

# Small files are gathered until they hold this share of `shard_bytes`, so that several workers
# still find enough shards to share, or until there are so many of them.
GATHERED_SHARE = 8
GATHERED_FILES = 256


@dataclasses.dataclass(frozen=True)
class Piece:
    """A part of an input file.

    Attributes:
      file: the whole file.
      part: what is read of it.
    """

    file: InputFile
    part: Part

    @property
    def path(self) -> str:
        return self.file.path

    @property
    def name(self) -> str:
        return self.file.name

    @property
    def size(self) -> int:
        """Bytes of input, for progress."""
        return self.part.size

    @property
    def first_of_file(self) -> bool:
        return not self.part.start


@dataclasses.dataclass(frozen=True)
class Shard:
    """A unit of work.

    Attributes:
      index: its place among the shards of the job, from 0.
      count: how many there are.
      format: of its files. (Itself and not its name: where a shard is unpickled, the module of a
        user's own format is imported.)
      pieces: what is read, in order; several only where whole files were gathered, which can then
        be written into one file as they are.
    """

    index: int
    count: int
    format: Format
    pieces: tuple[Piece, ...]

    @property
    def name(self) -> str:
        """00003-of-00012: what the names of its output files end in."""
        return f"{self.index:05d}-of-{self.count:05d}"

    @property
    def path(self) -> str:
        """The first input file: what is written is in its form."""
        return self.pieces[0].path

    @property
    def size(self) -> int:
        """Bytes of input, for progress."""
        return sum(piece.size for piece in self.pieces)

    @property
    def where(self) -> str:
        """The input files, for messages."""
        others = f" (or one of {len(self.pieces) - 1} files after it)" * (len(self.pieces) > 1)
        return f"{self.path}{others}"


def plan(kind: str, inputs: Sequence[InputFile], shard_bytes: int) -> list[Shard]:
    """Cuts and gathers files into shards of at most about `shard_bytes`, always in the same way."""
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    format = FORMATS[kind]
    gathered = list(_gather((_pieces(format, file, shard_bytes) for file in inputs), shard_bytes))
    count = len(gathered)
    return [Shard(index, count, format, pieces) for index, pieces in enumerate(gathered)]


def _pieces(format: Format, file: InputFile, shard_bytes: int) -> tuple[list[Piece], Hashable]:
    """A file in pieces, and what must agree where files are gathered."""
    parts, form = format.parts(file.path, file.size, shard_bytes)
    return [Piece(file, part) for part in parts], form


def _gather(pieces: Iterator[tuple], shard_bytes: int) -> Iterator[tuple[Piece, ...]]:
    """Small files that follow each other and are alike, together; all else by itself."""
    gathered: list[Piece] = []
    size, form = 0, None
    for found, its_form in itertools.chain(pieces, (([], None),)):
        fits = (
            len(found) == 1
            and its_form == form
            and (size + found[0].size) * GATHERED_SHARE <= shard_bytes
            and len(gathered) < GATHERED_FILES
        )
        if gathered and not fits:
            yield tuple(gathered)
            gathered, size = [], 0
        if len(found) == 1:
            gathered, size, form = [*gathered, *found], size + found[0].size, its_form
        else:
            yield from ((piece,) for piece in found)
