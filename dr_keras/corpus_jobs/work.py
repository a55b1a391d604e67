"""The work on one shard: read, score, decide, write, and only then say that it is done.

A shard is done when its facts have their name, `<work>/<phase>/<shard>.json`: they are written
after the shard's files were renamed into place, and name them. Whoever does a shard a second time
writes the same bytes, so a retried or repeated task does no harm.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
import dataclasses
import functools
import itertools
import os
from typing import Any, TypeVar

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.corpus_jobs.identity import Fingerprint, digest
from dr_keras.corpus_jobs.source import Shard
from dr_keras.data.corpora.base import Malformed
from dr_keras.data.documents import Document, utf8_size
from dr_keras.data.formats.base import Record
from dr_keras.data.formats.reading import SeekableFile
from dr_keras.data.formats.records import read_records
from dr_keras.data.formats.writing import GFileWriter, Lines, Output
from dr_keras.data.text_groups import text_groups
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import audit, score_files
from dr_keras.rating.quotas import BySource
from dr_keras.rating.rules import Deciding, reason_to_drop
from dr_keras.rating.score_files import number
from dr_keras.serving.window_scoring import WindowScoring

SCORED, FILTERED = "scored", "filtered"
# a score file's rows, and 64 bits of the content, by which copies are told from other documents
PART_SCHEMA = score_files.SCHEMA.append(pyarrow.field("content", pyarrow.uint64()))
_HELD = 64  # times `step_bytes`: of records that are mostly images, say, beside their texts
TALLY = ("documents", "kept", "dropped", "bytes", "kept_bytes")
# documents -> score, percentile, windows, see `score_texts`
Scorer = Callable[[list[Document]], dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Work:
    """What to do with every shard; can be pickled and sent to workers.

    Attributes:
      folder: where kept and dropped records go; unused while `deciding` is None.
      work: folder of what the job needs until it is finished.
      fields: see `data.formats.records.fields_of`.
      scoring: whether scores are to be made; else they are those of the phase "scored".
      deciding: how to decide; None only scores.
      rater: path of the rater that workers load, or a function that makes it; None where the
        scorer is at hand.
      window_scoring: how windows are scored, settled.
      step_bytes: see `scoring.score_corpus`.
      trusted: how workers load the rater, see `load_rater`.
    """

    folder: str
    work: str
    fields: dict
    scoring: bool
    deciding: Deciding | BySource | None
    rater: str | Callable | None = None
    window_scoring: WindowScoring = WindowScoring()
    step_bytes: int = 1 << 20
    trusted: bool = False

    @property
    def phase(self) -> str:
        return SCORED if self.deciding is None else FILTERED

    @property
    def label(self) -> str:
        """What the phase is called before users."""
        return "scoring" if self.deciding is None else "filtering"

    @property
    def where(self) -> str:
        """The folder of what is written, for messages."""
        return self.folder or self.work

    @property
    def temporary(self) -> str:
        return os.path.join(self.work, "tmp")

    def part_path(self, shard: Shard) -> str:
        """The scores of a shard."""
        return os.path.join(self.work, "scores", f"{shard.name}.parquet")

    def errors_path(self, shard: Shard) -> str:
        return os.path.join(self.work, "errors", f"{shard.name}.jsonl")

    def facts_path(self, shard: Shard) -> str:
        return os.path.join(self.work, self.phase, f"{shard.name}.json")

    def output_path(self, name: str) -> str:
        """Where an output lies that a shard's facts name: those know no folders, which may move."""
        return os.path.join(self.work if "/" in name else self.folder, name)

    def output_name(self, path: str) -> str:
        """What a shard's facts call an output."""
        in_work = path.startswith(self.work)
        return path.removeprefix(self.work).lstrip("/") if in_work else os.path.basename(path)

    def make_folders(self) -> None:
        for path in (self.temporary, *(self._below(n) for n in ("scores", "errors", self.phase))):
            tf.io.gfile.makedirs(path)
        if self.deciding is not None:
            tf.io.gfile.makedirs(self.folder)

    def _below(self, name: str) -> str:
        return os.path.join(self.work, name)

    def check_workers(self) -> None:
        """Raises ConfigurationError where other processes would have no rater to score with."""
        if self.scoring and self.rater is None:
            raise ConfigurationError(
                "Several workers need a rater that each of them can load: name an exported rater,"
                " or use one worker."
            )

    def load(self) -> Scorer | None:
        """The scorer of the rater at `rater`, which is loaded once in a process."""
        if not self.scoring:
            return None
        return scorer_for(loaded(self.rater, self.trusted), self.window_scoring)

    def run(
        self, unit: Shard, tool: Scorer | None = None, progress: Callable[[int], None] | None = None
    ) -> dict:
        """See `run_shard`."""
        return run_shard(unit, self, tool, progress)

    def counters(self, facts: dict) -> dict[str, int]:
        """Documents, kept, dropped and errors, of all and by source."""
        found = {"shards": 1, "errors": sum(facts["errors"].values())}
        for name in ("documents", "kept", "dropped"):
            found[name] = facts[name]
            for source, tally in facts["sources"].items():
                found[f"{name}: {source}"] = tally[name]
        return found


