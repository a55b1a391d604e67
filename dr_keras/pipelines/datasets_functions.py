"""A rater for `map` and `filter` of Hugging Face's `datasets`.

    scored = dataset.map(MapScores("runs/mine/export"), batched=True)
    kept = dataset.filter(KeepTexts("runs/mine/export", 0.5, id="id"), batched=True)

Both are handed batches of columns and need nothing of `datasets` themselves (extra `datasets`).
What `datasets` remembers of earlier results is known by their settings and the rater's fingerprint,
so that another rater is asked again and the same one is not. With `num_proc`, `datasets` forks, and
TensorFlow hangs in a process that was forked: `multiprocess.set_start_method("spawn")` first.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dr_keras.errors import DataError
from dr_keras.pipelines.text_filter import TextFilter, TextScores
from dr_keras.rating.fractions import Decimal


class MapScores:
    """Batches of columns -> columns `score`, `percentile` (NaN where there is none), `windows`.

    Args:
      rater: see `TextScores`.
      text: column of the texts.
      prefix: before the names of the new columns, such as "rater_".
      settings: others of `TextScores`.

    Raises:
      ConfigurationError, ArtefactError: see `TextScores`.
    """

    def __init__(self, rater: str, text: str = "text", prefix: str = "", **settings: Any):
        self._scores, self._text, self._prefix = TextScores(rater, **settings), text, prefix

    def __call__(self, batch: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
        """Raises DataError where the column of the texts is missing, or holds something else."""
        found = self._scores.score(texts_of(batch, self._text))
        return {f"{self._prefix}{name}": values for name, values in found.items()}


class KeepTexts:
    """Batches of columns -> whether each row stays, as `filter-corpus --reference artefact` says.

    Args:
      rater, discard_fraction: see `TextFilter`.
      text: column of the texts.
      id: column of ids to draw by; None: a text is its own id, so that equal ones share a draw.
      settings: others of `TextFilter`.

    Raises:
      ConfigurationError, ArtefactError: see `TextFilter`.
    """

    def __init__(
        self,
        rater: str,
        discard_fraction: Decimal,
        text: str = "text",
        id: str | None = None,
        **settings: Any,
    ):
        self._filter = TextFilter(rater, discard_fraction, **settings)
        self._text, self._id = text, id

    def __call__(self, batch: Mapping[str, Sequence]) -> list[bool]:
        """Raises DataError where a column is missing, or holds no texts."""
        texts = texts_of(batch, self._text)
        ids = texts if self._id is None else [str(one) for one in _column(batch, self._id)]
        return self._filter.decide(ids, self._filter.score(texts)["score"]).keep.tolist()


def texts_of(batch: Mapping[str, Sequence], name: str) -> list[str]:
    """The texts of a batch. Raises DataError where there are none."""
    texts = _column(batch, name)
    if isinstance(texts, str):
        raise DataError(
            f"'{name}' is one text, so rows come one by one: call map and filter with batched=True."
        )
    for text in texts:
        if not isinstance(text, str):
            raise DataError(
                f"The column '{name}' holds a {type(text).__name__} ({text!r:.40}), and a rater"
                " reads texts: fill or drop such rows first."
            )
    return list(texts)


def _column(batch: Mapping[str, Sequence], name: str) -> Sequence:
    if name not in batch:
        columns = ", ".join(sorted(batch))
        raise DataError(f"There is no column '{name}', only {columns}: name the right one.")
    return batch[name]
