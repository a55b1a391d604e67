"""Scores that exist already, found by id.

They may be in any order and come from anywhere, so they are held in memory: 28 bytes a document.
"""

import numpy as np

from dr_keras.data.documents import Document
from dr_keras.errors import DataError
from dr_keras.filtering.score_files import iterate_scores
from dr_keras.filtering.shards.keys import keys_of


class ExistingScores:
    """Gives documents the scores of a score file: a `work.Scorer`.

    Args:
      path: a score file, JSON lines or Parquet.

    Raises:
      DataError: the file is damaged or empty, or an id has two scores.
    """

    def __init__(self, path: str):
        self.path = path
        keys, columns = [], {"score": [], "percentile": [], "windows": []}
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
        self._check_repeated(order)
        self._used = np.zeros(len(self._keys), bool)

    def _check_repeated(self, order: np.ndarray) -> None:
        score = self._columns["score"]
        same = self._keys[1:] == self._keys[:-1]
        # exact copies of a document share id and score, NaN included
        differ = same & ~((score[1:] == score[:-1]) | (np.isnan(score[1:]) & np.isnan(score[:-1])))
        if np.any(differ):
            at = int(np.flatnonzero(differ)[0])
            id = self._id_of_row(int(order[at]))
            raise DataError(
                f"{self.path} gives the id '{id}' two scores, {score[at]} and"
                f" {score[at + 1]} ({int(np.sum(differ))} such cases): make the ids of the corpus unique (or read it"
                " without its id field, and ids are made from the content) and score it again."
            )

    def __call__(self, documents: list[Document]) -> dict[str, np.ndarray]:
        """Raises DataError for a document without a score."""
        keys = keys_of([document.id for document in documents])
        rows = np.searchsorted(self._keys, keys)
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