def run_shard(
    shard: Shard,
    work: Work,
    scorer: Scorer | None = None,
    progress: Callable[[int], None] | None = None,
) -> dict:
    """Does the work on one shard and returns its facts, which are also on disk.

    Args:
      shard: which.
      work: what to do.
      scorer: needed where `work.scoring`.
      progress: called with bytes of input done since the last call, about.

    Returns:
      `documents`, `positions` (lines, records or rows of each piece), `records` (of each piece
      [documents, malformed]), `bytes`, `windows`, `content`
      (see `Fingerprint`), `inputs` (name -> SHA-256 of the file, None where another shard has it),
      `errors` (reason -> count), `sources` (source -> tally), `groups` (see `rating.audit`),
      `files` (name -> records and bytes).

    Raises:
      DataError: the input is damaged, or is not what it was when it was scored.
    """
    work.make_folders()
    job = _ShardRun(shard, work)
    try:
        for records in steps(job.documents(), work.step_bytes):
            job.take(records, scorer)
            if progress is not None:
                progress(sum(_size(record) for record in records))
        return job.finish()
    except BaseException:
        job.abandon()
        raise


_Opened = TypeVar("_Opened", bound=Output)


class _ShardRun:
    """The open files and the counts of a shard that is being done."""

    def __init__(self, shard: Shard, work: Work):
        self._shard, self._work = shard, work
        self._positions = [0] * len(shard.pieces)
        self._documents = [0] * len(shard.pieces)
        self._malformed = [0] * len(shard.pieces)
        self._digests: dict[str, str | None] = {}
        self._row = self._windows = 0
        self._reasons: Counter[str] = Counter()
        self._sources: dict[str, dict[str, int]] = {}
        self._groups: audit.Tallies = {}
        self._fingerprint = Fingerprint()
        self._outputs: list[Output] = []
        try:
            self._errors = self._open(Lines(work.errors_path(shard), work.temporary))
            if work.scoring:
                self._part = self._open(_PartWriter(work.part_path(shard), work.temporary))
            else:
                self._scores = read_part(work.part_path(shard))
            if work.deciding is not None:
                path = os.path.join(work.folder, f"dropped-{shard.name}.jsonl")
                self._dropped = self._open(Lines(path, work.temporary))
                path = os.path.join(work.folder, f"kept-{shard.name}")
                kept: Any = shard.format.output(path, work.temporary, shard.path, work.fields)
                self._kept = self._open(kept)
        except BaseException:
            self.abandon()
            raise

    def _open(self, output: _Opened) -> _Opened:
        self._outputs.append(output)
        return output

    def documents(self) -> Iterator[Record]:
        for place, piece in enumerate(self._shard.pieces):
            known = self._work.scoring and piece.first_of_file
            self._digests[piece.name] = digest(piece.file) if known else None
            for item in read_records(self._shard.format, piece.part, self._work.fields):
                self._positions[place] += 1
                if isinstance(item, Record):
                    self._documents[place] += 1
                    yield item
                elif isinstance(item, Malformed):
                    self._reasons[item.reason] += 1
                    self._malformed[place] += 1
                    # becomes file and position in it when all shards are known
                    record = self._documents[place] + self._malformed[place]
                    error = {"piece": place, "position": self._positions[place], "record": record}
                    what = {"reason": item.reason, "detail": item.detail}
                    self._errors.write_json({**error, **what})

    def take(self, records: list[Record], scorer: Scorer | None) -> None:
        documents = [record.document for record in records]
        ids = [document.id for document in documents]
        if self._work.scoring:
            assert scorer is not None
            columns = scorer(documents)
            self._part.write_scores(documents, columns)
            score = columns["score"]
            self._windows += int(np.sum(columns["windows"]))
        else:
            score = self._stored(ids)
        for document in documents:
            self._fingerprint.add(document)
        keep = None
        if self._work.deciding is not None:
            sources = [document.source for document in documents]
            decisions = self._work.deciding(ids, score, sources)
            keep = decisions.keep.tolist()
            for record, *row in zip(
                records, keep, score, decisions.percentile, decisions.probability
            ):
                self._write(record, *row)
        self._tally(documents, keep)
        audit.add(self._groups, audit.tally(groups_of(documents), score, keep))

    def _write(self, record: Record, stays: bool, score, percentile, probability) -> None:
        rating = {"score": number(score), "percentile": number(percentile)}
        if not stays:
            about = {"id": record.document.id, "source": record.document.source}
            reason = reason_to_drop(score, probability)
            self._dropped.write_json({**about, **rating, "reason": reason})
        elif isinstance(record.whole, dict):  # of a corpus that is no files
            self._kept.write_json({**record.whole, **rating})
        else:
            self._kept.write(record.whole)

    def _tally(self, documents: list[Document], keep: list[bool] | None) -> None:
        for row, document in enumerate(documents):
            tally = self._sources.setdefault(document.source, dict.fromkeys(TALLY, 0))
            size = utf8_size(document.text)
            tally["documents"] += 1
            tally["bytes"] += size
            if keep is not None:
                tally["kept" if keep[row] else "dropped"] += 1
                tally["kept_bytes"] += size * keep[row]

    def _stored(self, ids: list[str]) -> np.ndarray:
        rows = self._scores.slice(self._row, len(ids))
        known = rows.column("id").to_pylist()
        if known != ids:
            same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(known, ids))
            raise DataError(self._changed(self._row + len(list(same))))
        self._row += len(ids)
        return rows.column("score").to_numpy().astype(np.float32)

    def _changed(self, row: int) -> str:
        ends = list(itertools.accumulate(self._documents))
        piece = self._shard.pieces[min(int(np.searchsorted(ends, row, "right")), len(ends) - 1)]
        return (
            f"{piece.path} is not what it was when it was scored: leave it alone while it is"
            " filtered, and start over (--fresh)."
        )

    def finish(self) -> dict:
        if not self._work.scoring and self._row != self._scores.num_rows:
            raise DataError(self._changed(self._row))
        for output in self._outputs:
            output.close()
        files = {self._work.output_name(output.final): output.publish() for output in self._outputs}
        totals = {name: sum(tally[name] for tally in self._sources.values()) for name in TALLY}
        facts = {
            **totals,
            "positions": self._positions,
            "records": list(zip(self._documents, self._malformed)),
            "windows": self._windows,
            "content": self._fingerprint.to_dict(),
            "inputs": self._digests,
            "errors": self._reasons,
            "sources": self._sources,
            "groups": self._groups,
            "files": files,
        }
        score_files.write_json(self._work.facts_path(self._shard), facts)
        return facts

    def abandon(self) -> None:
        abandon(self._outputs)


