"""Score files: what a rater said about each document of a corpus.

Parquet where the name ends in .parquet, else JSON lines (gzipped where it ends in .gz); one row a
document in the corpus' order:

    id          string   the document's id
    source      string   its source
    score       float32, or null where the rater gave none (NaN)
    percentile  float32  under the rater's own reference distribution, in [0, 1], or null where it
                         has none
    windows     int32    how many windows the score is a mean over
    percentiles list     only where several raters scored: the percentile under each, float32, null
                         where it was not asked

Beside it, `<file>.manifest.json` says which corpus and which rater (fingerprints), how many
documents, and the rater's reference distribution. Both are written under temporary names and
renamed, the manifest last: its presence means that the scores are complete. Until then there is a
folder `<file>.unfinished`. A threshold can so change without scoring again.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import dataclasses
import gzip
import itertools
import json
import math
import os
import zlib

import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.formats.own_outputs import MANIFEST_SUFFIX, UNFINISHED_SUFFIX
from dr_keras.data.formats.reading import SeekableFile
from dr_keras.data.formats.writing import GFileWriter, compressed_writer
from dr_keras.errors import DataError
from dr_keras.system import whole_files

PARQUET_SUFFIXES = (".parquet", ".pq")
COLUMNS = ("id", "source", "score", "percentile", "windows")
SCHEMA = pyarrow.schema(
    [
        ("id", pyarrow.string()),
        ("source", pyarrow.string()),
        ("score", pyarrow.float32()),
        ("percentile", pyarrow.float32()),
        ("windows", pyarrow.int32()),
    ]
)
EACH = "percentiles"
_ROWS = 1 << 16  # of a score file in memory at a time


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The content of a score file; row i of each belongs to document i.

    Attributes:
      ids, sources: lists of N strings.
      score, percentile: float32 [N], NaN where the file has null.
      windows: int32 [N].
      manifest: the facts beside the file, or None where there are none.
      percentiles: float32 [N, R] of several raters, NaN where one was not asked; None of one.
    """

    ids: list[str]
    sources: list[str]
    score: np.ndarray
    percentile: np.ndarray
    windows: np.ndarray
    manifest: dict | None = None
    percentiles: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> dict[str, int]:
        """Id -> row; documents that share an id (exact duplicates) share the first row."""
        rows: dict[str, int] = {}
        for row, id in enumerate(self.ids):
            rows.setdefault(id, row)
        return rows


class ScoreWriter:
    """Writes a score file; a context manager that leaves no half-written file.

    The file is marked as unfinished until `write_manifest` has been called for it.

    Args:
      path: where the file is to be; its folder is made where it is missing. The suffix says which
        format it gets.
      several: whether there are `percentiles`, of several raters.
    """

    def __init__(self, path: str, several: bool = False):
        self.path = os.fspath(path)
        self._schema = schema(several)
        self._parquet = is_parquet(self.path)
        self._pending: list[pyarrow.Table] = []

    def __enter__(self) -> "ScoreWriter":
        with contextlib.ExitStack() as stack:
            raw = GFileWriter(stack.enter_context(whole_files.replacing(self.path)))
            self._mark(stack)
            stack.push(self._forget_manifest)
            stack.callback(raw.close)
            if self._parquet:
                self._file = pyarrow.parquet.ParquetWriter(raw, self._schema, compression="zstd")
            else:
                gz = self.path.lower().endswith(".gz")
                self._file = compressed_writer(raw, "gzip" if gz else "")
            stack.push(self._finish)
            self._exit = stack.pop_all()
        return self

    def _mark(self, stack: contextlib.ExitStack) -> None:
        mark = self.path + UNFINISHED_SUFFIX
        if tf.io.gfile.exists(mark):  # it is of a job that goes on
            return
        tf.io.gfile.makedirs(mark)
        stack.push(lambda kind, *_: tf.io.gfile.rmtree(mark) if kind is not None else None)

    def __exit__(self, *raised) -> None:
        self._exit.__exit__(*raised)

    def _finish(self, kind, *_) -> None:
        try:
            if kind is None:
                self._flush()
            self._file.close()
        except Exception:
            if kind is None:  # else the exception before it says more
                raise

    def _forget_manifest(self, kind, *_) -> None:
        # an old manifest must not vouch for the new scores
        if kind is None and tf.io.gfile.exists(self.path + MANIFEST_SUFFIX):
            tf.io.gfile.remove(self.path + MANIFEST_SUFFIX)

    def write(self, ids: Sequence[str], sources: Sequence[str], columns: dict) -> None:
        """Adds documents; `columns` holds score, percentile and windows, each [n], and of several
        raters `percentiles` [n, R]."""
        if self._parquet:
            self._pending.append(score_table(ids, sources, columns))
            if sum(table.num_rows for table in self._pending) >= _ROWS:
                self._flush()
            return
        lines: list[str] = []
        each = columns.get(EACH) if EACH in self._schema.names else None
        for row in zip(ids, sources, columns["score"], columns["percentile"], columns["windows"]):
            id, source, score, percentile, windows = row
            values = (id, source, number(score), number(percentile), int(windows))
            record: dict = dict(zip(COLUMNS, values))
            if each is not None:
                record[EACH] = [number(value) for value in each[len(lines)]]
            lines.append(json.dumps(record) + "\n")
        self._file.write("".join(lines).encode())

    def _flush(self) -> None:
        if self._pending:
            self._file.write_table(pyarrow.concat_tables(self._pending))
        self._pending = []


