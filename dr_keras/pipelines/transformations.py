"""Raters inside an input pipeline, as transformations for `dataset.apply`.

top_k                 scores an oversized batch and keeps its best examples
filter_by_percentile  keeps example by example, as filtered corpora are made
reweight              drops nothing: the softmax of scores as Keras' `sample_weight`
"""

from collections.abc import Callable, Mapping
import math

import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.pipelines import stages
from dr_keras.rating.example_ids import content_ids, id_strings
from dr_keras.rating.fractions import Decimal, oversized_batch
from dr_keras.rating.quotas import BySource, Quotas, within_sources
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, DiscardRule, Rated, find_rule, split_best, without_nan
import gin


@gin.configurable
def top_k(
    rater: stages.Rater,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = gin.REQUIRED,
    key: stages.Key = None,
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
        (`stages.scored_batches`).
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
    rater = stages.resolve_rater(rater)

    def step(batch, outputs):
        score = outputs["score"]
        if drop_remainder:
            count, size = batch_size, oversized
        else:
            size = tf.shape(score)[0]
            count = -(-size * batch_size // oversized)

        def part(rows):
            chosen = stages.take(batch, rows)
            return (chosen, tf.gather(score, rows)) if emit_scores else chosen

        kept, dropped = split_best(score, count, size)
        return (part(kept), part(dropped)) if emit_dropped else part(kept)

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        batches = stages.scored_batches(dataset, rater, key, oversized, batched, drop_remainder)
        return batches.map(step, num_parallel_calls)

    return apply


@gin.configurable
def filter_by_percentile(
    rater: stages.Rater,
    discard_fraction: Decimal = gin.REQUIRED,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    temperature: float | None = None,
    key: stages.Key = None,
    ids: stages.Key = None,
    reference: ReferenceDistribution | Mapping[str, ReferenceDistribution] | None = None,
    quotas: Quotas | None = None,
    sources: stages.Key = None,
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
      temperature: of rules that have one, see `rules.Amount`.
      key: what of the elements the rater takes, as for `top_k`.
      ids: what of the elements their ids are, strings or whole numbers [N]: the name of a field, or
        a function from a batch of elements. None draws by the content that the rater takes
        (`example_ids.content_ids`): a text is its own id, so that equal texts share a draw.
      reference: what percentiles are taken under; None: those that the rater gives. With quotas
        source -> distribution (`quotas.references_by_source`); examples of other sources go.
      quotas: see `filter_corpus`; the decisions are those of a filtered corpus.
      sources: what of the elements their sources are, strings [N], as for `ids`; for quotas.
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
      ConfigurationError: a setting out of its range; no percentiles and no reference; quotas
        without references or sources; ids or scores that are not one an example.
      ArtefactError: there is no rater at the path given.
    """
    amount = Amount(discard_fraction, batch_size, seed, temperature)
    rule = find_rule(method, amount)
    by_source = _by_source(rule, amount, quotas, reference, sources)
    rows = amount.oversized if rows_a_call is None else rows_a_call
    if rows < 1:
        raise ConfigurationError(f"rows_a_call is {rows_a_call}: it must be at least 1.")
    rater = stages.resolve_rater(rater)

    def apply(dataset: tf.data.Dataset) -> tf.data.Dataset:
        batches = stages.scored_batches(dataset, rater, key, rows, batched, False)
        if reference is None and "percentile" not in batches.frozen.shapes:
            raise ConfigurationError(
                "The rater gives scores and no percentiles, so there is nothing to filter by: give"
                " reference, for example ReferenceDistribution.from_scores(scores of a sample)."
            )

        def step(batch, outputs):
            score = outputs["score"]
            names = (
                content_ids(batches.select(batch))
                if ids is None
                else id_strings(stages.selector(ids)(batch))
            )
            names = stages.one_an_example(names, batch, "ids")
            if by_source is not None:
                of = stages.one_an_example(stages.selector(sources)(batch), batch, "sources")
                keep, percentile, probability = by_source.decide_tensors(names, score, of)
            else:
                percentile = reference.percentile(score) if reference else outputs["percentile"]
                keep, probability = rule.decide(Rated(names, percentile), amount)
            facts = {}
            if emit_scores:
                facts = {"score": score, "percentile": percentile, "keep_probability": probability}
            if emit_dropped:
                return batch, {**facts, "kept": keep}
            chosen = (batch, facts) if emit_scores else batch
            return stages.take(chosen, tf.where(keep)[:, 0])

        kept = batches.map(step, num_parallel_calls)
        if batches.batched:
            return kept.rebatch(batch_size, drop_remainder=drop_remainder)
        return kept.unbatch()

    return apply


def _by_source(rule: DiscardRule, amount, quotas, reference, sources) -> BySource | None:
    """What decides by quotas, or None; refuses half of what they need."""
    if quotas is None and not isinstance(reference, Mapping):
        return None
    if quotas is None or not isinstance(reference, Mapping) or sources is None:
        raise ConfigurationError(
            "Quotas need all of quotas, reference (source -> distribution, such as"
            " references_by_source of a sample's scores) and sources (the field that an example's"
            " source is in): give all three, or none of them."
        )
    return within_sources(rule.decide, amount, quotas, reference)


@gin.configurable
def reweight(
    rater: stages.Rater,
    batch_size: int = gin.REQUIRED,
    temperature: float = 1.0,
    key: stages.Key = None,
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
    rater = stages.resolve_rater(rater)

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
        batches = stages.scored_batches(dataset, rater, key, batch_size, batched, drop_remainder)
        return batches.map(step, num_parallel_calls)

    return apply


def batch_weights(scores: tf.Tensor, temperature: float = 1.0) -> tf.Tensor:
    """N * softmax(scores / temperature): weights float32 [N] with mean 1.

    NaN counts as minus infinity, whose weight is 0. Where every score does, nothing is known and
    all weights are 1; scores of plus infinity share all the weight.
    """
    scores = without_nan(scores)
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
