"""What a rater says of documents; it is at hand, or an artefact that workers load."""

from collections.abc import Callable, Sequence
import functools

import numpy as np

from dr_keras.data.documents import Document
from dr_keras.errors import DataError

# documents -> score, percentile, windows, see `score_texts`
Scorer = Callable[[list[Document]], dict[str, np.ndarray]]


def scorer_for(rater: Callable, windows_per_batch: int) -> Scorer:
    """Scores documents by a rater."""
    return functools.partial(score_documents, rater, windows_per_batch=windows_per_batch)


@functools.lru_cache(maxsize=1)
def loaded(path: str, trusted: bool) -> Callable:
    """The rater at a path, which is loaded once in a process."""
    from dr_keras.serving.loading import load_rater

    return load_rater(path, trusted=trusted)


def score_documents(
    rater: Callable, documents: list[Document], windows_per_batch: int = 256
) -> dict[str, np.ndarray]:
    """The scores of documents, as `score_texts` gives them."""
    texts = [document.text for document in documents]
    try:
        return score_texts(rater, texts, windows_per_batch)
    except DataError as error:
        raise DataError(f"{error} The first document is '{documents[0].id}'.") from error


def score_texts(
    rater: Callable, texts: Sequence[str | bytes], windows_per_batch: int = 256
) -> dict[str, np.ndarray]:
    """`score` and `percentile` float32 [N], `windows` int32 [N]; what the rater lacks is NaN or 1.

    Raises:
      DataError: the rater does not give one score a text.
    """
    if hasattr(rater, "score_texts"):
        result = rater.score_texts(texts, windows_per_batch=windows_per_batch)
    else:
        result = rater(texts)
    if not isinstance(result, dict):
        result = {"score": result}
    score = np.asarray(result["score"], np.float32)
    if score.shape != (len(texts),):
        raise DataError(
            f"The rater gave scores of shape {score.shape} for {len(texts)} texts: it has to give"
            " one score a text."
        )
    missing = np.full(len(texts), np.nan, np.float32)
    return {
        "score": score,
        "percentile": np.asarray(result.get("percentile", missing), np.float32),
        "windows": np.asarray(result.get("windows", np.ones(len(texts))), np.int32),
    }
