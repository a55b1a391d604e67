"""Training of language models for comparisons; see `dr_keras.evaluation.repeated_training`."""

from collections.abc import Callable

import gin
import keras

from dr_keras.evaluation.repeated_training import (
    LossSums, RepeatedTrainer, TrainingRecord, count_targets,
)
from dr_keras.models.losses import next_token_sums

__all__ = ["LanguageModelTrainer", "TrainingRecord", "count_targets"]


@gin.configurable
class LanguageModelTrainer(RepeatedTrainer):
    """A RepeatedTrainer of models from {"tokens": int32 [B, S]} to logits [B, S, V].

    Args: as for `RepeatedTrainer`; its loss is `next_token_sums`, in nats per real token.
    """

    def __init__(
        self,
        model_fn: Callable[[], keras.Model] = gin.REQUIRED,
        steps: int = 400,
        batch_size: int = 32,
        learning_rate: float = 3e-3,
        warmup_steps: int | None = None,
        final_learning_rate_share: float = 0.1,
        weight_decay: float = 0.1,
        clip_norm: float | None = 1.0,
        evaluate_every: int | None = None,
        evaluation_batch_size: int | None = None,
        steps_per_execution: int | None = None,
        jit_compile: bool = True,
        loss_sums: LossSums = next_token_sums,
    ):
        super().__init__(
            model_fn,
            loss_sums,
            steps,
            batch_size,
            learning_rate,
            warmup_steps,
            final_learning_rate_share,
            weight_decay,
            clip_norm,
            evaluate_every,
            evaluation_batch_size,
            steps_per_execution,
            jit_compile,
        )
