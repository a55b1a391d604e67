"""Keep or drop, document by document, the same way on every machine and in every re-run."""

from collections.abc import Sequence
import dataclasses

import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal, exact_fraction, oversized_batch
from dr_keras.rating.keep_probability import keep_probability
from dr_keras.rating.reference import ReferenceDistribution

METHODS = ("keep_probability", "threshold")
# float64 holds every integer up to here, so that the quotient is exact
_BUCKETS = 2**53


@dataclasses.dataclass(frozen=True, eq=False)
class Decisions:
    """What becomes of N examples; row i belongs to example i.

    Attributes:
      keep: bool [N].
      percentile: float32 [N], under the reference distribution.
      probability: float64 [N], the chance to be kept; 0 or 1 for a threshold.
    """

    keep: np.ndarray
    percentile: np.ndarray
    probability: np.ndarray


def uniform_hash(ids, seed: int):
    """A number in [0, 1) that depends on nothing but (seed, id): float64 [N].

    A keyed strong hash in a TensorFlow operation, so that pipelines and scripts agree on it. Ids
    are strings (array-like, result: array; a whole number counts as its decimal digits) or a string
    tensor (result: tensor).
    """
    # the operation's keys are signed 64-bit integers
    key = [seed & (2**63 - 1), 0x64725F6B65726173]
    if tf.is_tensor(ids):
        buckets = tf.strings.to_hash_bucket_strong(ids, _BUCKETS, key)
        return tf.cast(buckets, tf.float64) / float(_BUCKETS)
    encoded = [id if isinstance(id, bytes) else str(id).encode("utf-8", "replace") for id in ids]
    return uniform_hash(tf.constant(encoded, tf.string), seed).numpy()


def drawn(ids, percentile, batch_size: int, oversized: int, seed: int):
    """Keeps an example where its hash lies below its keep probability.

    Args:
      ids: N strings, see `uniform_hash`.
      percentile: float [N]; NaN is never kept.
      batch_size, oversized: B and B_up, see `keep_probability`.
      seed: of the hash.

    Returns:
      keep bool [N] and probability float64 [N]: tensors where ids are one, else arrays. Both are
      computed by the same operations, so that a pipeline and a script decide the same.
    """
    probability = keep_probability(percentile, batch_size, oversized)
    probability = probability if tf.is_tensor(ids) else probability.numpy()
    return uniform_hash(ids, seed) < probability, probability


def decide(
    ids: Sequence[str],
    scores: np.ndarray,
    discard_fraction: Decimal,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    reference: ReferenceDistribution | None = None,
) -> Decisions:
    """Decides which examples stay.

    Args:
      ids: N strings. With `keep_probability`, examples of one id share one draw.
      scores: float [N]. NaN ranks below every score.
      discard_fraction: f in [0, 1), the share to drop; 0 keeps everything.
      batch_size: B of the batch top-K that `keep_probability` imitates; the larger, the sharper.
      seed: of the draws.
      method: "keep_probability": each is kept with the chance it would have in batch top-K, drawn
        by a hash of (seed, id), so that some middling examples stay; "threshold": kept are those
        at percentile f and above.
      reference: what percentiles are taken under; None: the scores given, so that the share kept
        is what was asked for.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: no score is finite, and there is no reference.
    """
    if method not in METHODS:
        raise ConfigurationError(f"method is {method!r}: choose one of {', '.join(METHODS)}.")
    exact = exact_fraction(discard_fraction)
    oversized = oversized_batch(batch_size, discard_fraction)
    scores = np.asarray(scores, np.float32)
    if reference is None:
        reference = ReferenceDistribution.from_scores(scores)
    percentile = reference.percentile(scores)
    if method == "threshold":
        keep = percentile >= np.float32(float(exact))
        return Decisions(keep, percentile, keep.astype(np.float64))
    keep, probability = drawn(ids, percentile, batch_size, oversized, seed)
    return Decisions(keep, percentile, probability)
