"""Discard rules: keep or drop, the same way on every machine and in every re-run.

A rule is a function `(rated, amount) -> (keep, probability)` under a name in `RULES`; corpus jobs,
Beam, `filter_by_percentile` and the offline arms know rules by these names (`filter_corpus.method`,
`filter_by_percentile.method`, ...). It decides about each example by itself, so that the number of
machines and the order of the examples do not matter, and is written in operations that take arrays
and tensors alike. To add one, decorate it with `discard_rule` in a module that your gin file
imports:

    @discard_rule(expected=lambda amount: float(amount.exact))
    def above_median(rated: Rated, amount: Amount):
        return certain(rated.percentile > 0.5)

Batch top-K, which compares the examples of a batch with each other, is `split_best`: pipelines, the
online arms and the meta-evaluation share it.
"""

from collections.abc import Callable, Sequence
import dataclasses
import fractions
import math
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.rating import gumbel
from dr_keras.rating.example_ids import uniform_hash
from dr_keras.rating.fractions import (
    Decimal,
    achieved_fraction,
    exact_fraction,
    oversized_batch,
)  # fmt: skip
from dr_keras.rating.fractions import keep_probability as chance_in_top_k
from dr_keras.rating.reference import ReferenceDistribution


class Rated(NamedTuple):
    """N examples, as arrays or as tensors.

    Attributes:
      ids: N strings, see `example_ids.uniform_hash`.
      percentile: float [N], under the reference distribution; NaN where there is no score.
    """

    ids: Any
    percentile: Any


@dataclasses.dataclass(frozen=True)
class Amount:
    """How much is discarded.

    Attributes:
      discard_fraction: f in [0, 1), the share to drop; 0 keeps everything.
      batch_size: B of the batch top-K that is imitated; the larger, the sharper.
      seed: of draws.
      temperature: of rules that have one (`gumbel_top_k`), above 0; None: 1.

    Raises:
      ConfigurationError: a number out of its range.
    """

    discard_fraction: Decimal
    batch_size: int = 64
    seed: int = 0
    temperature: float | None = None

    def __post_init__(self):
        oversized_batch(self.batch_size, self.discard_fraction)
        if self.temperature is not None and not 0 < self.temperature < math.inf:
            raise ConfigurationError(
                f"temperature is {self.temperature!r}: give a number above 0, such as 0.5; near 0"
                " the best are kept, and with a large one any."
            )

    @property
    def exact(self) -> fractions.Fraction:
        """f as the decimal that was written."""
        return exact_fraction(self.discard_fraction)

    @property
    def oversized(self) -> int:
        """B_up."""
        return oversized_batch(self.batch_size, self.discard_fraction)


@dataclasses.dataclass(frozen=True)
class DiscardRule:
    """What `RULES` knows of a rule.

    Attributes:
      decide: (rated, amount) -> keep bool [N] and probability float64 [N] of being kept; tensors
        where the examples are tensors. A function of a module, so that other processes
        can be sent it.
      expected: amount -> the share that goes of a corpus whose own scores are the reference.
      has_temperature: whether it reads `Amount.temperature`.
    """

    decide: Callable[[Rated, Amount], tuple[Any, Any]]
    expected: Callable[[Amount], float]
    has_temperature: bool = False


RULES: dict[str, DiscardRule] = {}


def discard_rule(expected: Callable[[Amount], float], has_temperature: bool = False) -> Callable:
    """Decorator that makes a function a rule of its own name, see `DiscardRule`."""

    def register(function: Callable) -> Callable:
        RULES[function.__name__] = DiscardRule(function, expected, has_temperature)
        return function

    return register


def find_rule(method: str, amount: Amount | None = None) -> DiscardRule:
    """The rule of a name.

    Raises:
      ConfigurationError: there is none; the amount has a temperature, and the rule does not.
    """
    if method not in RULES:
        raise ConfigurationError(f"method is {method!r}: choose one of {', '.join(RULES)}.")
    rule = RULES[method]
    if amount is not None and amount.temperature is not None and not rule.has_temperature:
        some = ", ".join(name for name, known in RULES.items() if known.has_temperature)
        raise ConfigurationError(
            f"temperature is {amount.temperature}, and the method {method!r} has none: leave it"
            f" out, or choose a method that has one ({some})."
        )
    return rule


def certain(keep) -> tuple:
    """What a rule returns that draws nothing."""
    return keep, tf.cast(keep, tf.float64) if tf.is_tensor(keep) else keep.astype(np.float64)


