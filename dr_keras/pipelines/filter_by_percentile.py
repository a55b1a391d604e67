"""Filtering inside an input pipeline example by example, as filtered corpora are made."""

from collections.abc import Callable

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines import stages as pipelines
from dr_keras.rating.example_ids import content_ids, id_strings
from dr_keras.rating.fractions import Decimal
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, Rated, find_rule
import gin


@gin.configurable
def filter_by_percentile(
    rater: pipelines.Rater,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    key: pipelines.Key = None,
    ids: pipelines.Key = None,
    reference: ReferenceDistribution | None = None,
    emit_scores: bool = False,
    emit_dropped: bool = False,
    batched: bool | None = None,
    drop_remainder: bool = False,
    rows_a_call: int | None = None,
    num_parallel_calls: int | None = tf.data.AUTOTUNE,
) -> Callable[[tf.data.Dataset], tf.data.Dataset]:
    """For `dataset.apply(filter_by_percentile(...))`: each example stays by its keep probability.

    An example at percentile p stays with the chance it would have in `top_k` of this fraction and
    batch size, drawn by a hash of (seed, id): the decision of `rules.decide`, so a pipeline and
    a filtered corpus agree id by id. Which examples share a batch does not matter. NaN scores have
    percentile 0 and are dropped, unless the fraction is 0, which keeps everything.

    Datasets of examples give examples; datasets of batches give batches of B. The rater scores
    whole batches and is frozen to constants, as for `top_k`; a last batch that is short is scored
    as it is, and no example is lost with it.

    Args:
      rater: as for `top_k`.
      discard_fraction: f in [0, 1).
      batch_size: B of the batch top-K that is imitated; the larger, the sharper. Also the size of
        the batches that come out where batches come in.
      seed: of the draws.
      method: the discard rule, see `rules.RULES`.
      key: what of the elements the rater takes, as for `top_k`.
      ids: what of the elements their ids are, strings or whole numbers [N]: the name of a field, or
        a function from a batch of elements. None draws by the content that the rater takes
        (`example_ids.content_ids`): a text is its own id, so that equal texts share a draw.
      reference: what percentiles are taken under; None: those that the rater gives.
      emit_scores: whether elements become `(element, facts)`, facts a dict of "score" and
        "percentile", float32, and "keep_probability", float64.
      emit_dropped: whether what is dropped comes out too, in its place; facts then have (or are no
        more than) "kept", bool.
      batched: whether elements are batches; None finds out, as for `top_k`.
      drop_remainder: of batches that come out, whether a last short one is left out; otherwise
        their shapes are not static.
      rows_a_call: examples scored at once; None: B_up.
      num_parallel_calls: as for `top_k`.

    Returns:
      A function from dataset to dataset.

    Raises:
      ConfigurationError: a setting out of its range; no percentiles and no reference; ids or scores
        that are not one an example.
      ArtefactError: there is no rater at the path given.
    """
    rule, amount = find_rule(method), Amount(discard_fraction, batch_size, seed)
    rows = amount.oversized if rows_a_call is None else rows_a_call
    if rows < 1:
        raise ConfigurationError(f"rows_a_call is {rows_a_call}: it must be at least 1.")
    rater = pipelines.resolve_rater(rater)

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        batches = pipelines.scored_batches(dataset, rater, key, rows, batched, False)
        if reference is None and "percentile" not in batches.frozen.shapes:
            raise ConfigurationError(
                "The rater gives scores and no percentiles, so there is nothing to filter by: give"
                " reference, for example ReferenceDistribution.from_scores(scores of a sample)."
            )

        def step(batch, outputs):
            score = outputs["score"]
            percentile = reference.percentile(score) if reference else outputs["percentile"]
            names = (
                content_ids(batches.select(batch))
                if ids is None
                else id_strings(pipelines.selector(ids)(batch))
            )
            names = pipelines.one_an_example(names, batch, "ids")
            keep, probability = rule.decide(Rated(names, percentile), amount)
            facts = {}
            if emit_scores:
                facts = {"score": score, "percentile": percentile, "keep_probability": probability}
            if emit_dropped:
                return batch, {**facts, "kept": keep}
            chosen = (batch, facts) if emit_scores else batch
            return pipelines.take(chosen, tf.where(keep)[:, 0])

        kept = batches.map(step, num_parallel_calls)
        if batches.batched:
            return kept.rebatch(batch_size, drop_remainder=drop_remainder)
        return kept.unbatch()

    return apply
