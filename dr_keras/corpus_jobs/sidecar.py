"""Scores of a corpus in files of its own shape: one beside each of its files, row for row.

Tools that read a corpus and what is known of it side by side (Dolma's attributes, DataFrame and
Arrow readers) want *co-partitioned* files: the same names, the same rows in the same order. So

    <folder>/web/part-00007.parquet   of web/part-00007.jsonl.zst: id, score and percentile (string,
                                      float32, float32), a row for each record; null where there is
                                      none, and a row of nulls for a record that could not be read
    <folder>/manifest.json            the score file, the rater and each file's rows; in folders
                                      below it, only what they are

is cut from a score file and its manifest, without a look at the corpus. The folder has its name
once all of it is there. It may lie within the corpus, where it is passed over.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
import itertools
import json
import os

import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.formats.own_outputs import (
    ERRORS_SUFFIX,
    JOB,
    MANIFEST,
    SIDECAR,
    UNFINISHED_SUFFIX,
)  # fmt: skip
from dr_keras.data.formats.reading import bare
from dr_keras.data.formats.writing import GFileWriter
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating import score_files
from dr_keras.system import locks

SCHEMA = pyarrow.schema([score_files.SCHEMA.field(n) for n in ("id", "score", "percentile")])


@locks.alone_at("folder", "writing of scores by file", DataError, is_file=True)
def write_sidecar(score_file: str, folder: str) -> dict:
    """Cuts a score file into one Parquet file for each file of the corpus.

    What is there already, of the same scores, is left as it is.

    Args:
      score_file: what `score_corpus` wrote of files.
      folder: where to; made.

    Returns:
      What its manifest says: `scores`, `rater`, and `files`: name -> `of` (the input's name),
      `rows` and `without_score`.

    Raises:
      ConfigurationError: the corpus is no files.
      DataError: there is something else; an earlier version made the scores.
    """
    folder = os.fspath(folder).rstrip("/")
    manifest = score_files.read_manifest(score_file) or {}
    inputs = manifest.get("input") or []
    check_files(inputs)
    if any("documents" not in file for file in inputs):
        raise DataError(
            f"{score_file} does not say how many scores are of which file, as an earlier version"
            " made it: score the corpus again, with --overwrite."
        )
    facts = {
        "format": SIDECAR,
        "schema_version": 1,
        "scores": {"path": os.path.basename(score_file), "documents": manifest["documents"]},
        "rater": manifest.get("rater"),
        "text_fingerprint": manifest.get("text_fingerprint"),
    }
    if tf.io.gfile.exists(folder):
        found = score_files.read_json(os.path.join(folder, MANIFEST)) or {}
        if {name: found.get(name) for name in facts} == facts:
            return found
        raise DataError(f"{folder} exists already, and holds something else: name another folder.")
    unfinished = folder + UNFINISHED_SUFFIX
    if tf.io.gfile.exists(unfinished):  # what a killed process was writing
        tf.io.gfile.rmtree(unfinished)
    tf.io.gfile.makedirs(unfinished)
    score_files.write_json(os.path.join(unfinished, JOB), facts)
    unread = _unread(score_file + ERRORS_SUFFIX)
    rows = _Rows(score_file)
    files = {}
    for name, file in zip(output_names([file["name"] for file in inputs]), inputs):
        path = os.path.join(unfinished, name)
        tf.io.gfile.makedirs(os.path.dirname(path))
        files[name] = {"of": file["name"], **_write(path, rows, file, unread[file["path"]])}
    facts = {**facts, "files": files}
    for below in {os.path.dirname(name) for name in files} - {""}:
        marks = {"format": SIDECAR, "schema_version": 1}
        score_files.write_json(os.path.join(unfinished, below, MANIFEST), marks)
    score_files.write_json(os.path.join(unfinished, MANIFEST), facts)
    tf.io.gfile.remove(os.path.join(unfinished, JOB))
    tf.io.gfile.rename(unfinished, folder)
    return facts


def output_names(names: Sequence[str]) -> list[str]:
    """What the files are called: as the input, with .parquet for what says format and compression.

    Where two would have one name, each keeps all of its own before it.
    """
    found = []
    for name in names:
        folder, file = os.path.split(name)
        shorter = file[: len(os.path.splitext(bare(file)[0])[0])]
        found.append(os.path.join(folder, f"{shorter or file}.parquet"))
    often = Counter(found)
    return [made if often[made] == 1 else f"{name}.parquet" for name, made in zip(names, found)]


def check_files(inputs: Sequence) -> None:
    """Raises ConfigurationError where a corpus is no files."""
    if not inputs:
        raise ConfigurationError(
            "Scores by file need a corpus of files of records (JSONL, Parquet, TFRecord): leave the"
            " sidecar out; the score file has every document."
        )


def _unread(path: str) -> dict[str, list[int]]:
    """File -> places among its records, from 1 and ascending, of those that could not be read."""
    found: dict[str, list[int]] = defaultdict(list)
    if tf.io.gfile.exists(path):
        with tf.io.gfile.GFile(path, "r") as file:
            for error in map(json.loads, file):
                found[error["file"]].append(error.get("record", error["position"]))
    return found


class _Rows:
    """The rows of a score file, in order, so many at a time."""

    def __init__(self, path: str):
        self._chunks = score_files.iterate_scores(path)
        self._left = SCHEMA.empty_table()

    def take(self, count: int) -> Iterator[pyarrow.Table]:
        """The next `count` rows, in parts."""
        while count:
            if not self._left.num_rows:
                chunk = next(self._chunks)
                columns = {n: getattr(chunk, n) for n in ("score", "percentile", "windows")}
                table = score_files.score_table(chunk.ids, chunk.sources, columns)
                self._left = table.select(SCHEMA.names)
            part = self._left.slice(0, count)
            self._left = self._left.slice(part.num_rows)
            count -= part.num_rows
            yield part


def _write(path: str, rows: _Rows, file: dict, unread: list[int]) -> dict:
    """Writes the rows of one file, with a row of nulls for each record that was not read."""
    output = GFileWriter(path)
    nothing = pyarrow.Table.from_pylist([dict.fromkeys(SCHEMA.names)], SCHEMA)
    written = missing = 0
    with pyarrow.parquet.ParquetWriter(output, SCHEMA, compression="zstd") as tables:
        # documents between those that were not read, then those after the last of them
        places = [0, *unread, file["documents"] + len(unread) + 1]
        for earlier, place in zip(places, places[1:]):
            parts = rows.take(place - earlier - 1)
            for part in itertools.chain([nothing] * bool(earlier), parts):
                tables.write_table(part)
                written += part.num_rows
                missing += part.column("score").null_count
    output.close()
    return {"rows": written, "without_score": missing}
