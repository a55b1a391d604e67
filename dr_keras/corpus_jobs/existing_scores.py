"""Scores that exist already: where they are looked for, whether they serve, and found by id.

Those of any origin may be in any order, so they are held in memory: 28 bytes a document.
"""

from collections.abc import Callable
import functools
import os

import numpy as np
import tensorflow as tf

from dr_keras.corpus_jobs import summary
from dr_keras.corpus_jobs.identity import (
    TEXTS,
    WITH_SOURCES,
    Fingerprint,
    changes,
    check_scored_texts,
    keys_of,
    short_name,
)  # fmt: skip
from dr_keras.corpus_jobs.job import Job, is_about
from dr_keras.corpus_jobs.source import CorpusSource, Source
from dr_keras.corpus_jobs.work import SCORED
from dr_keras.data.documents import Document
from dr_keras.data.formats.own_outputs import UNFINISHED_SUFFIX
from dr_keras.data.formats.reading import names_in, place
from dr_keras.data.formats.records import default_fields, identifying
from dr_keras.data.formats.writing import GFileWriter
from dr_keras.errors import DataError
from dr_keras.rating import score_files
from dr_keras.rating.score_files import iterate_scores
from dr_keras.system import locks

SCORE_FOLDER = "_scores"
WAIT = 60.0  # seconds that another job may take to write its score file
_OWN_FILE = "score_file.json"


def default_score_file(
    source: Source, rater: Callable | None, windows_per_document: int | None = None
) -> str | None:
    """`_scores/<name>-<rater>-<input>.parquet` in the folder of the first input file, or None.

    Of scores by so many windows of each document the name says that, too.

    A rater without a fingerprint, or a folder that cannot be written to, has no such place. Scores
    that were copied there with their corpus, or begun, keep their name. Names of folders that begin
    with an underscore are passed over when a folder is read as a corpus. A corpus that is no files
    has no such place either.
    """
    fingerprint = getattr(rater, "fingerprint", None)
    if not fingerprint or not source.files:
        return None
    first = source.files[0].path
    folder = os.path.join(os.path.dirname(first), SCORE_FOLDER)
    by = "" if windows_per_document is None else f"{windows_per_document}w-"
    begins = f"{os.path.basename(first).split('.')[0]}-{fingerprint[:8]}-{by}"
    path = os.path.join(folder, f"{begins}{short_name(source.files)}.parquet")
    if tf.io.gfile.exists(path):
        return path
    listed = names_in(folder) if tf.io.gfile.isdir(folder) else []
    for name in (name for name in listed if name.startswith(begins)):
        copied = os.path.join(folder, name.removesuffix(UNFINISHED_SUFFIX))
        if name.endswith(".parquet"):
            manifest = score_files.read_manifest(copied) or {}
            same = manifest.get("windows_per_document") == windows_per_document
            if same and _rater_of(manifest) == fingerprint and not _differences(manifest, source):
                return copied
        elif copied != os.path.join(folder, name) and not tf.io.gfile.exists(copied):
            if is_about(os.path.join(folder, name), source.files):
                return copied
    probe = f"{path}.tmp-probe"
    try:
        tf.io.gfile.makedirs(folder)
        GFileWriter(probe).close()
        tf.io.gfile.remove(probe)
    except (tf.errors.OpError, OSError):
        return None
    return path


def existing_manifest(output: str, job: Job) -> dict | None:
    """The manifest of scores that need not be made again; None where there is no score file.

    A file that the job itself left without a manifest is none.

    Raises:
      DataError: there is one, of another rater or corpus; or another job makes it.
    """
    with locks.alone(output, "reading of scores", DataError, wait=WAIT, is_file=True):
        if not tf.io.gfile.exists(output):
            return None
        manifest = score_files.read_manifest(output)
    ours = getattr(job.rater, "fingerprint", None)
    if manifest is None:
        if _is_own_file(output, job.work.work):
            return None
        reason = "it has no manifest"
    elif _rater_of(manifest) != ours:
        reason = "it was written by another rater"
    elif ours is None:
        reason = "its rater has no fingerprint to know it by"
    elif manifest.get("windows_per_document") != job.work.window_scoring.windows_per_document:
        reason = f"it is by {_windows(manifest.get('windows_per_document'))} of each document"
    elif differences := _differences(manifest, job.source):
        differ = "; ".join(differences[:8])
        reason = f"it belongs to another corpus, or the corpus has changed: {differ}"
    else:
        return manifest
    raise DataError(
        f"{output} exists already, and {reason}: choose another path, or remove it (score_corpus:"
        " --overwrite)."
    )


