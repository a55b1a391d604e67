"""Score files: what a rater said about each document of a corpus.

JSON lines, one a document in the corpus' order, with

    id          the document's id
    source      its source
    score       float32, or null where the rater gave none (NaN)
    percentile  under the rater's own reference distribution, in [0, 1], or null where it has none
    windows     how many windows the score is a mean over

Beside it, `<file>.manifest.json` says which corpus and which rater (fingerprints), how many
documents, and the rater's reference distribution. Both are written under temporary names and
renamed, the manifest last: its presence means that the scores are complete. A threshold can so
change without scoring again.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import json
import math
import os
import uuid

import numpy as np
import tensorflow as tf

from dr_keras.errors import DataError

MANIFEST_SUFFIX = ".manifest.json"


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """The content of a score file; row i of each belongs to document i.

    Attributes:
      ids, sources: lists of N strings.
      score, percentile: float32 [N], NaN where the file has null.
      windows: int32 [N].
      manifest: the facts beside the file, or None where there are none.
    """

    ids: list[str]
    sources: list[str]
    score: np.ndarray
    percentile: np.ndarray
    windows: np.ndarray
    manifest: dict | None = None

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

    Args:
      path: where the file is to be; its folder is made where it is missing.
    """

    def __init__(self, path: str):
        self.path = os.fspath(path)
        self._temporary = f"{self.path}.tmp-{uuid.uuid4().hex[:8]}"

    def __enter__(self) -> "ScoreWriter":
        make_parent(self.path)
        self._file = tf.io.gfile.GFile(self._temporary, "w")
        self._file.write("")  # makes the file, which GFile otherwise puts off
        return self

    def write(self, ids: Sequence[str], sources: Sequence[str], columns: dict) -> None:
        """Adds documents; `columns` holds score, percentile and windows, each [n]."""
        lines = []
        for row in zip(ids, sources, columns["score"], columns["percentile"], columns["windows"]):
            id, source, score, percentile, windows = row
            lines.append(
                json.dumps(
                    {
                        "id": id,
                        "source": source,
                        "score": number(score),
                        "percentile": number(percentile),
                        "windows": int(windows),
                    }
                )
            )
        if lines:
            self._file.write("\n".join(lines) + "\n")

    def __exit__(self, kind, *_) -> None:
        self._file.close()
        if kind is None:
            # an old manifest must not vouch for the new scores
            if tf.io.gfile.exists(self.path + MANIFEST_SUFFIX):
                tf.io.gfile.remove(self.path + MANIFEST_SUFFIX)
            tf.io.gfile.rename(self._temporary, self.path, overwrite=True)
        else:
            tf.io.gfile.remove(self._temporary)


def number(value) -> float | None:
    """A float32 as the shortest decimal that JSON gives back exactly; None where not finite."""
    return float(str(np.float32(value))) if math.isfinite(value) else None


def make_parent(path: str) -> None:
    """Makes the folder that `path` is to lie in."""
    parent = os.path.dirname(path)
    if parent:
        tf.io.gfile.makedirs(parent)


def write_json(path: str, content: dict) -> None:
    """Writes JSON under a temporary name and renames it."""
    make_parent(path)
    temporary = f"{path}.tmp-{uuid.uuid4().hex[:8]}"
    with tf.io.gfile.GFile(temporary, "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
    tf.io.gfile.rename(temporary, path, overwrite=True)


def read_manifest(path: str) -> dict | None:
    """The manifest beside a score file, or None. Raises DataError where it is damaged."""
    manifest = os.fspath(path) + MANIFEST_SUFFIX
    if not tf.io.gfile.exists(manifest):
        return None
    try:
        with tf.io.gfile.GFile(manifest, "r") as file:
            return json.loads(file.read())
    except ValueError as error:
        raise DataError(f"{manifest} is not JSON ({error}): score the corpus again.") from error


def read_scores(path: str) -> Scores:
    """Reads a score file.

    Raises:
      DataError: it is missing, a line is not what it should be, or lines are missing.
    """
    path = os.fspath(path)
    if not tf.io.gfile.exists(path):
        raise DataError(f"{path} does not exist: name a file that score_corpus wrote.")
    columns: list[tuple] = []
    with tf.io.gfile.GFile(path, "r") as file:
        for line_number, line in enumerate(file, start=1):
            columns.append(_parse(line, f"{path}, line {line_number}"))
    manifest = read_manifest(path)
    if manifest is not None and manifest.get("documents") != len(columns):
        raise DataError(
            f"{path} has {len(columns)} lines, but its manifest says"
            f" {manifest.get('documents')} documents: the copy was cut short; copy it or score the"
            " corpus again."
        )
    ids, sources, score, percentile, windows = zip(*columns) if columns else ([],) * 5
    return Scores(
        list(ids),
        list(sources),
        _floats(score),
        _floats(percentile),
        np.array(windows, np.int32),
        manifest,
    )


def _parse(line: str, place: str) -> tuple:
    try:
        record = json.loads(line)
        score, percentile = record["score"], record.get("percentile")
        for value in (score, percentile):
            if value is not None and not isinstance(value, (int, float)):
                raise ValueError(f"{value!r} is no number")
        source, windows = record.get("source", ""), int(record.get("windows", 1))
        return str(record["id"]), str(source), score, percentile, windows
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{place}: not a line of a score file ({error}); score again.") from error
    except KeyError as error:
        raise DataError(f"{place}: the field {error} is missing; score again.") from error


def _floats(values: Iterable[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], np.float32)
