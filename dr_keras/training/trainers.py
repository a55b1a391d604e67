"""Trainers by the loss: of language models, and of whatever has a loss an example.

See `dr_keras.training.repeated_training` for what they have in common.
"""

from collections.abc import Callable

import tensorflow as tf

from dr_keras.models.losses import next_token_sums
from dr_keras.training.repeated_training import RepeatedTrainer
import gin


@gin.configurable
class LanguageModelTrainer(RepeatedTrainer):
    """A RepeatedTrainer of models from {"tokens": int32 [B, S]} to logits [B, S, V].

    Args: as for `RepeatedTrainer`; the loss is `next_token_sums`, in nats per real token.
    """

    default_loss_sums = staticmethod(next_token_sums)


@gin.configurable
def example_sums(
    outputs, batch: dict, per_example_loss: Callable = gin.REQUIRED
) -> tuple[tf.Tensor, tf.Tensor]:
    """Losses (outputs, batch) -> [B] as sums over one target an example: float32 [B], ones [B]."""
    losses = tf.cast(per_example_loss(outputs, batch), tf.float32)
    return losses, tf.ones_like(losses)


@gin.configurable
class ExampleTrainer(RepeatedTrainer):
    """A RepeatedTrainer of a per-example loss, the same that meta-training weighs: classifiers,
    regressions, any user's model.

    Args: as for `RepeatedTrainer`, whose loss is `example_sums`. `metrics` are such as {"accuracy":
        @correct}; their means over the test set at the end are reported.
    """

    default_loss_sums = staticmethod(example_sums)


@gin.configurable
def correct(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """1.0 where the largest of the logits [B, C] is at batch["label"], else 0.0; float32 [B]."""
    label = tf.cast(batch["label"], tf.int64)
    return tf.cast(tf.equal(tf.argmax(outputs, axis=-1), label), tf.float32)
