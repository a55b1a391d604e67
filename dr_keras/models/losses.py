"""Per-example losses: `(model_outputs, batch) -> [B]`, what meta-training weighs."""

import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan
import gin


@gin.configurable
def next_token_loss(outputs, batch: dict, chunk: int = 256) -> tf.Tensor:
    """Mean negative log-likelihood per real next token, in nats.

    Targets are the tokens shifted by one with a mask on the last position instead of a slice of
    the logits: under XLA's second-order tracing a slice costs a dynamic-update-slice of the size
    of the logits.

    Args:
      outputs: logits [B, S, V], floating point; or a language model's {"hidden": [B, S, D],
        "unembedding": [V, D]}, of which logits are made and made again, `chunk` positions at a
        time, so that [B, S, V] is never held.
      batch: {"tokens": int32 [B, S]}, 0 is padding.
      chunk: positions of the batch at a time, for outputs of the second kind; of the divisors of
        B x S the largest that is not above it is taken.

    Returns:
      [B], the dtype of the logits. A row without any target (padding only, or one token) has
      loss 0 and gradient 0.
    """
    sums, counts = next_token_sums(outputs, batch, chunk)
    return sums / tf.maximum(counts, tf.ones_like(counts))


def next_token_sums(outputs, batch: dict, chunk: int = 256) -> tuple[tf.Tensor, tf.Tensor]:
    """Summed negative log-likelihood [B] and number of targets [B] of `next_token_loss`."""
    tokens = batch["tokens"]
    length = tokens.shape[1]
    targets = tf.roll(tokens, shift=-1, axis=1)
    # A target counts where it is a real token and not the first one come round again.
    real = tf.logical_and(tf.range(length)[None, :] < length - 1, tf.not_equal(targets, 0))
    if isinstance(outputs, dict):
        surprise = _chunked_surprise(outputs["hidden"], outputs["unembedding"], targets, chunk)
    else:
        surprise = _surprise(outputs, targets)
    real = tf.cast(real, surprise.dtype)
    return tf.reduce_sum(surprise * real, axis=1), tf.reduce_sum(real, axis=1)


def _surprise(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood [...] of `targets` [...] under logits [..., V]."""
    chosen = tf.reduce_sum(
        logits * tf.one_hot(targets, logits.shape[-1], dtype=logits.dtype), axis=-1
    )
    return tf.reduce_logsumexp(logits, axis=-1) - chosen


def _chunked_surprise(hidden, unembedding, targets, chunk: int) -> tf.Tensor:
    """`_surprise` [B, S] of the logits hidden @ unembedding^T, a chunk of positions at a time."""
    if chunk < 1:
        raise ValueError(f"next_token_loss: chunk is {chunk}: it must be at least 1 position")
    shape = targets.shape
    positions = shape.num_elements()
    if positions is None:
        raise ValueError(
            "next_token_loss: chunked logits need batches of a fixed size: the number of rows or"
            f" tokens of {shape} is not known while tracing"
        )
    size = next(n for n in range(min(chunk, positions), 0, -1) if positions % n == 0)

    def step(carry, x, shared):
        logits = tf.matmul(x[0], shared[0], transpose_b=True)
        logits = tf.cast(logits, tf.float64 if logits.dtype == tf.float64 else tf.float32)
        return [], [_surprise(logits, x[1])]

    count = positions // size
    _, (surprise,) = recomputing_scan(
        step,
        [],
        [tf.reshape(hidden, [count, size, hidden.shape[-1]]), tf.reshape(targets, [count, size])],
        [unembedding],
        count,
    )
    return tf.reshape(surprise, shape)


@gin.configurable
def classification_loss(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Cross-entropy of logits [B, C] against batch["label"] int [B]; [B], in nats."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=outputs)


@gin.configurable
def squared_error(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Squared error of outputs [B] or [B, 1] against batch["target"] [B]; [B]."""
    target = tf.cast(batch["target"], outputs.dtype)
    return tf.square(tf.reshape(outputs, [-1]) - tf.reshape(target, [-1]))
