"""Losses that meta-training weighs, by example or by token: `(outputs, batch) -> [B]` or [B, S].

A loss may say how many tokens each of its values stands for:

    @counted_by(lambda batch: tf.math.count_nonzero(batch["tokens"], axis=1, dtype=tf.float32))
    def my_loss(outputs, batch):
        ...

Weights and objectives that count tokens ask `counts_of`. A value whose count is 0 stands for
nothing, such as padding. A loss that says nothing counts 1 for each example.
"""

from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from dr_keras.differentiation.recomputing_scan import recomputing_scan
from dr_keras.errors import ConfigurationError
import gin


def counted_by(counts: Callable) -> Callable:
    """Decorator of a loss: `counts(batch)` is how many tokens each of its values stands for.

    Args:
      counts: a batch, {feature: tensor}, to floating point tensors of the shape of the losses. It
        becomes the attribute `counts` of the loss, above or below `@gin.configurable` alike.
    """

    def mark(loss: Callable) -> Callable:
        loss.counts = counts  # type: ignore[attr-defined]
        return loss

    return mark


def says_counts(loss: Callable) -> Callable | None:
    """The function `counts` that a loss carries, or what it wraps does; None where none does.

    Looks through `functools.partial`, `functools.wraps` and the wrappers that gin makes.
    """
    seen: Any = loss
    while seen is not None:
        if counts := getattr(seen, "counts", None):
            return counts
        seen = getattr(seen, "func", None) or getattr(seen, "__wrapped__", None)
    return None


def counts_of(loss: Callable, batch: Mapping, dtype=tf.float32) -> tf.Tensor:
    """How many tokens each value of a loss stands for: ones [B] unless the loss says otherwise.

    Args:
      loss: `(outputs, batch) -> values`, [B] or [B, S]; it is not called.
      batch: {feature: tensor [B, ...]}.
      dtype: of the counts, that of the values they are multiplied with.

    Returns:
      Tensor of the shape of the loss's values.
    """
    if counts := says_counts(loss):
        return tf.cast(counts(batch), dtype)
    first = tf.convert_to_tensor(next(iter(batch.values())))
    size = first.shape[0]
    return tf.ones([tf.shape(first)[0] if size is None else size], dtype)


def checked_counts(loss: Callable, values: tf.Tensor, batch: Mapping) -> tf.Tensor:
    """`counts_of` values that a loss gave, in their dtype and of their shape.

    Raises:
      ConfigurationError: the values are neither [B] nor [B, S], or the counts have another shape.
    """
    name = loss_name(loss)
    if values.shape.rank not in (1, 2):
        raise ConfigurationError(
            f"The loss {name} gives values of shape {values.shape}: it must give one loss an"
            " example, [B], or one a token, [B, S]."
        )
    counts = counts_of(loss, batch, values.dtype)
    if counts.shape.rank != values.shape.rank or not counts.shape.is_compatible_with(values.shape):
        raise ConfigurationError(
            f"The loss {name} gives values of shape {values.shape}, and counts of shape"
            f" {counts.shape} stand beside them: give it a function of the batch that counts what"
            " each value stands for, with dr_keras.models.losses.counted_by, in the same shape."
        )
    return counts


def loss_name(loss: Callable) -> str:
    """What a message calls a loss."""
    while hasattr(loss, "func"):  # a partial
        loss = loss.func
    return getattr(loss, "__name__", type(loss).__name__)


def token_counts(batch: Mapping) -> tf.Tensor:
    """[B, S], 1.0 where `batch["tokens"]` [B, S] has a token that is predicted, else 0.0.

    Padding (token 0) is not, nor is the first token, before which there is nothing. Where there is
    a `batch["responses"]` [B, S], as of conversations, what is 0 or False there is not, either.
    """
    return tf.cast(_is_predicted(batch), tf.float32)


def target_counts(batch: Mapping) -> tf.Tensor:
    """[B], how many tokens of each row of `batch["tokens"]` [B, S] are predicted."""
    return tf.reduce_sum(token_counts(batch), axis=1)


def _is_predicted(batch: Mapping) -> tf.Tensor:
    tokens = tf.convert_to_tensor(batch["tokens"])
    found = tf.logical_and(tf.range(_width(tokens))[None, :] > 0, tf.not_equal(tokens, 0))
    if "responses" in batch:
        found = tf.logical_and(found, tf.cast(batch["responses"], tf.bool))
    return found


def _width(tokens: tf.Tensor) -> int | tf.Tensor:
    return tokens.shape[1] or tf.shape(tokens)[1]


@gin.configurable
@counted_by(target_counts)
def next_token_loss(outputs, batch: dict, chunk: int = 256) -> tf.Tensor:
    """Mean negative log-likelihood per real next token, in nats.

    Targets are the tokens shifted by one with a mask on the last position instead of a slice of
    the logits: under XLA's second-order tracing a slice costs a dynamic-update-slice of the size
    of the logits.

    Args:
      outputs: logits [B, S, V], floating point; or a language model's {"hidden": [B, S, D],
        "unembedding": [V, D]}, of which logits are made and made again, `chunk` positions at a
        time, so that [B, S, V] is never held.
      batch: {"tokens": int32 [B, S]}, 0 is padding; of conversations also "responses" [B, S], 1
        or True at the tokens that count, those of responses.
      chunk: positions of the batch at a time, for outputs of the second kind; of the divisors of
        B x S the largest that is not above it is taken. All at once where B or S is not known while
        tracing.

    Returns:
      [B], the dtype of the logits. A row without any target (padding only, or one token) has
      loss 0 and gradient 0. `counts` [B] are the numbers of targets.
    """
    sums, counts = next_token_sums(outputs, batch, chunk)
    return sums / tf.maximum(counts, tf.ones_like(counts))


