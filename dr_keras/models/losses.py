"""Per-example losses: `(model_outputs, batch) -> [B]`, what meta-training weighs."""

import gin
import tensorflow as tf


@gin.configurable
def next_token_loss(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Mean negative log-likelihood per real next token, in nats.

    Targets are the tokens shifted by one with a mask on the last position instead of a slice of
    the logits: under XLA's second-order tracing a slice costs a dynamic-update-slice of the size
    of the logits.

    Args:
      outputs: logits [B, S, V], floating point.
      batch: {"tokens": int32 [B, S]}, 0 is padding.

    Returns:
      [B], the dtype of the logits. A row without any target (padding only, or one token) has
      loss 0 and gradient 0.
    """
    sums, counts = next_token_sums(outputs, batch)
    return sums / tf.maximum(counts, tf.ones_like(counts))


def next_token_sums(outputs: tf.Tensor, batch: dict) -> tuple[tf.Tensor, tf.Tensor]:
    """Summed negative log-likelihood [B] and number of targets [B] of `next_token_loss`."""
    tokens = batch["tokens"]
    length = tokens.shape[1]
    targets = tf.roll(tokens, shift=-1, axis=1)
    # A target counts where it is a real token and not the first one come round again.
    real = tf.logical_and(tf.range(length)[None, :] < length - 1, tf.not_equal(targets, 0))
    real = tf.cast(real, outputs.dtype)
    log_normaliser = tf.reduce_logsumexp(outputs, axis=-1)
    chosen = tf.reduce_sum(
        outputs * tf.one_hot(targets, outputs.shape[-1], dtype=outputs.dtype), axis=-1
    )
    return (
        tf.reduce_sum((log_normaliser - chosen) * real, axis=1),
        tf.reduce_sum(real, axis=1),
    )


@gin.configurable
def classification_loss(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Cross-entropy of logits [B, C] against batch["label"] int [B]; [B], in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=batch["label"], logits=outputs
    )


@gin.configurable
def squared_error(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Squared error of outputs [B] or [B, 1] against batch["target"] [B]; [B]."""
    target = tf.cast(batch["target"], outputs.dtype)
    return tf.square(tf.reshape(outputs, [-1]) - tf.reshape(target, [-1]))
