"""Scores that are there already: of a score file, by the ids of examples or of their documents.

Those that lie beside a prepared corpus are taken row by row.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores
from dr_keras.data.prepared_scores import read_column
from dr_keras.errors import DataError
from dr_keras.rating.score_files import read_scores
import gin

_LEAST_SHARE = 0.5
_MOST_NAMES = 3


@gin.configurable(denylist=["candidates", "outer", "seed"])
def score_file(
    candidates: Candidates, outer: Candidates | None = None, path: str = gin.REQUIRED, seed: int = 0
) -> Scores:
    """The scores that a file has for the candidates, such as one that score-corpus wrote.

    A candidate gets the score of its own id, or else that of its document. Making the file cost
    something that it does not say, so that no operations are counted.

    Args:
      candidates: windows or documents.
      outer: not read.
      path: of the file, JSON lines or Parquet (see `dr_keras.rating.score_files`): `id`, `score`;
        or `<prepared>/scores/<name>.npy` of the prepared corpus that the candidates are from.
      seed: not read.

    Returns:
      Scores; NaN for a candidate that the file has no score for. Facts "path", "matched" (share of
      the candidates with a score) and "rater" (the fingerprint in the manifest beside the file).

    Raises:
      DataError: there is no such file, it is damaged, or it is of another corpus: it has scores
        for fewer than half of the candidates.
    """
    if str(path).endswith(".npy"):
        return _column(candidates, str(path))
    known = read_scores(path)
    rows = known.rows()
    own = [rows.get(str(one)) for one in candidates.ids]
    of_document = [rows.get(str(one)) for one in candidates.documents]
    places = [theirs if mine is None else mine for mine, theirs in zip(own, of_document)]
    values = np.array([np.nan if p is None else known.score[p] for p in places], np.float64)
    matched = float(np.isfinite(values).mean())
    if matched < _LEAST_SHARE:
        theirs = ", ".join(map(repr, known.ids[:_MOST_NAMES])) or "none"
        ours = ", ".join(repr(str(one)) for one in candidates.documents[:_MOST_NAMES])
        raise DataError(
            f"{path} has scores for {matched:.0%} of the examples: its ids are such as {theirs},"
            f" those of the documents {ours}. Score this very corpus, with the same ids."
        )
    rater = (known.manifest or {}).get("rater", {})
    facts = {"path": str(path), "matched": matched, "rater": rater.get("fingerprint")}
    return Scores(values, facts=facts)


def _column(candidates: Candidates, path: str) -> Scores:
    """The scores beside a prepared corpus."""
    if candidates.examples is None:
        raise DataError(f"{path} has scores of windows, and these candidates are in none.")
    scores = read_column(path, candidates.examples.fingerprint)
    values = candidates.token_means(np.asarray(scores, np.float64))
    facts = {"path": path, "matched": float(np.isfinite(values).mean())}
    return Scores(values, facts=facts)