def next_token_sums(outputs, batch: dict, chunk: int = 256) -> tuple[tf.Tensor, tf.Tensor]:
    """Summed negative log-likelihood [B] and number of targets [B] of `next_token_loss`."""
    surprise, real = _next_surprise(outputs, batch, chunk)
    return tf.reduce_sum(surprise, axis=1), tf.reduce_sum(real, axis=1)


@gin.configurable
@counted_by(token_counts)
def token_loss(outputs, batch: dict, chunk: int = 256) -> tf.Tensor:
    """Negative log-likelihood of each token given those before it, in nats.

    Args:
      outputs, batch, chunk: as for `next_token_loss`, of which these are the parts.

    Returns:
      [B, S], the dtype of the logits: entry j is the loss of token j. It is 0, and so is its
      gradient, for the first token and for padding, whose `counts` [B, S] are 0; other tokens
      count 1.
    """
    # A roll and no slice, for the reason given above; the last position, which comes first, is 0.
    return tf.roll(_next_surprise(outputs, batch, chunk)[0], shift=1, axis=1)


def _next_surprise(outputs, batch: dict, chunk: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Negative log-likelihood of the token after each, and whether there is one: [B, S] each."""
    targets = tf.roll(batch["tokens"], shift=-1, axis=1)
    if isinstance(outputs, dict):
        surprise = _chunked_surprise(outputs["hidden"], outputs["unembedding"], targets, chunk)
    else:
        surprise = _surprise(outputs, targets)
    # The first token, which comes round again, is none that is predicted.
    real = tf.roll(tf.cast(_is_predicted(batch), surprise.dtype), shift=-1, axis=1)
    return surprise * real, real


def _surprise(logits: tf.Tensor, targets: tf.Tensor) -> tf.Tensor:
    """Negative log-likelihood [...] of `targets` [...] under logits [..., V]."""
    chosen = tf.reduce_sum(
        logits * tf.one_hot(targets, logits.shape[-1], dtype=logits.dtype), axis=-1
    )
    return tf.reduce_logsumexp(logits, axis=-1) - chosen


def _chunked_surprise(hidden, unembedding, targets, chunk: int) -> tf.Tensor:
    """`_surprise` [B, S] of the logits hidden @ unembedding^T, a chunk of positions at a time."""
    if chunk < 1:
        raise ValueError(f"The loss's chunk is {chunk}: it must be at least 1 position")
    shape = targets.shape
    positions = shape.num_elements()

    def step(carry, x, shared):
        logits = tf.matmul(x[0], shared[0], transpose_b=True)
        logits = tf.cast(logits, tf.float64 if logits.dtype == tf.float64 else tf.float32)
        return [], [_surprise(logits, x[1])]

    if positions is None:  # a graph that is given sizes later, such as a server's: no such loop
        return step([], [hidden, targets], [unembedding])[1][0]
    size = next(n for n in range(min(chunk, positions), 0, -1) if positions % n == 0)

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
    """Squared error of outputs [B] or [B, 1] against `batch["target"]` [B]; [B]."""
    return tf.square(_residual(outputs, batch))


@gin.configurable
def huber_loss(outputs: tf.Tensor, batch: dict, delta: float = 1.0) -> tf.Tensor:
    """Half the squared error, but linear where it is above `delta` (Huber, 1964); [B].

    Args:
      outputs: [B] or [B, 1].
      batch: {"target": [B]}.
      delta: above 0.

    Raises:
      ConfigurationError: `delta` is not above 0.
    """
    if not delta > 0:
        raise ConfigurationError(f"huber_loss.delta is {delta}: it must be above 0.")
    error = tf.abs(_residual(outputs, batch))
    inside = tf.minimum(error, tf.constant(delta, error.dtype))
    return inside * (error - inside / 2)


@gin.configurable
def quantile_loss(outputs: tf.Tensor, batch: dict, quantile: float = 0.5) -> tf.Tensor:
    """The loss that a quantile of the target makes least (Koenker and Bassett, 1978); [B].

    Its second derivative is 0, so it is for the outer level, or for inner models whose layers
    bend.

    Args:
      outputs: [B] or [B, 1].
      batch: {"target": [B]}.
      quantile: in (0, 1): an output that is too low costs this times the error, one that is too
        high 1 minus this.

    Raises:
      ConfigurationError: `quantile` is not in (0, 1).
    """
    if not 0 < quantile < 1:
        raise ConfigurationError(f"quantile_loss.quantile is {quantile}: it must be in (0, 1).")
    missing = _residual(outputs, batch)
    return tf.maximum(quantile * missing, (quantile - 1) * missing)


def _residual(outputs: tf.Tensor, batch: dict) -> tf.Tensor:
    """Targets less outputs, [B]."""
    target = tf.cast(batch["target"], outputs.dtype)
    return tf.reshape(target, [-1]) - tf.reshape(outputs, [-1])
