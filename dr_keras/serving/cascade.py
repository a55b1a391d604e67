"""A cascade: a student that costs little decides where it is sure, the teacher scores the rest.

Whether a text is kept hangs on its score only near the cut. So every text is scored by the student
(`dr-keras distill` makes one), and those whose percentile lies in a band around the cut by the
teacher as well. Scores are in [0, 1]: the student's percentile outside of the band, and within it
low + (high - low) times the teacher's percentile, so that the band stays in its place and the
teacher sorts it.

How well that follows the teacher is measured on the corpus itself: of the texts that the student
decided, some are drawn by a hash of their content and scored by the teacher too, which changes
nothing of their scores. Each stands for as many as it was drawn from (Horvitz and Thompson 1952),
and the teacher's own choice is estimated so.
"""

from collections.abc import Sequence
import logging
import math

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.rating.example_ids import uniform_hash
from dr_keras.rating.fractions import Decimal, exact_fraction
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.several import SeveralRaters
from dr_keras.serving.window_scoring import WindowScoring
import gin

_SEED = 0x63617363  # of the draw, and of nothing else
_logger = logging.getLogger(__name__)


class Cascade(SeveralRaters):
    """Student and teacher, in this order; made by `cascade`."""

    @property
    def band(self) -> tuple[float, float]:
        """The student's percentiles [low, high) between which the teacher is asked."""
        cut, share = float(exact_fraction(self.how["discard_fraction"])), self.how["teacher_share"]
        low = min(max(cut - share / 2, 0.0), 1.0 - share)
        return low, low + share

    def score_texts(
        self, texts: Sequence[str | bytes], scoring: WindowScoring | None = None
    ) -> dict[str, np.ndarray]:
        student, teacher = self.raters
        found = student.score_texts(texts, scoring)
        score, windows = found["percentile"].copy(), found["windows"].copy()
        score[np.isnan(found["score"])] = np.nan
        percentiles = np.stack([found["percentile"], np.full_like(score, np.nan)], axis=1)
        within = self._within(found["percentile"])
        drawn = uniform_hash(texts, _SEED) < self.how["audit_share"] if len(texts) else within
        asked: list[int] = np.flatnonzero(within | drawn).tolist()
        if asked:
            answer = teacher.score_texts([texts[row] for row in asked], scoring)
            percentiles[asked, 1] = answer["percentile"]
            windows[asked] += answer["windows"]
            low, high = self.band
            placed = (low + (high - low) * answer["percentile"]).astype(np.float32)
            placed[np.isnan(answer["score"])] = np.nan
            score[within] = placed[within[asked]]
        return {"score": score, "percentiles": percentiles, "windows": windows.astype(np.int32)}

    def _within(self, percentile: np.ndarray) -> np.ndarray:
        low, high = self.band
        # of a band that ends at 1 that is a part
        return (percentile >= low) & ((percentile < high) | (high >= 1.0))

    def summarised(self, score: np.ndarray, percentiles: np.ndarray) -> dict:
        """What the teacher was asked, and how the choice agrees with the teacher's own.

        Both drop the share `discard_fraction`, by a threshold among the scores of the corpus.

        Returns:
          `band`; `teacher_share` of texts that the teacher decided; `audited`, how many of the
          others it scored; `agreement`, the estimated share of all texts about which it decides
          alike, `agreement_of_student` that of the others, and `standard_error` of the latter (None
          where fewer than two were drawn); `cut`, the score from which on texts are kept, and
          whether it is `cut_in_band`.
        """
        fraction = float(exact_fraction(self.how["discard_fraction"]))
        low, high = self.band
        within, known = self._within(percentiles[:, 0]), ~np.isnan(percentiles[:, 1])
        audited = known & ~within
        cut = float(np.nanquantile(score, fraction)) if np.any(np.isfinite(score)) else math.nan
        facts = {
            "band": [round(low, 6), round(high, 6)],
            "teacher_share": float(np.mean(within)),
            "audited": int(np.sum(audited)),
            "cut": round(cut, 6),
            "cut_in_band": bool(low <= cut <= high),
            "agreement": None, "agreement_of_student": None, "standard_error": None,
        }  # fmt: skip
        if not facts["cut_in_band"]:
            _logger.warning(
                "The cut of the corpus, at %.3f, is not among the scores that the teacher gave"
                " (%.3f to %.3f), as the corpus is unlike the text that the student was made with:"
                " the student alone decides. Ask the teacher about more (teacher_share), or distil"
                " a student on this corpus.",
                cut, low, high,
            )  # fmt: skip
        outside = int(np.sum(~within))
        if np.sum(audited) < 2 and outside:
            return facts
        weight = np.where(within, 1.0, outside / max(int(np.sum(audited)), 1))[known]
        theirs = percentiles[known, 1] >= _quantile(percentiles[known, 1], weight, fraction)
        alike = (score[known] >= cut) == theirs
        facts["agreement"] = round(float(np.average(alike, weights=weight)), 6)
        if outside:
            of_student = alike[audited[known]]
            facts["agreement_of_student"] = round(float(np.mean(of_student)), 6)
            error = float(np.std(of_student, ddof=1)) / math.sqrt(len(of_student))
            facts["standard_error"] = round(error, 6)
        return facts


@gin.configurable
def cascade(
    student: str | LoadedTextRater = gin.REQUIRED,
    teacher: str | LoadedTextRater = gin.REQUIRED,
    discard_fraction: Decimal = gin.REQUIRED,
    teacher_share: float = 0.2,
    audit_share: float = 0.02,
) -> Cascade:
    """Two raters of text, of which the second is asked only where the first is not sure.

    Args:
      student, teacher: exported raters, as paths or loaded.
      discard_fraction: f in [0, 1), the share that will be dropped: the band lies around it, or as
        near to it as it can.
      teacher_share: width of the band, the share of texts like those that the student was made with
        which the teacher scores; in (0, 1].
      audit_share: of the other texts, the share that the teacher scores to measure agreement by.

    Raises:
      ConfigurationError: a number out of its range; a rater that is none of text.
      ArtefactError: one cannot be loaded.
    """
    exact = exact_fraction(discard_fraction)
    if not 0 < teacher_share <= 1:
        raise ConfigurationError(
            f"cascade.teacher_share is {teacher_share!r}: give the share of texts that the teacher"
            " is to score, above 0 and at most 1, such as 0.2."
        )
    if not 0 <= audit_share <= 1:
        raise ConfigurationError(
            f"cascade.audit_share is {audit_share!r}: give a share in [0, 1], such as 0.02."
        )
    loaded = [load_rater(one) if isinstance(one, str) else one for one in (student, teacher)]
    how = {
        "by": "cascade",
        "discard_fraction": str(exact),
        "teacher_share": float(teacher_share),
        "audit_share": float(audit_share),
    }
    return Cascade(loaded, how)  # type: ignore[arg-type]


def _quantile(values: np.ndarray, weights: np.ndarray, fraction: float) -> float:
    """The value above which the share 1 - `fraction` of the weight lies."""
    order = np.argsort(values)
    below = np.cumsum(weights[order]) - weights[order]
    place = np.searchsorted(below, fraction * weights.sum(), side="left")
    return float(values[order[min(int(place), len(order) - 1)]])
