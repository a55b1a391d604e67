"""Scores of a prepared corpus, window by window, as a column beside it."""

from collections.abc import Callable
import os

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.data.prepared import prepared_data
from dr_keras.data.prepared_scores import column_path, read_column, write_column
from dr_keras.data.windows import tokenizer_of
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.serving.loading import LoadedRater
from dr_keras.system import locks

_ROWS = 1 << 20


def score_prepared(
    rater: LoadedRater,
    path: str | os.PathLike,
    name: str = "rater",
    batch_size: int = 256,
    overwrite: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict:
    """Scores every window of the train part, in its order; see `data.prepared_scores`.

    A call that was stopped goes on where it was. Nothing of the size of the corpus is in memory.

    Args:
      rater: a loaded rater of text, of the corpus's tokenizer and sequence length.
      path: folder of a prepared corpus on a local disk.
      name: of the scores, `<path>/scores/<name>.npy`.
      batch_size: windows in one call of the rater.
      overwrite: whether scores of that name may be replaced.
      progress: called with (windows done, windows in all).

    Returns:
      {"name" (of the file), "documents" (windows), "without_score", and what is in its JSON file}.

    Raises:
      ConfigurationError: there are such scores, or the rater is of other windows.
      DataError: the corpus cannot be read, or another process scores it under this name.
    """
    output = column_path(path, name)
    parts = prepared_data(path)
    _check_fits(rater, parts.train, path)
    os.makedirs(os.path.dirname(output), exist_ok=True)
    with locks.alone(output, "scoring of a prepared corpus", DataError, is_file=True):
        if os.path.exists(output) and not overwrite:
            raise ConfigurationError(
                f"{output} exists already: give --output another name, or --overwrite it."
            )
        tokens = parts.train.features["tokens"]

        def score(first: int, last: int) -> np.ndarray:
            # The last batch is filled up: of another size it would be traced again.
            rows = np.minimum(np.arange(first, first + batch_size), len(tokens) - 1)
            return np.asarray(rater.score_tokens(tokens[rows])["score"])[: last - first]

        part = parts.train.fingerprint
        facts = write_column(
            output, len(tokens), part, rater.fingerprint, score, batch_size, progress
        )
        scores = read_column(output, part)
    failed = sum(
        int(np.isnan(scores[start : start + _ROWS]).sum()) for start in range(0, len(scores), _ROWS)
    )
    return {"file": {"name": output}, "documents": len(scores), "without_score": failed, **facts}


def _check_fits(rater: LoadedRater, train: ExampleSet, path: str | os.PathLike) -> None:
    """Raises ConfigurationError where a rater reads other windows than a corpus has."""
    kind = rater.metadata["kind"]
    if kind != "text":
        raise ConfigurationError(
            f"{rater.path} rates {kind}, and {path} holds windows of text: name a rater of text."
        )
    tokenizer = tokenizer_of(train)
    own = (rater.sequence_length, rater.metadata["tokenizer"])
    theirs = (train.features["tokens"].shape[1], tokenizer and tokenizer.config())
    if own != theirs:
        raise ConfigurationError(
            f"{rater.path} rates windows of {own[0]} tokens of {own[1]}, and {path} was prepared in"
            f" windows of {theirs[0]} tokens of {theirs[1]}: prepare the corpus for this rater, or"
            " name one that was meta-trained on it."
        )
