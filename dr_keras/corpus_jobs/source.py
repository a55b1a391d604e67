"""What a job reads, in shards: files of records, or any corpus.

A shard is a part of a large file, a whole file, or several small files that are alike; where a file
can be cut is for its format to say. Files are read where they lie. A corpus that gin builds (text
files, TFDS, a mixture, a list in memory) has no places to begin in its middle, and other processes
cannot be sent it: it is read once, in order, and cut into pieces of JSON lines below the job's
folder, which are shards like those of files and go with the folder when the job is done. That costs
the disk one copy of the text. A job that goes on reads the corpus again, and its shards count where
the pieces are, byte for byte, what they were.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
import dataclasses
import hashlib
import itertools
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs.identity import Fingerprint, InputFile, input_files
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, fingerprint, utf8, utf8_size
from dr_keras.data.formats.base import FORMATS, Format, Part, Record
from dr_keras.data.formats.own_outputs import paths_of
from dr_keras.data.formats.records import fields_of, identifying
from dr_keras.data.formats.writing import Lines
from dr_keras.data.prepare import corpus_from_path, find_corpus_files
from dr_keras.errors import ConfigurationError, DataError

# Small files are gathered until they hold this share of `shard_bytes`, so that several workers
# still find enough shards to share, or until there are so many of them.
GATHERED_SHARE = 8
GATHERED_FILES = 256
_FOLDER = "documents"  # of the pieces, below that of the job
# What is left out of a piece where a document has it so.
_USUAL = {"corpus": "", "count": 1, "level": None, "damage": None, "group": "", "turns": None}


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
        return self.part.size or 0

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
    format = FORMATS[kind]
    pieces = (_pieces(format, file, shard_bytes) for file in inputs)
    return _shards(format, list(_gather(pieces, shard_bytes)))


def _shards(format: Format, gathered: Sequence[tuple[Piece, ...]]) -> list[Shard]:
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


class Source:
    """The input of a job: files of records.

    Attributes:
      format: of the files.
      fields: how records are read, see `data.formats.records.fields_of`.
      files: the input files.
      shards: what of them is done at a time.
    """

    def __init__(
        self, format: Format, fields: dict, files: Sequence[InputFile], shards: Sequence[Shard]
    ):
        self.format, self.fields = format, fields
        self.files, self.shards = list(files), list(shards)

    def paths(self) -> list[str]:
        """All files that are read."""
        return [file.path for file in self.files]

    def cut(self, work: str, piece_bytes: int) -> None:
        """See `CorpusSource`; files are read where they lie."""

    def describe(self) -> dict:
        """What a manifest says of the input."""
        return {
            "input": [file.to_dict() for file in self.files],
            "fields": identifying(self.fields),
            "corpus": None,
            "corpus_fingerprint": None,
            "skipped": {},
        }


class CorpusSource(Source):
    """Any other corpus: it has no files, and no shards before it was cut.

    Attributes:
      corpus: what is read.
    """

    def __init__(self, corpus: Corpus):
        super().__init__(_Pieces(), {"on_malformed": "stop"}, [], [])
        self.corpus = corpus
        self._contents: dict[str, str] = {}

    def paths(self) -> list[str]:
        return list(paths_of(self.corpus.describe()))

    def contents(self) -> dict[str, str]:
        """By what the documents are known; the corpus is read for it once.

        `corpus_fingerprint` (see `data.documents.fingerprint`), and the sums of `Fingerprint`,
        which do not know what the corpus is called.
        """
        return self._contents or self._read(lambda documents: documents)

    def cut(self, work: str, piece_bytes: int) -> None:
        """Writes the corpus in pieces into the folder of a job; they are its shards then.

        Raises:
          DataError: the corpus is empty or malformed, or two documents of one id differ.
        """
        sizes: dict[str, int] = {}
        self._read(lambda documents: _write_pieces(documents, work, piece_bytes, sizes))
        self._take(sizes)

    def cut_only(self, work: str, piece_bytes: int) -> None:
        """Like `cut`, for who compares ids by itself: nothing is held of any document."""
        sizes: dict[str, int] = {}
        for _ in _write_pieces(self.corpus.documents(), work, piece_bytes, sizes):
            pass
        self._take(sizes)

    def _take(self, sizes: dict[str, int]) -> None:
        pieces = [
            (Piece(file, Part(file.path, size=size)),)
            for file, size in zip(input_files(list(sizes)), sizes.values())
        ]
        self.shards = _shards(self.format, pieces)

    def _read(self, through: Callable[[Iterator[Document]], Iterator[Document]]) -> dict[str, str]:
        sums = Fingerprint()
        digest = fingerprint(through(self._documents(sums)))
        self._contents = {"corpus_fingerprint": digest, **sums.to_dict()}
        return self._contents

    def _documents(self, sums: Fingerprint) -> Iterator[Document]:
        seen: dict[str, bytes] = {}
        for document in self.corpus.documents():
            content = hashlib.blake2b(utf8(document.text), digest_size=8).digest()
            if seen.setdefault(document.id, content) != content:
                raise DataError(
                    f"Two documents of the corpus '{self.corpus.name}' have the id"
                    f" '{document.id}' and different texts, so one score cannot stand for both:"
                    " make the ids unique, or read the corpus without its id field (ids are then"
                    " made from the content)."
                )
            sums.add(document)
            yield document

    def describe(self) -> dict:
        return {
            **super().describe(),
            "corpus": self.corpus.describe(),
            "corpus_fingerprint": self.contents()["corpus_fingerprint"],
            "skipped": dict(self.corpus.skipped),
        }


def open_source(corpus: Corpus | str | os.PathLike | Sequence[str], shard_bytes: int) -> Source:
    """Finds the files and cuts them into shards, or takes a corpus as it is.

    Args:
      corpus: a corpus, or a file, glob or folder, or a list of these.
      shard_bytes: see `plan`.

    Raises:
      ConfigurationError: it is neither; the files are of several kinds; `shard_bytes` is below 1.
      DataError: a path names nothing that can be read.
    """
    if shard_bytes < 1:
        raise ConfigurationError(f"shard_bytes is {shard_bytes}: it must be at least 1.")
    if not isinstance(corpus, Corpus):
        if not isinstance(corpus, str | os.PathLike | Sequence):
            raise ConfigurationError(
                f"corpus is {corpus!r}: give a corpus, such as @text_corpus(), or paths of files."
            )
        found = find_corpus_files(corpus)
        if FORMATS[found.kind].has_records:
            found.say()
            files = input_files(found.paths)
            shards = plan(found.kind, files, shard_bytes)
            return Source(FORMATS[found.kind], fields_of(found.kind), files, shards)
        return CorpusSource(corpus_from_path(corpus))
    return CorpusSource(corpus)


def _write_pieces(
    documents: Iterator[Document], work: str, piece_bytes: int, sizes: dict[str, int]
) -> Iterator[Document]:
    """Yields what it wrote; `sizes` becomes path -> bytes of text of the pieces.

    Each piece is renamed into place once it is whole.
    """
    folder, temporary = os.path.join(work, _FOLDER), os.path.join(work, "tmp")
    tf.io.gfile.makedirs(folder)
    tf.io.gfile.makedirs(temporary)
    output: Lines | None = None
    try:
        for document in documents:
            if output is None:
                output = Lines(os.path.join(folder, f"{len(sizes):05d}.jsonl"), temporary)
                sizes[output.final] = 0
            record = {**to_record(document), "key": document.key}
            # lone surrogates as well: a rater is to see what the corpus said
            output.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "surrogatepass"))
            sizes[output.final] += utf8_size(document.text)
            if sizes[output.final] >= piece_bytes:
                output.close()
                output.publish()
                output = None
            yield document
    finally:
        if output is not None:
            output.close()
    if output is not None:
        output.publish()


def to_record(document: Document) -> dict:
    """id, text, source; corpus, count, level, damage, group, labels and turns where known."""
    record: dict = {"id": document.id, "text": document.text, "source": document.source}
    for name, usual in _USUAL.items():
        value = getattr(document, name)
        if value != usual:
            record[name] = float(value) if name == "level" else value
    if document.labels:
        record["labels"] = dict(document.labels)
    return record


class _Pieces(Format):
    """The format of the pieces of a corpus; nobody finds files of it.

    A whole record is what `to_record` says; it is written as JSON, with its score.
    """

    name, suffixes, unit, text_argument = _FOLDER, (), "line", "text"

    def read(self, part: Part, fields: dict, whole: bool) -> Iterator[Record]:
        with tf.io.gfile.GFile(part.path, "rb") as file:
            for line in file:
                record = json.loads(line.decode("utf-8", "surrogatepass"))
                del line  # before what is done with the document: it may be a large one
                key, labels = record.pop("key"), tuple(record.get("labels", {}).items())
                yield Record(Document(**{**record, "key": key, "labels": labels}), record)

    def output(self, path: str, temporary: str, like: str, fields: dict) -> Lines:
        return Lines(f"{path}.jsonl", temporary)