def groups_of(documents: Sequence[Document]) -> dict[str, list[str]]:
    """Dimension of `rating.audit` -> group of every document; sources are counted by themselves."""
    labels = [dict(document.labels) for document in documents]
    names = dict.fromkeys(name for of_one in labels for name in of_one)
    groups = text_groups([document.text for document in documents])
    if any(document.damage for document in documents):
        groups["damage"] = [document.damage or audit.UNKNOWN for document in documents]
    return groups | {n: [of_one.get(n, audit.UNKNOWN) for of_one in labels] for n in names}


def counted_groups(held_out: Iterable[Document], at_most: int = 10_000) -> dict:
    """Documents of a held-out set by dimension and group, of the first `at_most`."""
    found = list(itertools.islice(held_out, at_most))
    groups = groups_of(found) | {"source": [document.source for document in found]}
    return audit.counted(groups)


def held_out_of(rater: Callable | None) -> dict | None:
    """What an exported rater says of the set that it was made for: dimension -> group -> count."""
    training = getattr(rater, "metadata", {}).get("training", {})
    found = training.get("held_out")
    return found if audit.are_counts(found) else None


def abandon(outputs: Sequence[Output]) -> None:
    """Closes and removes files that are not to be."""
    for output in outputs:
        for step in (output.close, functools.partial(tf.io.gfile.remove, output.path)):
            try:
                step()
            except (tf.errors.OpError, OSError, ValueError, pyarrow.ArrowException):
                pass  # what is left lies in the folder of temporary files


