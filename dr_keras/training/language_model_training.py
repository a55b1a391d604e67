"""Training of language models for comparisons; see `dr_keras.training.repeated_training`."""

from dr_keras.models.losses import next_token_sums
from dr_keras.training.repeated_training import RepeatedTrainer, TrainingRecord, count_targets
import gin

__all__ = ["LanguageModelTrainer", "TrainingRecord", "count_targets"]


@gin.configurable
class LanguageModelTrainer(RepeatedTrainer):
    """A RepeatedTrainer of models from {"tokens": int32 [B, S]} to logits [B, S, V].

    Args: as for `RepeatedTrainer`; the loss is `next_token_sums`, in nats per real token.
    """

    default_loss_sums = staticmethod(next_token_sums)
