"""What a step of a `CuratedModel` costs, in floating-point operations, by part.

Counted as everywhere (`dr_keras.training.flops`): matrix products, by formula. A rater that reads
what the model loses on an example costs a forward pass of the model for each that is scored; in a
meta-step, that and, where the meta-gradient follows it, a reverse pass of all updates but the
first.
"""

from collections.abc import Mapping
from typing import NamedTuple

import keras

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import ForwardPasses, told
from dr_keras.models.rater_scores import reads_by_token, state_read
from dr_keras.training.curated.model import CuratedModel
from dr_keras.training.flops import (
    MetaTrainingSize,
    feature_shapes,
    forward_flops,
    meta_training_flops,
    training_flops,
)


class StepFlops(NamedTuple):
    """Operations of one step, on the mean over a long training.

    Attributes:
      training: the model's update.
      scoring: of what is offered, all that the rater reads included.
      meta: a meta-step's share.
    """

    training: float
    scoring: float
    meta: float

    @property
    def total(self) -> float:
        """All of it."""
        return sum(self)


def step_flops(curated: CuratedModel, features: Mapping, reference=None) -> StepFlops:
    """The operations of one step.

    Args:
      features: of the train set, arrays or columns by name.
      reference: the frozen model of a rater that reads "reference_loss".

    Raises:
      ConfigurationError: products that cannot be counted, or an estimator that does not say what it
        costs.
    """
    shapes = feature_shapes(features)
    inner = forward_flops(curated.model, shapes)
    rater = forward_flops(curated.rater, shapes | _state_shapes(curated.rater, shapes))
    read = state_read(curated.rater, shapes)
    known = forward_flops(reference, shapes) if "reference_loss" in read else 0
    seen = inner if "inner_loss" in read else 0
    choice = curated.choice
    training = float(training_flops(inner, choice.size))
    scoring = float((rater + seen + known) * choice.oversized) if choice.scores else 0.0
    if curated.meta_every is None:
        return StepFlops(training, scoring, 0.0)
    length, rows = curated.unroll_length, curated.meta_batch_size
    passes = told(curated.estimator, "forward_passes", length)
    if passes is None:
        raise ConfigurationError(
            f"The estimator {type(curated.estimator).__name__} does not say its forward_passes (see"
            " dr_keras.meta.estimators.facts), so that what it costs is not known."
        )
    if seen:
        backward = 2 * (length - 1) if curated.through_features else 0
        passes = ForwardPasses(passes.inner + length + backward, passes.outer)
    size = MetaTrainingSize(1, length, rows, curated.outer_batch_size)
    meta = meta_training_flops(inner, rater, passes, size)["total"] + known * length * rows
    return StepFlops(training, scoring, meta / curated.meta_every)


def _state_shapes(rater: keras.Model, shapes: Mapping) -> dict:
    """Shapes of what a rater reads beside the examples."""
    found = {}
    for name in state_read(rater, shapes):
        by_token = name != "age" and reads_by_token(rater)
        found[name] = (shapes["tokens"][0] if by_token else (), "float32")
    return found
