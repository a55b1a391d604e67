"""The conditional-loss arm: what becomes likelier once a model has seen the outer part.

CoLoR-Filter (Brandfonbrener et al. 2024, "CoLoR-Filter: Conditional Loss Reduction Filtering for
Targeted Language Model Pre-training", arXiv 2406.10670): from the posterior of the data given the
target follows -log p(x | prior) + log p(x | prior tuned on the target), the reduction of the loss.
The paper keeps the examples with the largest reduction, of sequences of one length; where lengths
differ it is per token here, so that length is not what decides.
"""

import numpy as np

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder, tuning_trainer
from dr_keras.baselines.scores import Scores
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def conditional_loss(
    candidates: Candidates,
    outer: Candidates | None,
    trainer: TrainerBuilder = LanguageModelTrainer,
    tuner: TrainerBuilder = tuning_trainer,
    by_token: bool = False,
    seed: int = 0,
) -> Scores:
    """Nats per token under a model of the train part, minus those once it is tuned on the outer.

    Args:
      candidates: of the train part; windows, or documents of windows.
      outer: examples of the outer part.
      trainer: builds the trainer of the model. Its size and steps are bound under a scope, as in
        `conditional_loss.trainer = @scorer/LanguageModelTrainer`.
      tuner: builds, from `model_fn=`, the trainer of the run on the outer part.
      by_token: whether the scores come with what single tokens add and with the weights of the
        tuned model, for a rater that is fitted to them.
      seed: of initial weights and batches.

    Returns:
      Nats per token saved by the outer text, the higher the better; facts "nats_before",
      "nats_after", "outer_nats_before", "outer_nats_after" (means per token, of the pool and of
      the outer part, which the tuned model was trained on) and "outer_examples".

    Raises:
      ConfigurationError: no outer part, or a setting out of its range.
      DataError: candidates without tokens, or fewer examples in a part than a batch.
    """
    models = ReferenceModels(candidates, outer, trainer, tuner, seed, "conditional_loss")
    before, after = models.prior(), models.tuned()
    tokens = weights = None
    if by_token:
        tokens = (models.token_nats(before) - models.token_nats(after)).astype(np.float16)
        weights = models.named_weights(after)
    return Scores(
        candidates.token_means(models.nats(before) - models.nats(after)),
        after.training_flops,
        before.forward_flops + after.forward_flops,
        models.facts(before, after),
        tokens,
        weights,
    )
