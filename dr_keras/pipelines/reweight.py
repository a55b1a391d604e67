"""Weights instead of a choice: the softmax of scores as Keras' `sample_weight`."""

from collections.abc import Callable
import math

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines import stages as pipelines
from dr_keras.rating.fractions import oversized_batch
import gin


@gin.configurable
def reweight(
    rater: pipelines.Rater,
    batch_size: int = gin.REQUIRED,
    temperature: float = 1.0,
    key: pipelines.Key = None,
    batched: bool | None = None,
    drop_remainder: bool = False,
    num_parallel_calls: int | None = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """For `dataset.apply(reweight(...))`: batches with the weights that meta-training gives them.

    The weights are softmax(scores / temperature) over the batch (the paper, equation 2), times the
    number of examples in it: their mean is 1, so that a loss averaged over the batch, as Keras
    does, keeps its size. Nothing is dropped. See `batch_weights` for scores that are not finite.

    Elements come out as Keras' `fit` takes them: (x, y) becomes (x, y, weights), (x, y, given)
    becomes (x, y, given * weights), and anything else, x, becomes (x, None, weights).

    Args:
      rater: as for `top_k`; frozen to constants likewise.
      batch_size: B, examples in a batch; the softmax is over each batch that comes out.
      temperature: scores are divided by it; the higher, the more even the weights. 1 in the paper.
      key: what of the elements the rater takes, as for `top_k`.
      batched: whether elements are batches; None finds out, as for `top_k`.
      drop_remainder: whether a last batch of fewer examples is left out. If it is kept, the mean of
        its weights is 1 too, and shapes are not static.
      num_parallel_calls: as for `top_k`.

    Returns:
      A function from dataset to dataset; weights are float32 [B].

    Raises:
      ConfigurationError: batch size or temperature out of range; the rater cannot score the
        elements, or does not give one score an example; a tuple that Keras would not take.
      ArtefactError: there is no rater at the path given.
    """
    batch_size = oversized_batch(batch_size, 0)  # checks that it is a size
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigurationError(f"temperature is {temperature!r}: give a number above 0.")
    rater = pipelines.resolve_rater(rater)

    def step(batch, outputs):
        weights = batch_weights(outputs["score"], temperature)
        if not isinstance(batch, tuple):
            return batch, None, weights
        x, y, given = (*batch, None, None)[:3]
        return x, y, weights if given is None else _product(given, weights)

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        spec = dataset.element_spec
        if isinstance(spec, tuple) and len(spec) > 3:
            raise ConfigurationError(
                f"Elements are tuples of {len(spec)}, and Keras trains on x, (x, y) or"
                " (x, y, sample_weight): map the dataset to one of these."
            )
        batches = pipelines.scored_batches(dataset, rater, key, batch_size, batched, drop_remainder)
        return batches.map(step, num_parallel_calls)

    return apply


def batch_weights(scores: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """N * softmax(scores / temperature): weights float32 [N] with mean 1.

    NaN counts as minus infinity, whose weight is 0. Where every score does, nothing is known and
    all weights are 1; scores of plus infinity share all the weight.
    """
    scores = pipelines.without_nan(scores)
    best = tf.reduce_max(scores)
    # infinity minus itself is not 0
    below = tf.where(scores == best, tf.zeros_like(scores), (scores - best) / temperature)
    raw = tf.exp(below)
    return raw * (tf.cast(tf.size(scores), scores.dtype) / tf.reduce_sum(raw))


def _product(given: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """Weights an example times weights given [N, ...], an example's or finer ones."""
    given = tf.cast(given, weights.dtype)
    ones = tf.ones(tf.maximum(tf.rank(given) - 1, 0), tf.int32)
    shaped = tf.reshape(weights, tf.concat([tf.shape(weights), ones], 0))
    return tf.ensure_shape(given * shaped, given.shape)
