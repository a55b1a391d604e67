"""The classifier arm: a linear n-gram model that tells the outer text from the training text.

What most filters of web text are: logistic regression on hashed n-grams, trained to know a chosen
corpus from the pool, its logit the score (GPT-3's filter: Brown et al. 2020, appendix A). Here the
chosen corpus is the outer part, the very text that guides the rater, so that both know as much.
Features and fit are scikit-learn's, of the extra `study`.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import re
import warnings

import numpy as np
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import normalize
from threadpoolctl import threadpool_limits

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.scores import Scores, require_outer
from dr_keras.baselines.selection import folds_of
from dr_keras.data.documents import utf8
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.metrics import area_under_curve
import gin

UNITS = ("words", "bytes")
_WORD = re.compile(r"\w+|[^\w\s]")


@gin.configurable
@dataclasses.dataclass(frozen=True)
class NgramFeatures:
    """Texts -> counts of hashed n-grams: log(1 + count), rows scaled to length 1.

    Attributes:
      unit: "words" (lower case; punctuation marks are words) or "bytes".
      orders: which n.
      buckets: columns; n-grams that hash alike share one.

    Raises:
      ConfigurationError: a setting out of its range.
    """

    unit: str = "words"
    orders: tuple[int, ...] = (1, 2)
    buckets: int = 1 << 16

    def __post_init__(self):
        if self.unit not in UNITS:
            raise ConfigurationError(
                f"NgramFeatures.unit is {self.unit!r}: choose one of {', '.join(UNITS)}."
            )
        if not self.orders or min(self.orders) < 1 or self.buckets < 2:
            raise ConfigurationError(
                f"NgramFeatures: orders {self.orders} must be numbers from 1, and buckets"
                f" ({self.buckets}) at least 2."
            )

    def __call__(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """The features of N texts, [N, buckets]; a text without a unit is a row of zeros."""
        return normalize(self.counts(texts).log1p())

    def counts(self, texts: Sequence[str]) -> sparse.csr_matrix:
        """How many n-grams of N texts fall into each bucket, float64 [N, buckets]."""
        return HashingVectorizer(
            analyzer=self._ngrams, n_features=self.buckets, alternate_sign=False, norm=None
        ).transform(texts)

    def _ngrams(self, text: str) -> Iterator[str]:
        # Words hold no blank, and a byte is one character of Latin-1: n-grams of two n differ.
        if self.unit == "words":
            units, joint = _WORD.findall(utf8(text.lower()).decode()), " "
        else:
            units, joint = utf8(text).decode("latin-1"), ""
        for n in self.orders:
            yield from (joint.join(units[k : k + n]) for k in range(len(units) - n + 1))


def fit_logistic(
    features: sparse.csr_matrix,
    positive: np.ndarray,
    penalty: float = 1e-4,
    steps: int = 300,
    tolerance: float = 1e-4,
) -> LogisticRegression:
    """Logistic regression with balanced classes and a squared penalty on the weights.

    Minimises the mean over both classes of their mean log-loss, plus penalty / 2 |w|^2 (the bias
    is free), by L-BFGS; nothing is random.

    Args:
      features: [rows, columns].
      positive: bool [rows].
      penalty: at least 0; without one, classes that can be told apart have no minimum.
      steps: at most so many.
      tolerance: largest entry of the gradient at which it is done.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: one of the classes is empty.
    """
    if penalty < 0 or steps < 1:
        raise ConfigurationError(
            f"fit_logistic: penalty ({penalty}) must be at least 0 and steps ({steps}) at least 1."
        )
    positive = np.asarray(positive, bool)
    positives = int(positive.sum())
    if not 0 < positives < positive.size:
        raise DataError(
            f"A classifier needs examples of both classes, not {positives} of one and"
            f" {positive.size - positives} of the other."
        )
    # scikit-learn weighs the sum of losses by C, where here their mean has the weight 1.
    model = LogisticRegression(
        C=1 / (penalty * positive.size) if penalty else np.inf,
        class_weight="balanced",
        max_iter=steps,
        tol=tolerance,
    )
    # Vectors are short, and threads that wait for each other take many times as long on busy cores.
    with threadpool_limits(1), warnings.catch_warnings():
        # Who asked for so few steps finds in the facts that all of them were taken.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, positive)


@gin.configurable(denylist=["candidates", "outer", "seed"])
def cross_classifier_scores(
    candidates: Candidates,
    outer: Candidates | None,
    features: Callable[[list[str]], sparse.csr_matrix] | None = None,
    folds: int = 2,
    penalty: float = 1e-4,
    steps: int = 300,
    seed: int = 0,
) -> Scores:
    """Scores every candidate by a classifier that was not trained on its document.

    Candidates and outer examples are cut into folds by document; the classifier of a fold is
    trained on the outer examples (positive) and candidates (negative) of the other folds.

    Args:
      candidates: what to score.
      outer: examples of the outer part.
      features: texts -> a sparse row each; None for `NgramFeatures()`.
      folds: at least 2.
      penalty, steps: see `fit_logistic`.
      seed: of the folds.

    Returns:
      Log-odds of being outer text; facts "held_out_auc", the chance that a held-out outer example
      scores above a candidate of the same fold, mean over folds (0.5 where outer and training text
      cannot be told apart, and the arm is then close to a random one), settings and fit. Its
      operations, which are few, are not counted.

    Raises:
      ConfigurationError: a setting out of its range, or no outer part.
      DataError: too few documents for the folds.
    """
    outer = require_outer(outer, "classifier")
    fold = folds_of(candidates.documents, folds, seed)
    outer_fold = folds_of(outer.documents, folds, seed)
    features = features or NgramFeatures()
    pool, chosen = features(candidates.texts), features(outer.texts)
    scores, areas, taken = np.empty(len(candidates)), [], []
    for number in range(folds):
        learned, known = fold != number, outer_fold != number
        rows = sparse.vstack([chosen[known], pool[learned]], format="csr")
        model = fit_logistic(rows, np.arange(rows.shape[0]) < known.sum(), penalty, steps)
        scores[~learned] = model.decision_function(pool[~learned])
        held_out = model.decision_function(chosen[~known])
        both = np.concatenate([held_out, scores[~learned]])
        areas.append(area_under_curve(both, np.arange(len(both)) < len(held_out)))
        taken.append(int(model.n_iter_[0]))
    facts = {
        "held_out_auc": float(np.mean(areas)),
        "folds": folds,
        "penalty": penalty,
        "buckets": pool.shape[1],
        "outer_examples": len(outer),
        "steps": taken,
    }
    return Scores(scores, facts=facts)
