"""The reference-loss arm: what is likely under a model that knows the outer part.

The second half of `conditional_loss` (Brandfonbrener et al. 2024, arXiv 2406.10670) by itself: the
model is trained on the train part and then tuned on the outer part, and scores by how likely it
finds a text; with a model of chosen text alone this is how CCNet filters (Wenzek et al. 2020, arXiv
1911.00359). It is the tuned model here, because an outer part is small: what a model learns from it
alone is poor, and `rho` has that one. What is easy for every model, such as repetition, ranks high.
"""

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder, tuning_trainer
from dr_keras.baselines.scores import Scores
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def reference_loss(
    candidates: Candidates,
    outer: Candidates | None,
    trainer: TrainerBuilder = LanguageModelTrainer,
    tuner: TrainerBuilder = tuning_trainer,
    seed: int = 0,
) -> Scores:
    """Minus the nats per token under a model of the train part that was tuned on the outer part.

    Args: as for `conditional_loss`, whose models it uses where the settings are the same.

    Returns:
      Minus nats per token, the higher the better; facts as for `conditional_loss`.

    Raises: as for `conditional_loss`.
    """
    models = ReferenceModels(candidates, outer, trainer, tuner, seed, "reference_loss")
    before, after = models.prior(), models.tuned()
    return Scores(
        candidates.token_means(-models.nats(after)),
        after.training_flops,
        after.forward_flops,
        models.facts(before, after),
    )