def schema(several: bool) -> pyarrow.Schema:
    """Of a score file, by one rater or by several."""
    return (
        SCHEMA.append(pyarrow.field(EACH, pyarrow.list_(pyarrow.float32()))) if several else SCHEMA
    )


def is_parquet(path: str) -> bool:
    """Whether a score file of this name is Parquet, and not JSON lines."""
    return os.fspath(path).lower().endswith(PARQUET_SUFFIXES)


def score_table(ids: Sequence[str], sources: Sequence[str], columns: dict) -> pyarrow.Table:
    """Rows of a score file as a table, see `schema`; NaN becomes null."""
    arrays = [
        pyarrow.array(ids, pyarrow.string()),
        pyarrow.array(sources, pyarrow.string()),
        _nullable(columns["score"]),
        _nullable(columns["percentile"]),
        pyarrow.array(np.asarray(columns["windows"], np.int32)),
    ]
    if EACH in columns:
        values = np.asarray(columns[EACH], np.float32)
        ends = np.arange(len(values) + 1, dtype=np.int32) * values.shape[1]
        arrays.append(pyarrow.ListArray.from_arrays(ends, _nullable(values.ravel())))
    return pyarrow.Table.from_arrays(arrays, schema=schema(EACH in columns))


def _nullable(values) -> pyarrow.Array:
    values = np.asarray(values, np.float32)
    return pyarrow.array(values, mask=~np.isfinite(values))


def number(value) -> float | None:
    """A float32 as the shortest decimal that JSON gives back exactly; None where not finite."""
    return float(str(np.float32(value))) if math.isfinite(value) else None


def write_json(path: str, content: dict) -> None:
    """Writes JSON under a temporary name and renames it."""
    whole_files.write_text(path, json.dumps(content, indent=1) + "\n")


def write_manifest(path: str, manifest: dict) -> None:
    """Says that the score file at `path` is complete, and what it is about."""
    write_json(path + MANIFEST_SUFFIX, manifest)
    if tf.io.gfile.exists(path + UNFINISHED_SUFFIX):
        tf.io.gfile.rmtree(path + UNFINISHED_SUFFIX)


def read_manifest(path: str) -> dict | None:
    """The manifest beside a score file, or None. Raises DataError where it is damaged."""
    return read_json(os.fspath(path) + MANIFEST_SUFFIX, "score the corpus again")


def read_json(path: str, remedy: str = "remove it") -> dict | None:
    """What a JSON file holds, or None where there is none. Raises DataError where it is damaged."""
    if not tf.io.gfile.exists(path):
        return None
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            return json.loads(file.read())
    except ValueError as error:
        raise DataError(f"{path} is not JSON ({error}): {remedy}.") from error


def read_scores(path: str) -> Scores:
    """Reads a score file.

    Raises:
      DataError: it is missing, a line is not what it should be, or lines are missing.
    """
    chunks = list(iterate_scores(path))
    return Scores(
        [id for chunk in chunks for id in chunk.ids],
        [source for chunk in chunks for source in chunk.sources],
        np.concatenate([np.zeros(0, np.float32), *(chunk.score for chunk in chunks)]),
        np.concatenate([np.zeros(0, np.float32), *(chunk.percentile for chunk in chunks)]),
        np.concatenate([np.zeros(0, np.int32), *(chunk.windows for chunk in chunks)]),
        read_manifest(path),
        _joined([chunk.percentiles for chunk in chunks]),
    )


