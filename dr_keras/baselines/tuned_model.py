"""A model trained on the train part and tuned on the outer part: weights for a rater to begin with.

It scores nothing, so that a small one costs seconds beside a teacher that reads every window.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder, tuning_trainer
from dr_keras.baselines.scores import Scores
from dr_keras.training.trainers import LanguageModelTrainer
import gin


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
    models = ReferenceModels(candidates, outer, trainer, tuner, seed, "tuned_model")
    tuned = models.tuned()
    return Scores(
        np.full(len(candidates), np.nan),
        tuned.training_flops,
        facts={"outer_nats": tuned.outer_nats},
        weights=models.named_weights(tuned),
    )
