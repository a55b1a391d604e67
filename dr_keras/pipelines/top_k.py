"""Batch top-K inside an input pipeline: score an oversized batch, keep its best examples."""

from collections.abc import Callable

import tensorflow as tf

from dr_keras.pipelines import stages as pipelines
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.rules import split_best
import gin


@gin.configurable
def top_k(
    rater: pipelines.Rater,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    key: pipelines.Key = None,
    emit_scores: bool = False,
    emit_dropped: bool = False,
    batched: bool | None = None,
    drop_remainder: bool = True,
    num_parallel_calls: int | None = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """For `dataset.apply(top_k(...))`: batches of the B best of every B_up examples.

    B_up is the exact ceiling of B / (1 - f) (`fractions.oversized_batch`). Within a batch the kept
    examples stay in their order. Of equal scores the earlier example is kept; a NaN score ranks
    with minus infinity, below every other. With f = 0 every example is kept.

    The rater is frozen to constants when the transformation is applied, so that iterators over the
    result can be checkpointed (where the dataset's own can) and later training of the rater does
    not show here: apply again after it.

    Args:
      rater: what gives scores: the path of an exported rater, a loaded one, a Keras model, or any
        function from a batch of features (structure as `key` returns it) to scores [N] or a dict
        with "score".
      discard_fraction: f in [0, 1), the share of examples to drop; the decimal counts, not its
        binary float.
      batch_size: B, examples in a batch that comes out.
      key: what of the elements the rater takes: the name of a field, or a function from a batch of
        elements, for example `lambda batch: {"tokens": batch["tokens"]}`. None gives it the whole
        element, of tuples (x, y) and (x, y, sample_weight) the x.
      emit_scores: whether elements become `(element, score)` with score float32 [B].
      emit_dropped: whether elements become `(kept, dropped)`, where `dropped` is built like `kept`
        (with its scores, if they are emitted) and holds the other B_up - B examples.
      batched: whether the dataset's elements are batches already (of any size, from which the
        oversized ones are made anew) and not examples; None finds out
        (`pipelines.scored_batches`).
      drop_remainder: whether a last batch of fewer than B_up examples is left out. If it is kept,
        the same share of it is, rounded up, and shapes are no longer static.
      num_parallel_calls: batches scored at once. The order of the output does not depend on it.

    Returns:
      A function from dataset to dataset.

    Raises:
      ConfigurationError: fraction or batch size out of range; the rater cannot score the elements,
        or does not give one score an example.
      ArtefactError: there is no rater at the path given.
    """
    oversized = oversized_batch(batch_size, discard_fraction)
    rater = pipelines.resolve_rater(rater)

    def step(batch, outputs):
        score = outputs["score"]
        if drop_remainder:
            count, size = batch_size, oversized
        else:
            size = tf.shape(score)[0]
            count = -(-size * batch_size // oversized)

        def part(rows):
            chosen = pipelines.take(batch, rows)
            return (chosen, tf.gather(score, rows)) if emit_scores else chosen

        kept, dropped = split_best(score, count, size)
        return (part(kept), part(dropped)) if emit_dropped else part(kept)

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        batches = pipelines.scored_batches(dataset, rater, key, oversized, batched, drop_remainder)
        return batches.map(step, num_parallel_calls)

    return apply
