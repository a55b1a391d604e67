"""Scores that exist already, found by id.

They may be in any order and come from anywhere, so they are held in memory: 28 bytes a document.
"""

import numpy as np

from dr_keras.corpus_jobs.keys import keys_of
from dr_keras.data.documents import Document
from dr_keras.errors import DataError
from dr_keras.rating.score_files import iterate_scores


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
