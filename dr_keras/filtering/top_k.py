"""Batch top-K inside an input pipeline: score an oversized batch, keep its best examples."""

from collections.abc import Callable
import math

import gin
import tensorflow as tf

from dr_keras.filtering.fractions import Decimal, oversized_batch
from dr_keras.filtering.frozen import freeze


@gin.configurable
def top_k(
    rater: Callable,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    key: Callable | None = None,
    emit_scores: bool = False,
    batched: bool = False,
    drop_remainder: bool = True,
    num_parallel_calls: int = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """For `dataset.apply(top_k(...))`: batches of the B best of every B_up examples.

    B_up is the exact ceiling of B / (1 - f) (`fractions.oversized_batch`). Within a batch the kept
    examples stay in their order. Of equal scores the earlier example is kept; a NaN score ranks
    with minus infinity, below every other. With f = 0 every example is kept.

    The rater is frozen to constants when the transformation is applied, so that iterators over the
    result can be checkpointed (where the dataset's own can) and later training of the rater does
    not show here: apply again after it.

    Args:
      rater: what gives scores: a loaded rater, a Keras model, or any function from a batch of
        features (structure as `key` returns it) to scores [N] or a dict with "score".
      discard_fraction: f in [0, 1), the share of examples to drop; the decimal counts, not its
        binary float.
      batch_size: B, examples in a batch that comes out.
      key: batch of elements -> what the rater takes, for datasets of nested structures, for example
        `lambda batch: {"tokens": batch["tokens"]}`. None gives the rater the whole element.
      emit_scores: whether elements become `(element, score)` with score float32 [B].
      batched: whether the dataset's elements are batches already (of any size, from which the
        oversized ones are made anew) and not examples.
      drop_remainder: whether a last batch of fewer than B_up examples is left out. If it is kept,
        the same share of it is, rounded up, and shapes are no longer static.
      num_parallel_calls: batches scored at once; tf.data gives each one thread, so one at a time
        leaves cores idle. The order of the output does not depend on it.

    Returns:
      A function from dataset to dataset.

    Raises:
      ConfigurationError: fraction or batch size out of range; not one score an example.
    """
    oversized = oversized_batch(batch_size, discard_fraction)
    key = key or (lambda element: element)

    def select(element, score: Callable):
        scores = score(key(element))
        if drop_remainder:
            kept = batch_size
        else:
            kept = -(-tf.shape(scores)[0] * batch_size // oversized)
        indices = best_in_order(scores, kept)
        element = tf.nest.map_structure(lambda part: tf.gather(part, indices), element)
        return (element, tf.gather(scores, indices)) if emit_scores else element

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        regroup = dataset.rebatch if batched else dataset.batch
        dataset = regroup(oversized, drop_remainder=drop_remainder)
        spec = tf.function(key, autograph=False).get_concrete_function(dataset.element_spec)
        frozen = freeze(rater, _specs(spec.structured_outputs))

        def step(*parts):
            # tf.data spreads a tuple over arguments; put it together again
            return select(parts if isinstance(dataset.element_spec, tuple) else parts[0], frozen)

        return dataset.map(step, num_parallel_calls=num_parallel_calls, deterministic=True)

    return apply


def best_in_order(scores: tf.Tensor, count) -> tf.Tensor:
    """Indices of the `count` highest scores, ascending: int32 [count].

    Of equal scores the earlier wins; NaN counts as minus infinity.
    """
    low = tf.constant(-math.inf, scores.dtype)
    ranked = tf.where(tf.math.is_nan(scores), low, scores)
    return tf.sort(tf.math.top_k(ranked, k=count, sorted=True).indices)


def _specs(structure):
    return tf.nest.map_structure(tf.type_spec_from_value, structure)
