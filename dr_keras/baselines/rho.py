"""The reducible-holdout-loss arm: what the train part's model has not learned and could.

RHO-LOSS (Mindermann et al. 2022, "Prioritized Training on Points that are Learnable, Worth
Learning, and Not Yet Learnt", arXiv 2206.07137): the loss under the current model minus
the irreducible loss, which is that under a model of held-out data. The paper selects in every batch
as the model learns; here it is done once, before training, with a model of the train part as the
current one; such a form is among the rivals of CoLoR-Filter (Brandfonbrener et al. 2024).
"""

from dr_keras.baselines.candidates import Candidates
from dr_keras.baselines.reference_models import ReferenceModels, TrainerBuilder
from dr_keras.baselines.scores import Scores
from dr_keras.training.trainers import LanguageModelTrainer
import gin


@gin.configurable(denylist=["candidates", "outer", "seed"])
def rho(
    candidates: Candidates,
    outer: Candidates | None,
    trainer: TrainerBuilder = LanguageModelTrainer,
    seed: int = 0,
) -> Scores:
    """Nats per token under a model of the train part, minus those under one of the outer part.

    Args:
      candidates: of the train part; windows, or documents of windows.
      outer: examples of the outer part.
      trainer: builds the trainer of both models, see `conditional_loss`.
      seed: of initial weights and batches.

    Returns:
      Reducible nats per token, the higher the better; facts as for `conditional_loss`, where
      "after" is the model of the outer part.

    Raises: as for `conditional_loss`.
    """
    models = ReferenceModels(candidates, outer, trainer, seed=seed, scorer="rho")
    current, irreducible = models.prior(), models.of_outer()
    return Scores(
        candidates.token_means(models.nats(current) - models.nats(irreducible)),
        current.training_flops + irreducible.training_flops,
        current.forward_flops + irreducible.forward_flops,
        models.facts(current, irreducible),
    )
