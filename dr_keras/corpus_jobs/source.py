"""What a job reads, in shards: files of records, or any corpus.

Files are read where they lie, see `plan`. A corpus that gin builds (text files, TFDS, a mixture, a
list in memory) has no places to begin in its middle, and other processes cannot be sent it: it is
read once, in order, and cut into pieces of JSON lines below the job's folder, which are shards like
those of files and go with the folder when the job is done. That costs the disk one copy of the
text. A job that goes on reads the corpus again, and its shards count where the pieces are, byte for
byte, what they were.
"""

from collections.abc import Callable, Iterator, Sequence
import hashlib
import json
import os

import tensorflow as tf

from dr_keras.corpus_jobs.identity import Fingerprint, InputFile, input_files
from dr_keras.corpus_jobs.plan import Piece, Shard, plan
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document, fingerprint, utf8, utf8_size
from dr_keras.data.formats.base import FORMATS, Format, Part, Record
from dr_keras.data.formats.own_outputs import paths_of
from dr_keras.data.formats.records import fields_of, identifying
from dr_keras.data.formats.writing import Lines
from dr_keras.data.prepare import corpus_from_path, find_corpus_files
from dr_keras.errors import ConfigurationError, DataError

_FOLDER = "documents"  # of the pieces, below that of the job
# What is left out of a piece where a document has it so.
_USUAL = {"corpus": "", "count": 1, "level": None, "damage": None}


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
        pieces = [
            Piece(file, Part(file.path, size=size))
            for file, size in zip(input_files(list(sizes)), sizes.values())
        ]
        count = len(pieces)
        self.shards = [Shard(n, count, self.format, (piece,)) for n, piece in enumerate(pieces)]

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
        corpus = corpus_from_path(corpus)
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
    """id, text, source, and corpus, count, level and damage where they are known."""
    record: dict = {"id": document.id, "text": document.text, "source": document.source}
    for name, usual in _USUAL.items():
        value = getattr(document, name)
        if value != usual:
            record[name] = float(value) if name == "level" else value
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
                yield Record(Document(key=record.pop("key"), **record), record)

    def output(self, path: str, temporary: str, like: str, fields: dict) -> Lines:
        return Lines(f"{path}.jsonl", temporary)
