"""Several exported raters of text as one: every text is read once, and scored by all of them.

Their scores have no common scale, so they are combined by percentiles, each under its own rater's
reference distribution of documents:

    minimum  good is what all find good
    mean     good is what they find good together
    union    good is what any finds good: the highest percentile. A text is kept that some rater
             has above a threshold (SkillRater, Sahi et al. 2026, arXiv 2602.11615), which follows
             from the share asked for: a larger `discard_fraction` for a later stage of training
             tightens it, and what that stage keeps is a part of what earlier ones keep

What each rater says goes into score files beside what they say together (`percentiles`).
"""

from collections.abc import Callable, Sequence
import dataclasses
import hashlib
from typing import Any

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.window_scoring import WindowScoring
import gin

# percentiles [N, R] -> scores [N]
COMBINATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "minimum": lambda percentiles: percentiles.min(axis=1),
    "mean": lambda percentiles: percentiles.mean(axis=1, dtype=np.float64),
    "union": lambda percentiles: percentiles.max(axis=1),
}


class SeveralRaters:
    """What corpus jobs need of raters that work together; a subclass says how.

    Its scores are percentiles, whose distribution over texts no artefact knows: there is no
    reference distribution, and shares are taken among a corpus's own scores.

    Attributes:
      raters: loaded raters of text.
      how: name and settings of the way in which they work together, JSON-able.
      fingerprint: hex SHA-256 of `how` and the raters' fingerprints, in order.
      path: None, as it lies in no one place.
    """

    path = None
    document_reference = None
    light = None  # each decides by itself how many windows go through it at once

    def __init__(self, raters: Sequence[LoadedTextRater], how: dict):
        for rater in raters:
            if not isinstance(rater, LoadedTextRater):
                raise ConfigurationError(
                    f"{rater!r} is no exported rater of text, and only such work together: name"
                    " raters that score-corpus takes."
                )
        self.raters = list(raters)
        self.how = how
        parts = [repr(sorted(how.items())), *(rater.fingerprint for rater in self.raters)]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self.trusted = any(rater.trusted for rater in self.raters)

    @property
    def reload(self) -> "Reload":
        """What makes the same in another process."""
        places = tuple((rater.path, rater.trusted) for rater in self.raters)
        return Reload(type(self), places, tuple(self.how.items()))

    def described(self) -> dict[str, Any]:
        """What a manifest says of them beside the fingerprint."""
        parts = [{"path": rater.path, "fingerprint": rater.fingerprint} for rater in self.raters]
        return {"combined": self.how, "raters": parts}

    def __call__(self, texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
        """See `score_texts`."""
        return self.score_texts(texts)

    def score_texts(
        self, texts: Sequence[str | bytes], scoring: WindowScoring | None = None
    ) -> dict[str, np.ndarray]:
        """Scores many texts, see `LoadedTextRater.score_texts`.

        Returns:
          `score` float32 [N], in [0, 1], NaN where no rater has one; `percentiles` float32 [N, R],
          NaN where a rater was not asked; `windows` int32 [N], those that were scored by all.
        """
        raise NotImplementedError

    def summarised(self, score: np.ndarray, percentiles: np.ndarray) -> dict:
        """JSON-able facts about the scores of a whole corpus, for its manifest."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Reload:
    """Makes raters that work together anew: a picklable function without arguments.

    Attributes:
      kind: subclass of `SeveralRaters`.
      places: path and trust of each rater.
      how: items of its `how`.
    """

    kind: type[SeveralRaters]
    places: tuple[tuple[str, bool], ...]
    how: tuple[tuple[str, Any], ...]

    def __call__(self) -> SeveralRaters:
        raters = [load_rater(path, trusted=trusted) for path, trusted in self.places]
        return self.kind(raters, dict(self.how))  # type: ignore[arg-type]


class CombinedRaters(SeveralRaters):
    """All raters score all texts; made by `combined_raters`."""

    def score_texts(
        self, texts: Sequence[str | bytes], scoring: WindowScoring | None = None
    ) -> dict[str, np.ndarray]:
        each = [rater.score_texts(texts, scoring) for rater in self.raters]
        percentiles = np.stack([found["percentile"] for found in each], axis=1)
        score = COMBINATIONS[self.how["by"]](percentiles).astype(np.float32)
        unknown = np.all([np.isnan(found["score"]) for found in each], axis=0)
        windows = np.sum([found["windows"] for found in each], axis=0)
        return {
            "score": np.where(unknown, np.float32(np.nan), score),
            "percentiles": percentiles,
            "windows": windows.astype(np.int32),
        }

    def summarised(self, score: np.ndarray, percentiles: np.ndarray) -> dict:
        """`rank_correlations`: R lists of R, None where one rater calls all texts alike."""
        ranks = [_ranks(column) for column in percentiles.T]
        return {"rank_correlations": [[_correlation(a, b) for b in ranks] for a in ranks]}


@gin.configurable
def combined_raters(
    raters: Sequence[str | LoadedTextRater] = gin.REQUIRED, by: str = gin.REQUIRED
) -> CombinedRaters:
    """Several raters whose percentiles are combined, see the module.

    Args:
      raters: at least two exported raters of text, as paths or loaded.
      by: "minimum", "mean" or "union".

    Raises:
      ConfigurationError: fewer than two raters, or none of text; another combination.
      ArtefactError: one cannot be loaded.
    """
    if by not in COMBINATIONS:
        choices = ", ".join(COMBINATIONS)
        raise ConfigurationError(f"Raters are combined by {choices}, and not by {by!r}.")
    if isinstance(raters, str) or len(raters) < 2:
        raise ConfigurationError(
            f"combined_raters.raters is {raters!r}: give at least two exported raters, on the"
            " command line --rater, once for each."
        )
    loaded = [load_rater(one) if isinstance(one, str) else one for one in raters]
    return CombinedRaters(loaded, {"by": by})  # type: ignore[arg-type]


def _ranks(values: np.ndarray) -> np.ndarray:
    """Places in ascending order, of equal values their mean."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]


def _correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    if a.std() == 0 or b.std() == 0:
        return None
    return round(float(np.corrcoef(a, b)[0, 1]), 6)