def _joined(parts: list[np.ndarray | None]) -> np.ndarray | None:
    known = [part for part in parts if part is not None]
    return np.concatenate(known) if known and len(known) == len(parts) else None


def iterate_scores(path: str) -> Iterator[Scores]:
    """Reads a score file piece by piece, in its order; the pieces carry no manifest.

    Raises:
      DataError: as `read_scores`; that rows are missing shows at the end.
    """
    path = os.fspath(path)
    if not tf.io.gfile.exists(path):
        raise DataError(f"{path} does not exist: name a file that score_corpus wrote.")
    rows = 0
    for chunk in _chunks(path):
        rows += len(chunk)
        yield chunk
    manifest = read_manifest(path)
    if manifest is not None and manifest.get("documents") != rows:
        raise DataError(
            f"{path} has {rows} lines, but its manifest says {manifest.get('documents')} documents:"
            " the copy was cut short; copy it or score the corpus again."
        )


def _chunks(path: str) -> Iterator[Scores]:
    """By what the file is, whatever its name."""
    with tf.io.gfile.GFile(path, "rb") as file:
        first = file.read(4)
    if is_parquet(path) or first == b"PAR1":
        return _parquet_chunks(path)
    return _json_chunks(path, gzipped=first.startswith(b"\x1f\x8b"))


def _json_chunks(path: str, gzipped: bool) -> Iterator[Scores]:
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            lines = enumerate(gzip.GzipFile(fileobj=file) if gzipped else file, start=1)
            while rows := [
                _parse(line, f"{path}, line {number}")
                for number, line in itertools.islice(lines, _ROWS)
            ]:
                ids, sources, score, percentile, windows, each = zip(*rows)
                yield Scores(
                    list(ids),
                    list(sources),
                    _floats(score),
                    _floats(percentile),
                    np.array(windows, np.int32),
                    percentiles=None if None in each else np.array([_floats(row) for row in each]),
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: cut short or damaged ({error}); copy it or score again."
        ) from error


def _parquet_chunks(path: str) -> Iterator[Scores]:
    try:
        with SeekableFile(path) as raw:
            file = pyarrow.parquet.ParquetFile(raw)
            missing = {"id", "score"} - set(file.schema_arrow.names)
            if missing:
                raise DataError(f"{path}: the column {sorted(missing)} is missing; score again.")
            names = (*COLUMNS, EACH)
            present = [name for name in names if name in file.schema_arrow.names]
            for batch in file.iter_batches(_ROWS, columns=present):
                yield _from_table(pyarrow.Table.from_batches([batch]))
    except (pyarrow.ArrowException, OSError, tf.errors.OpError) as error:
        raise DataError(
            f"{path}: cut short, damaged, or not a Parquet file ({error}); copy it or score again."
        ) from error


def _from_table(table: pyarrow.Table) -> Scores:
    percentiles = None
    if EACH in table.column_names:
        flat = table.column(EACH).combine_chunks().flatten().to_numpy(False)
        percentiles = flat.astype(np.float32).reshape(table.num_rows, -1)
    for name, value in {"source": "", "percentile": math.nan, "windows": 1}.items():
        if name not in table.column_names:
            absent = pyarrow.scalar(value, SCHEMA.field(name).type)
            table = table.append_column(name, pyarrow.repeat(absent, table.num_rows))
    ids, sources, score, percentile, windows = table.select(COLUMNS).cast(SCHEMA).columns
    return Scores(
        ids.to_pylist(),
        sources.to_pylist(),
        score.to_numpy(),
        percentile.to_numpy(),
        windows.to_numpy(),
        percentiles=percentiles,
    )


def _parse(line: bytes, place: str) -> tuple:
    try:
        record = json.loads(line)
        score, percentile = record["score"], record.get("percentile")
        for value in (score, percentile):
            if value is not None and not isinstance(value, (int, float)):
                raise ValueError(f"{value!r} is no number")
        source, windows = record.get("source", ""), int(record.get("windows", 1))
        return str(record["id"]), str(source), score, percentile, windows, record.get(EACH)
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{place}: not a line of a score file ({error}); score again.") from error
    except KeyError as error:
        raise DataError(f"{place}: the field {error} is missing; score again.") from error


def _floats(values: Iterable[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], np.float32)
