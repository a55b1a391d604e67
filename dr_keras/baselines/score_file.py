"""Scores that are there already: of a score file, by the ids of examples or of their documents."""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores
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
      path: of the file, JSON lines or Parquet (see `dr_keras.rating.score_files`): `id`, `score`.
      seed: not read.

    Returns:
      Scores; NaN for a candidate that the file has no score for. Facts "path", "matched" (share of
      the candidates with a score) and "rater" (the fingerprint in the manifest beside the file).

    Raises:
      DataError: there is no such file, it is damaged, or it is of another corpus: it has scores
        for fewer than half of the candidates.
    """
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