def _size(record: Record) -> int:
    return len(record.whole if isinstance(record.whole, bytes) else record.document.text)


class _PartWriter(Output):
    """The scores of a shard, in `PART_SCHEMA`, and `percentiles` of several raters."""

    def __init__(self, final: str, temporary: str):
        super().__init__(final, temporary)
        self._file = GFileWriter(self.path)
        self._tables: pyarrow.parquet.ParquetWriter | None = None

    def write_scores(self, documents: list[Document], columns: dict) -> None:
        ids = [document.id for document in documents]
        sources = [document.source for document in documents]
        content = [int(document.key[:16], 16) for document in documents]
        table = score_files.score_table(ids, sources, columns)
        field = PART_SCHEMA.field("content")
        table = table.append_column(field, pyarrow.array(content, field.type))
        self._opened(table.schema).write_table(table)
        self.records += len(ids)

    def _opened(self, schema: pyarrow.Schema) -> pyarrow.parquet.ParquetWriter:
        if self._tables is None:  # the first scores show whether they are several raters'
            self._tables = pyarrow.parquet.ParquetWriter(self._file, schema, compression="zstd")
        return self._tables

    def close(self) -> None:
        self._opened(PART_SCHEMA).close()
        self._file.close()


def read_part(path: str, columns: list[str] | None = None) -> pyarrow.Table:
    """The scores of a shard, null as NaN in `to_numpy`."""
    with SeekableFile(path) as raw:
        return pyarrow.parquet.ParquetFile(raw).read(columns)


def steps(records: Iterator[Record], step_bytes: int) -> Iterator[list[Record]]:
    """Records together until they hold so much text, or far more of what is kept with it."""
    size = held = 0
    step: list[Record] = []
    for record in itertools.chain(records, (None,)):
        if record is not None:
            step.append(record)
            size += len(record.document.text)
            held += len(record.whole) if isinstance(record.whole, bytes) else 0
        if step and (record is None or size >= step_bytes or held >= _HELD * step_bytes):
            yield step
            step, size, held = [], 0, 0


def scorer_for(rater: Callable, scoring: WindowScoring) -> Scorer:
    """Scores documents by a rater."""
    return functools.partial(score_documents, rater, scoring=scoring)


@functools.lru_cache(maxsize=1)
def loaded(path: str | Callable, trusted: bool) -> Callable:
    """The rater at a path, or that a function makes, which is loaded once in a process."""
    if callable(path):
        return path()
    from dr_keras.serving.loading import load_rater

    return load_rater(path, trusted=trusted)


def score_documents(
    rater: Callable, documents: list[Document], scoring: WindowScoring | None = None
) -> dict[str, np.ndarray]:
    """The scores of documents, as `score_texts` gives them."""
    texts = [document.text for document in documents]
    try:
        return score_texts(rater, texts, scoring)
    except DataError as error:
        raise DataError(f"{error} The first document is '{documents[0].id}'.") from error


def score_texts(
    rater: Callable, texts: Sequence[str | bytes], scoring: WindowScoring | None = None
) -> dict[str, np.ndarray]:
    """`score` and `percentile` float32 [N], `windows` int32 [N]; what the rater lacks is NaN or 1.

    Of several raters also `percentiles` float32 [N, R].

    Raises:
      DataError: the rater does not give one score a text.
    """
    given = getattr(rater, "score_texts", None)
    result = rater(texts) if given is None else given(texts, scoring)
    if not isinstance(result, dict):
        result = {"score": result}
    score = np.asarray(result["score"], np.float32)
    if score.shape != (len(texts),):
        raise DataError(
            f"The rater gave scores of shape {score.shape} for {len(texts)} texts: it has to give"
            " one score a text."
        )
    missing = np.full(len(texts), np.nan, np.float32)
    found = {
        "score": score,
        "percentile": np.asarray(result.get("percentile", missing), np.float32),
        "windows": np.asarray(result.get("windows", np.ones(len(texts))), np.int32),
    }
    if score_files.EACH in result:
        found[score_files.EACH] = np.asarray(result[score_files.EACH], np.float32)
    return found
