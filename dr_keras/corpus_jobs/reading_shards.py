"""The first phase of preparing a corpus: an input shard becomes token ids and a table of documents.

No later phase reads a text. What is in memory is a step of texts and, of the table, some columns.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
import dataclasses
import json

import numpy as np
import pyarrow

from dr_keras.corpus_jobs.document_tables import document_columns
from dr_keras.corpus_jobs.identity import digest
from dr_keras.corpus_jobs.near_duplicates import NearDuplicates
from dr_keras.corpus_jobs.prepared_work import (
    READ_SCHEMA,
    Array,
    PreparingWork,
    Rows,
    loaded_tokenizer,
    published,
    table_path,
    tokens_path,
)
from dr_keras.corpus_jobs.runners import UnitProgress
from dr_keras.corpus_jobs.source import Shard
from dr_keras.corpus_jobs.work import abandon, steps
from dr_keras.data.corpora.base import Malformed
from dr_keras.data.documents import Document
from dr_keras.data.formats.base import Record
from dr_keras.data.formats.records import read_records
from dr_keras.data.formats.writing import Output
from dr_keras.data.prepared_manifest import token_dtype
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import levels_of
from dr_keras.errors import DataError

STEP_BYTES = 1 << 20
_ROWS_A_GROUP = 8192


@dataclasses.dataclass(frozen=True)
class InputShard:
    """A unit: a shard of the corpus, or of its target.

    Attributes:
      index: among all; those of the target come last.
      shard: what is read.
      corpus: name of the corpus of documents that name none.
      fields: how records are read, see `data.formats.records.fields_of`.
      is_piece: whether it was cut of a corpus that is no files.
    """

    index: int
    shard: Shard
    corpus: str
    fields: dict
    is_piece: bool

    @property
    def name(self) -> str:
        return f"{self.index:05d}"

    @property
    def size(self) -> int:
        return self.shard.size

    def place(self, piece: int, position: int) -> str:
        """Where a record lies, for people; its file is read up to there."""
        part, format = self.shard.pieces[piece].part, self.shard.format
        if self.is_piece:
            return f"document {position} of piece {self.index} of the corpus '{self.corpus}'"
        return f"{part.path}, {format.unit} {format.before(part) + position}"


@dataclasses.dataclass(frozen=True)
class Reading(PreparingWork):
    """Reads, hashes and tokenizes.

    Attributes:
      tokenizer: its config, as JSON.
      vocabulary_size: of it.
      near: what tells near-duplicates, or None.
    """

    tokenizer: str
    vocabulary_size: int
    near: NearDuplicates | None = None

    phase = "read"
    label = "reading"

    def load(self) -> Tokenizer:
        """The tokenizer, once in a process."""
        return loaded_tokenizer(self.output, self.tokenizer)

    def run(self, unit: InputShard, tool=None, progress: UnitProgress | None = None) -> dict:
        """Reads a shard.

        Returns:
          `documents`, `bytes` of text, `tokens`, `corpora` (names, as they first appear), `groups`
          (documents that have one), `skipped` (reason -> [records, piece and position of the
          first]), `piece` (SHA-256 of a piece), `files`.

        Raises:
          DataError: the input is damaged, or malformed where that stops.
        """
        shard = _ShardReading(unit, self, tool)
        try:
            for records in steps(shard.records(), STEP_BYTES):
                shard.take([record.document for record in records])
                if progress is not None:
                    progress(sum(len(record.document.text) for record in records))
            return self.finish(unit, shard.facts())
        except BaseException:
            abandon(shard.outputs)
            raise


class _ShardReading:
    """The open files and the counts of a shard that is being read."""

    def __init__(self, unit: InputShard, work: Reading, tokenizer: Tokenizer):
        self._unit, self._work, self._tokenizer = unit, work, tokenizer
        self._skipped: dict[str, list[int]] = {}
        self._places: list[tuple[int, int]] = []
        self._corpora: dict[str, None] = {}
        self._sums: Counter[str] = Counter()
        self._rows: list[pyarrow.Table] = []
        self.outputs: list[Output] = []
        try:
            dtype = token_dtype(work.vocabulary_size)
            self._tokens = Array(tokens_path(work.output, unit.index), work.temporary, dtype)
            self.outputs.append(self._tokens)
            schema = READ_SCHEMA
            if work.near is not None:
                schema = schema.append(pyarrow.field("bands", work.near.column([]).type))
            path = table_path(work.output, unit.index)
            self._table = Rows(path, work.temporary, schema)
            self.outputs.append(self._table)
        except BaseException:
            abandon(self.outputs)
            raise

    def records(self) -> Iterator[Record]:
        shard = self._unit.shard
        for number, piece in enumerate(shard.pieces):
            items = read_records(shard.format, piece.part, self._unit.fields, whole=False)
            for position, item in enumerate(items, 1):
                if isinstance(item, Record):
                    self._places.append((number, position))
                    yield item
                elif isinstance(item, Malformed):
                    self._skipped.setdefault(item.reason, [0, number, position])[0] += 1

    def take(self, documents: Sequence[Document]) -> None:
        for document, place in zip(documents, self._places):
            if document.turns is not None:
                raise DataError(
                    f"{self._unit.place(*place)}: the conversation {document.id!r} cannot be"
                    " prepared: a prepared corpus does not say which tokens are of responses. Read"
                    " conversations by text_data, in memory."
                )
        texts = [document.text for document in documents]
        encoded = self._tokenizer.encode(texts)
        self._tokens.write(np.concatenate(encoded))
        places, self._places = self._places[: len(documents)], self._places[len(documents) :]
        corpora = [document.corpus or self._unit.corpus for document in documents]
        columns: dict[str, object] = {
            **document_columns(documents),
            "piece": [piece for piece, _ in places],
            "position": [position for _, position in places],
            "source": [document.source for document in documents],
            "corpus": corpora,
            "tokens": [len(ids) for ids in encoded],
            "level": levels_of(documents),
            "damage": [document.damage for document in documents],
        }
        if self._work.near is not None:
            columns["bands"] = self._work.near.column(texts)
        schema = self._table.schema
        try:
            arrays = [pyarrow.array(columns[field.name], field.type) for field in schema]
        except UnicodeEncodeError as error:  # texts may hold lone surrogates, and are hashed
            raise DataError(
                f"{self._unit.place(*places[0])}, or a document soon after it: its id, source or"
                f" group is {error.object!r}, which is no Unicode; name it otherwise"
            ) from error
        table = pyarrow.Table.from_arrays(arrays, schema=schema)
        self._rows.append(table)
        self._corpora.update(dict.fromkeys(corpora))
        self._sums["documents"] += len(documents)
        self._sums["bytes"] += sum(table["bytes"].to_pylist())
        self._sums["tokens"] += sum(map(len, encoded))
        self._sums["groups"] += sum(bool(document.group) for document in documents)
        if sum(map(len, self._rows)) >= _ROWS_A_GROUP:
            self._write_rows()

    def _write_rows(self) -> None:
        if self._rows:
            self._table.write(pyarrow.concat_tables(self._rows))
        self._rows = []

    def facts(self) -> dict:
        self._write_rows()
        files = published(self.outputs, self._work.output)
        piece = self._unit.shard.pieces[0].file
        return {
            **{name: self._sums[name] for name in ("documents", "bytes", "tokens", "groups")},
            "corpora": list(self._corpora),
            "skipped": self._skipped,
            "piece": digest(piece) if self._unit.is_piece else None,
            "files": files,
        }


def described(tokenizer: Tokenizer) -> str:
    """The config of a tokenizer as workers are told it."""
    return json.dumps(tokenizer.config(), sort_keys=True)