@discard_rule(lambda amount: achieved_fraction(amount.batch_size, amount.discard_fraction))
def keep_probability(rated: Rated, amount: Amount) -> tuple:
    """Keeps each with the chance it would have in batch top-K, drawn by a hash of (seed, id).

    Some middling examples stay. NaN is never kept, unless nothing is dropped. Arrays and tensors go
    through the same operations, so that a pipeline and a script decide the same.
    """
    probability = chance_in_top_k(rated.percentile, amount.batch_size, amount.oversized)
    probability = probability if tf.is_tensor(rated.ids) else probability.numpy()
    return uniform_hash(rated.ids, amount.seed) < probability, probability


@discard_rule(lambda amount: float(amount.exact))
def threshold(rated: Rated, amount: Amount) -> tuple:
    """Keeps those at percentile f and above."""
    return certain(rated.percentile >= np.float32(float(amount.exact)))


@discard_rule(lambda amount: float(amount.exact), has_temperature=True)
def gumbel_top_k(rated: Rated, amount: Amount) -> tuple:
    """Samples by score without replacement at a temperature, see `rating.gumbel`.

    The noise of an example is a hash of (seed, id): what is kept of a smaller share is a part of
    what is kept of a larger one. NaN is never kept, unless nothing is dropped.
    """
    temperature = 1.0 if amount.temperature is None else float(amount.temperature)
    probability = gumbel.keep_probability(rated.percentile, amount.exact, temperature)
    probability = probability if tf.is_tensor(rated.ids) else probability.numpy()
    # with G = -log(-log(1 - u)) of a uniform u, "the key is above kappa" is "u is below the chance"
    return uniform_hash(rated.ids, amount.seed) < probability, probability


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


@dataclasses.dataclass(frozen=True, eq=False)
class Deciding:
    """A rule with all that it needs; can be pickled.

    Attributes:
      rule: the function of a rule, see `DiscardRule.decide`.
      amount: how much goes.
      reference: what percentiles are taken under.
    """

    rule: Callable[[Rated, Amount], tuple[Any, Any]]
    amount: Amount
    reference: ReferenceDistribution

    def __call__(
        self, ids: Sequence[str], scores: np.ndarray, sources: Sequence[str] | None = None
    ) -> Decisions:
        """Decides about N examples. Where a rule draws, examples of one id share one draw.

        Args:
          ids: N strings.
          scores: float [N]. NaN ranks below every score.
          sources: not read; see `quotas.BySource`.
        """
        percentile = self.reference.percentile(np.asarray(scores, np.float32))
        keep, probability = self.rule(Rated(ids, percentile), self.amount)
        return Decisions(keep, percentile, probability)


def decide(
    ids: Sequence[str],
    scores: np.ndarray,
    discard_fraction: Decimal,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "keep_probability",
    reference: ReferenceDistribution | None = None,
    temperature: float | None = None,
) -> Decisions:
    """Decides which examples stay.

    Args:
      ids, scores: see `Deciding`.
      discard_fraction, batch_size, seed, temperature: see `Amount`.
      method: the name of a rule.
      reference: what percentiles are taken under; None: the scores given, so that the share kept
        is what was asked for.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: no score is finite, and there is no reference.
    """
    amount = Amount(discard_fraction, batch_size, seed, temperature)
    rule = find_rule(method, amount)
    reference = reference or ReferenceDistribution.from_scores(np.asarray(scores, np.float32))
    return Deciding(rule.decide, amount, reference)(ids, scores)


def reason_to_drop(score: float, probability: float) -> str:
    """Why an example that was dropped was dropped."""
    if not math.isfinite(score):
        return "no finite score"
    if probability == 0.0:
        return "percentile too low"
    return f"not drawn at keep probability {probability:.4f}"


def split_best(scores, count, size) -> tuple:
    """Batch top-K: which `count` of `size` scores are the highest, and which are the rest.

    Of equal scores the earlier wins; NaN counts as minus infinity.

    Args:
      scores: float [size], an array or a tensor.
      count, size: integers; of tensors they make the shapes static, or are int32 scalars.

    Returns:
      Rows [count] and [size - count], each ascending; int32 tensors for a tensor.
    """
    ranked = without_nan(scores)
    if tf.is_tensor(scores):
        order = tf.math.top_k(ranked, k=size, sorted=True).indices
        return tf.sort(order[:count]), tf.sort(order[count:])
    order = np.argsort(-ranked, kind="stable")
    return np.sort(order[:count]), np.sort(order[count:])


def without_nan(scores):
    """The scores, minus infinity where they are NaN: what is not known ranks below everything."""
    if tf.is_tensor(scores):
        return tf.where(tf.math.is_nan(scores), tf.constant(-math.inf, scores.dtype), scores)
    return np.where(np.isnan(scores), -np.inf, scores)