def _windows(number: int | None) -> str:
    return "all windows" if number is None else f"at most {number} windows"


def _rater_of(manifest: dict) -> str | None:
    return manifest.get("rater", {}).get("fingerprint")


def _differences(manifest: dict, source: Source) -> list[str]:
    """In what the input and the way to read it differ from those of a score file's manifest."""
    if isinstance(source, CorpusSource):
        return _other_documents(manifest, source)
    if "fields" not in manifest or "input" not in manifest:
        return ["it is not about files of records"]
    # an earlier version did not know all of today's settings, and read as their defaults say
    fields = identifying({**default_fields(source.format.name), **manifest["fields"]})
    now = identifying(source.fields)
    found = [
        f"{name} (was {fields.get(name)!r}, is {now.get(name)!r})"
        for name in sorted({*fields, *now})
        if fields.get(name) != now.get(name)
    ]
    return found or changes(manifest["input"], source.files)


def _other_documents(manifest: dict, source: CorpusSource) -> list[str]:
    """Compares what a corpus holds, whatever it is called; earlier versions knew no such sums."""
    ours = source.contents()
    name = WITH_SOURCES if manifest.get(WITH_SOURCES) else "corpus_fingerprint"
    theirs = manifest.get(name) or "none"
    return [] if theirs == ours[name] else [f"{name} {ours[name][:12]} and not {theirs[:12]}"]


def note_own_file(output: str, folder: str) -> None:
    """A run that ends between the scores and their manifest knows by this that they are its own."""
    score_files.write_json(os.path.join(folder, _OWN_FILE), _own_file(output, folder))


def _own_file(output: str, folder: str) -> dict:
    """How a job names a score file: from its own folder, as the two are moved together."""
    return {"path": os.path.relpath(place(output), place(folder))}


def _is_own_file(output: str, folder: str) -> bool:
    found = score_files.read_json(os.path.join(folder, _OWN_FILE))
    return found == _own_file(output, folder)


def take_existing(path: str, job: Job) -> list[dict]:
    """The phase "scored" from a score file instead of a rater.

    Raises:
      DataError: ids are missing, unknown, or have two scores.
    """
    source = job.source
    phase = os.path.join(job.work.work, SCORED)
    if tf.io.gfile.exists(phase):  # only a look at every shard shows which scores nobody asks for
        tf.io.gfile.rmtree(phase)
    # as every record of the same files in the same order was scored, order tells copies apart
    manifest = score_files.read_manifest(path) or {}
    if isinstance(source, CorpusSource):
        same = not _other_documents(manifest, source)
    else:
        same = _content_of(manifest.get("input", [])) == _content_of(source.describe()["input"])
    scores = ExistingScores(path, in_order=same)
    facts = job.run(scores)
    scores.check_all_used()
    return facts


def check_texts(path: str, job: Job, facts: list[dict]) -> None:
    """Raises DataError where scores that exist are not about the texts of the phase "scored"."""
    manifest, source = score_files.read_manifest(path) or {}, job.source
    changed = functools.partial(changes, manifest.get("input", []), source.files)
    try:
        check_scored_texts(manifest, Fingerprint(summary.totals(facts)), path, changed)
        known_by = [
            name for name in (TEXTS, WITH_SOURCES, "corpus_fingerprint") if manifest.get(name)
        ]
        if isinstance(source, CorpusSource) and known_by == ["corpus_fingerprint"]:  # earlier
            for difference in _other_documents(manifest, source):
                raise DataError(
                    f"The corpus '{source.corpus.name}' is not the one that {path} is about"
                    f" ({difference}): score it again."
                )
    except DataError:
        job.forget()
        raise


