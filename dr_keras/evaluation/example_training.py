"""Training on a loss that is a mean over examples: classifiers, regressions, any user's model."""

from collections.abc import Callable, Mapping

import gin
import keras
import tensorflow as tf

from dr_keras.evaluation.repeated_training import Metric, RepeatedTrainer


@gin.configurable
class ExampleTrainer(RepeatedTrainer):
    """A RepeatedTrainer of a per-example loss, the same that meta-training weighs.

    Args:
        model_fn: builds a fresh Keras model from a batch's features to its outputs.
        per_example_loss: (outputs, batch) -> losses [B].
        metrics: name -> (outputs, batch) -> a figure of each example [B], such as {"accuracy":
            @correct}; their means over the test set at the end are reported.
        others: as for `RepeatedTrainer`.
    """

    def __init__(
        self,
        model_fn: Callable[[], keras.Model] = gin.REQUIRED,
        per_example_loss: Callable = gin.REQUIRED,
        metrics: Mapping[str, Metric] | None = None,
        steps: int = 400,
        batch_size: int = 128,
        learning_rate: float = 3e-3,
        warmup_steps: int | None = None,
        final_learning_rate_share: float = 0.1,
        weight_decay: float = 0.0,
        clip_norm: float | None = 1.0,
        evaluate_every: int | None = None,
        evaluation_batch_size: int | None = None,
        steps_per_execution: int | None = None,
        jit_compile: bool = True,
    ):
        def loss_sums(outputs, batch):
            losses = tf.cast(per_example_loss(outputs, batch), tf.float32)
            return losses, tf.ones_like(losses)

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
            metrics,
        )


@gin.configurable
def correct(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """1.0 where the largest of the logits [B, C] is at batch["label"], else 0.0; float32 [B]."""
    label = tf.cast(batch["label"], tf.int64)
    return tf.cast(tf.equal(tf.argmax(outputs, axis=-1), label), tf.float32)
