"""The classifier arm: a linear n-gram model that tells the outer text from the training text.

What most filters of web text are: logistic regression on hashed n-grams, trained to know a chosen
corpus from the pool, its logit the score (GPT-3's filter: Brown et al. 2020, appendix A). Here the
chosen corpus is the outer part, the very text that guides the rater, so that both know as much.
"""

from collections.abc import Callable
import dataclasses

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.ngrams import NgramFeatures, SparseRows
from dr_keras.baselines.selection import Selection, folds_of, select_by_score
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal
from dr_keras.training.metrics import area_under_curve
import gin


@dataclasses.dataclass(frozen=True, eq=False)
class LogisticModel:
    """A linear model of the logit.

    Attributes:
      weights: float64 [columns].
      bias: of the logit.
      steps: how many the fit took.
      gradient: the largest entry of the gradient where it stopped.
    """

    weights: np.ndarray
    bias: float
    steps: int
    gradient: float

    def logits(self, features: SparseRows) -> np.ndarray:
        """The log-odds of the positive class, float64 [rows]."""
        return features.times(self.weights) + self.bias


def fit_logistic(
    features: SparseRows,
    positive: np.ndarray,
    penalty: float = 1e-4,
    steps: int = 300,
    tolerance: float = 1e-4,
) -> LogisticModel:
    """Logistic regression with balanced classes and a squared penalty on the weights.

    Minimises the mean over both classes of their mean log-loss, plus penalty / 2 |w|^2 (the bias
    is free), by Nesterov's accelerated gradient with restarts. Rows have a length of at most 1, so
    the step size is known and nothing is random.

    Args:
      features: rows of length at most 1.
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
    share = np.where(positive, 0.5 / positives, 0.5 / (positive.size - positives))
    # A row and its constant have a squared length of at most 2, the logistic curve at most 1/4.
    rate = 1.0 / (0.5 + penalty)
    weights, bias = np.zeros(features.shape[1]), 0.0
    ahead, ahead_bias, momentum = weights, bias, 1.0
    largest = np.inf
    for step in range(1, steps + 1):
        logits = features.times(ahead) + ahead_bias
        error = share * (_sigmoid(logits) - positive)
        gradient = features.transposed_times(error) + penalty * ahead
        bias_gradient = float(error.sum())
        largest = max(float(np.abs(gradient).max()), abs(bias_gradient))
        if largest <= tolerance:
            return LogisticModel(ahead, ahead_bias, step, largest)
        new, new_bias = ahead - rate * gradient, ahead_bias - rate * bias_gradient
        uphill = gradient @ (new - weights) + bias_gradient * (new_bias - bias) > 0
        following = 1.0 if uphill else (1 + np.sqrt(1 + 4 * momentum**2)) / 2
        speed = 0.0 if uphill else (momentum - 1) / following
        ahead, ahead_bias = new + speed * (new - weights), new_bias + speed * (new_bias - bias)
        weights, bias, momentum = new, new_bias, following
    return LogisticModel(weights, bias, steps, largest)


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return 0.5 * (1 + np.tanh(0.5 * logits))


@dataclasses.dataclass(frozen=True, eq=False)
class ClassifierScores:
    """What the classifiers say of each candidate.

    Attributes:
      scores: float64 [N], log-odds of being outer text.
      held_out_auc: chance that a held-out outer example scores above a candidate of the same fold,
        mean over folds; 0.5 where outer and training text cannot be told apart, and the arm is then
        close to a random one.
      facts: settings and fit, JSON-able.
    """

    scores: np.ndarray
    held_out_auc: float
    facts: dict


@gin.configurable(denylist=["candidates", "outer", "seed"])
def cross_classifier_scores(
    candidates: Candidates,
    outer: Candidates,
    features: Callable[[list[str]], SparseRows] | None = None,
    folds: int = 2,
    penalty: float = 1e-4,
    steps: int = 300,
    seed: int = 0,
) -> ClassifierScores:
    """Scores every candidate by a classifier that was not trained on its document.

    Candidates and outer examples are cut into folds by document; the classifier of a fold is
    trained on the outer examples (positive) and candidates (negative) of the other folds.

    Args:
      candidates: what to score.
      outer: examples of the outer part.
      features: texts -> rows of length at most 1; None for `NgramFeatures()`.
      folds: at least 2.
      penalty, steps: see `fit_logistic`.
      seed: of the folds.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: too few documents for the folds.
    """
    fold = folds_of(candidates.documents, folds, seed)
    outer_fold = folds_of(outer.documents, folds, seed)
    features = features or NgramFeatures()
    pool, chosen = features(candidates.texts), features(outer.texts)
    scores, areas, models = np.empty(len(candidates)), [], []
    for number in range(folds):
        learned, known = fold != number, outer_fold != number
        rows = _stacked(chosen.take(known), pool.take(learned))
        model = fit_logistic(rows, np.arange(rows.shape[0]) < known.sum(), penalty, steps)
        scores[~learned] = model.logits(pool.take(~learned))
        held_out = model.logits(chosen.take(~known))
        both = np.concatenate([held_out, scores[~learned]])
        areas.append(area_under_curve(both, np.arange(len(both)) < len(held_out)))
        models.append(model)
    facts = {
        "folds": folds,
        "penalty": penalty,
        "buckets": pool.shape[1],
        "outer_examples": len(outer),
        "steps": [model.steps for model in models],
        "gradient": [model.gradient for model in models],
    }
    return ClassifierScores(scores, float(np.mean(areas)), facts)


def _stacked(first: SparseRows, second: SparseRows) -> SparseRows:
    return SparseRows(
        np.concatenate([first.row, second.row + first.shape[0]]),
        np.concatenate([first.column, second.column]),
        np.concatenate([first.value, second.value]),
        (first.shape[0] + second.shape[0], first.shape[1]),
    )


def classifier_arm(
    candidates: Candidates,
    found: ClassifierScores,
    discard_fraction: Decimal,
    seed: int = 0,
    arm: str = "classifier",
) -> Selection:
    """Keeps what looks most like outer text."""
    facts = {"held_out_auc": found.held_out_auc, "classifier": found.facts}
    return select_by_score(arm, candidates, found.scores, discard_fraction, seed, facts=facts)
