"""A model trained on the train part and tuned on the outer part: weights for a rater to begin with.

It scores nothing, so that a small one costs seconds beside a teacher that reads every window.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.reference_models import TrainerBuilder, tuning_trainer
from dr_keras.baselines.scores import Scores, require_outer, require_windows
from dr_keras.training import flops
from dr_keras.training.trainers import LanguageModelTrainer
import gin

_WATCHED = 256  # examples of the outer part whose loss is followed


@gin.configurable(denylist=["candidates", "outer", "seed"])
def tuned_model(
    candidates: Candidates,
    outer: Candidates | None,
    trainer: TrainerBuilder = LanguageModelTrainer,
    tuner: TrainerBuilder = tuning_trainer,
    seed: int = 0,
) -> Scores:
    """The weights of a language model that knows the train part and then the outer part.

    Args:
      candidates: of the train part.
      outer: of the outer part.
      trainer, tuner: as for `conditional_loss`; bound under a scope of their own, as in
        `tuned_model.trainer = @beginner/LanguageModelTrainer`.
      seed: of initial weights and batches.

    Returns:
      Scores without a value, with `weights`; facts "outer_nats": per token of the outer part.

    Raises:
      ConfigurationError: no outer part.
      DataError: candidates without tokens, or fewer examples in a part than a batch.
    """
    outer = require_outer(outer, "tuned_model")
    for given in (candidates, outer):
        require_windows(given, "tuned_model")
    examples, watched = candidates.examples, outer.examples.thinned(_WATCHED)
    first = trainer()
    first.train(examples, watched, seed)
    second = tuner(model_fn=first.model_fn)
    record = second.train(outer.examples, watched, seed, initial=first.model.get_weights())
    forward = flops.forward_flops(first.model, flops.feature_shapes(examples.features))
    updates = sum(one.steps * one.batch_size for one in (first, second))
    return Scores(
        np.full(len(candidates), np.nan),
        float(flops.training_flops(forward, updates)),
        facts={"outer_nats": record.curve[-1][1]},
        weights={weight.path: np.asarray(weight) for weight in second.model.weights},
    )