def _content_of(files: list[dict]) -> list[tuple]:
    return [(os.path.basename(file["path"]), file["size"]) for file in files]


class ExistingScores:
    """Gives documents the scores of a score file: a `work.Scorer`.

    Args:
      path: a score file, JSON lines or Parquet.
      in_order: whether documents are asked for in the order of the file. Then an id may have
        several scores (copies that differ in white space only, or ids that are not unique): the
        first document of that id gets the first of them, and so on.

    Raises:
      DataError: the file is damaged or empty, or an id has two scores and there is no order.
    """

    def __init__(self, path: str, in_order: bool = False):
        self.path = path
        keys: list[np.ndarray] = []
        columns: dict[str, list] = {name: [] for name in ("score", "percentile", "windows")}
        for chunk in iterate_scores(path):
            keys.append(keys_of(chunk.ids))
            for name, values in columns.items():
                values.append(getattr(chunk, name))
        if not keys:
            raise DataError(f"{path} holds no scores: score the corpus again.")
        all_keys = np.concatenate(keys)
        order = np.argsort(all_keys, kind="stable")
        self._keys = all_keys[order]
        self._columns = {n: np.concatenate(values)[order] for n, values in columns.items()}
        self._several = self._keys_of_several_scores(order, in_order)
        self._used = np.zeros(len(self._keys), bool)

    def _keys_of_several_scores(self, order: np.ndarray, in_order: bool) -> dict[bytes, int]:
        """Key -> how often it was asked for, which is 0, of the ids that have several scores."""
        score = self._columns["score"]
        same = self._keys[1:] == self._keys[:-1]
        differ = same & ~((score[1:] == score[:-1]) | (np.isnan(score[1:]) & np.isnan(score[:-1])))
        if np.any(differ) and not in_order:
            at = int(np.flatnonzero(differ)[0])
            id = self._id_of_row(int(order[at]))
            raise DataError(
                f"{self.path} gives the id '{id}' two scores, {score[at]} and"
                f" {score[at + 1]} ({int(np.sum(differ))} such cases), and does not say of which"
                " file or order: make the ids of the corpus unique (or read it without its id"
                " field, and ids are made from the content) and score it again."
            )
        return dict.fromkeys(self._keys[1:][differ].tolist(), 0)

    def __call__(self, documents: list[Document]) -> dict[str, np.ndarray]:
        """Raises DataError for a document without a score."""
        keys = keys_of([document.id for document in documents])
        rows = np.searchsorted(self._keys, keys)
        if self._several:
            rows += self._places(keys)
        found = self._keys[np.minimum(rows, len(self._keys) - 1)] == keys
        if not np.all(found):
            document = documents[int(np.flatnonzero(~found)[0])]
            raise DataError(
                f"The document '{document.id}' (source '{document.source}') has no score in"
                f" {self.path}: the corpus or its ids have changed, or the file is another's;"
                " score the corpus again."
            )
        self._used[rows] = True
        return {name: values[rows] for name, values in self._columns.items()}

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """Which of the scores of its id each document gets: 0 but where there are several."""
        places = np.zeros(len(keys), np.int64)
        for row, key in enumerate(keys.tolist()):
            if key in self._several:
                places[row] = self._several[key]
                self._several[key] += 1
        return places

    def check_all_used(self) -> None:
        """Raises DataError where there are scores of documents that nobody asked for."""
        used = self._used | np.isin(self._keys, self._keys[self._used])
        unknown = int(np.sum(~used))
        if unknown:
            raise DataError(
                f"{self.path} has {unknown} scores of documents that are not in the corpus, such as"
                f" '{self._first_unused(set(self._keys[~used].tolist()))}': it is about another"
                " corpus, or the corpus lacks files; name all of them, or score the corpus again."
            )

    def _first_unused(self, unused: set[bytes]) -> str:
        for chunk in iterate_scores(self.path):
            for id, key in zip(chunk.ids, keys_of(chunk.ids).tolist()):
                if key in unused:
                    return id
        return "?"

    def _id_of_row(self, row: int) -> str:
        for chunk in iterate_scores(self.path):
            if row < len(chunk):
                return chunk.ids[row]
            row -= len(chunk)
        return "?"
