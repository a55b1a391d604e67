"""Quotas: of each source so much is kept, the best of it by whatever rule.

A rater of a mixture ranks sources as well as documents: filtered over all of it, a source may
vanish. With quotas every document is judged among those of its own source, so that each source
keeps the share that was asked for: all the same one ("proportional"), or each the one that a table
says.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import fractions
from typing import Any

import numpy as np
import tensorflow as tf

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, Deciding, Decisions, DiscardRule, Rated

PROPORTIONAL = "proportional"
Quotas = str | Mapping[str, Decimal]
# A source may be an address that no two documents share; then there is nothing to rank within.
MOST_SOURCES = 1000


def kept_shares(quotas: Quotas) -> dict[str, fractions.Fraction]:
    """Source -> the share that is kept, of the sources that a table names; {} of "proportional".

    Raises:
      ConfigurationError: it is neither, or a share is not in (0, 1].
    """
    if not isinstance(quotas, Mapping):
        if quotas == PROPORTIONAL:
            return {}
        raise ConfigurationError(
            f"quotas is {quotas!r}: give {PROPORTIONAL!r}, so that all sources keep the same share,"
            " or a table of source to the share that is kept, such as {'web': 0.3}."
        )
    return {source: _share(source, share) for source, share in quotas.items()}


def _share(source: str, share: Decimal) -> fractions.Fraction:
    try:
        exact = fractions.Fraction(str(share))  # the decimal that was written, as in `fractions`
    except (ValueError, ZeroDivisionError):
        exact = fractions.Fraction(0)
    if not 0 < exact <= 1:
        raise ConfigurationError(
            f"The quota of {source!r} is {share!r}: give the share of it that is kept, above 0 and"
            " at most 1."
        )
    return exact


def references_by_source(scores: Mapping[str, np.ndarray]) -> dict[str, ReferenceDistribution]:
    """The distribution of the scores of each source, from source -> float [n].

    Raises:
      DataError: there are more than `MOST_SOURCES`; none of a source's scores is finite.
    """
    if len(scores) > MOST_SOURCES:
        raise DataError(
            f"There are {len(scores):,} sources, and quotas take at most {MOST_SOURCES}: read the"
            " source from a field with few values (jsonl_corpus.source_field, ...), or leave the"
            " quotas out."
        )
    found = {}
    for source, values in scores.items():
        try:
            found[source] = ReferenceDistribution.from_scores(values)
        except DataError as error:
            raise DataError(f"Of the source {source!r}: {error}") from error
    return found


@dataclasses.dataclass(frozen=True, eq=False)
class BySource:
    """Decides about each example among those of its source; can be pickled.

    Attributes:
      parts: source -> what decides about it.
    """

    parts: Mapping[str, Deciding]

    def __call__(
        self, ids: Sequence[str], scores: np.ndarray, sources: Sequence[str] | None = None
    ) -> Decisions:
        """See `Deciding`; `sources` are N strings.

        Raises:
          DataError: an example is of a source that there was none of.
        """
        scores = np.asarray(scores, np.float32)
        rows: dict[str, list[int]] = {}
        for row, source in enumerate(sources or ()):
            rows.setdefault(source, []).append(row)
        dtypes = bool, np.float32, np.float64
        columns: list[np.ndarray] = [np.zeros(len(ids), dtype) for dtype in dtypes]
        for source, some in rows.items():
            if source not in self.parts:
                raise DataError(
                    f"There is a document of the source {source!r}, of which there were no scores:"
                    " score all of the corpus."
                )
            of_source = self.parts[source]([ids[row] for row in some], scores[some])
            found = of_source.keep, of_source.percentile, of_source.probability
            for column, values in zip(columns, found):
                column[some] = values
        return Decisions(*columns)

    def decide_tensors(self, ids: tf.Tensor, scores: tf.Tensor, sources: tf.Tensor) -> tuple:
        """`keep` bool, `percentile` float32 and `probability` float64 [N] in a graph.

        The rule is worked out once a source over all N. An example of a source that is not known is
        dropped, with percentile and probability 0.
        """
        keep = tf.zeros_like(sources, tf.bool)
        percentile, probability = (tf.zeros_like(sources, t) for t in (tf.float32, tf.float64))
        for source, deciding in self.parts.items():
            among = deciding.reference.percentile(scores)
            stays, chance = deciding.rule(Rated(ids, among), deciding.amount)
            of_source = tf.equal(sources, source)
            keep = tf.where(of_source, stays, keep)
            percentile = tf.where(of_source, among, percentile)
            probability = tf.where(of_source, chance, probability)
        return keep, percentile, probability

    def expected(self, rule: DiscardRule, documents: Mapping[str, int]) -> float:
        """The share that goes of a corpus with so many documents of each source."""
        dropped = sum(n * rule.expected(self.parts[name].amount) for name, n in documents.items())
        return dropped / sum(documents.values())


def within_sources(
    rule: Callable[[Rated, Amount], tuple[Any, Any]],
    amount: Amount,
    quotas: Quotas,
    references: Mapping[str, ReferenceDistribution],
) -> BySource:
    """What decides by quotas.

    Args:
      rule: see `DiscardRule.decide`.
      amount: how much goes of a source that a table does not name, and of all where quotas are
        "proportional".
      quotas: see `kept_shares`.
      references: source -> the distribution of its scores.

    Raises:
      ConfigurationError: the table names a source that there is none of.
    """
    shares = kept_shares(quotas)
    if unknown := [source for source in shares if source not in references]:
        known = ", ".join(map(repr, sorted(references)[:20]))
        raise ConfigurationError(
            f"quotas name the source {unknown[0]!r}, and there are only {known}: correct the name,"
            " or leave it out."
        )
    amounts = {
        source: dataclasses.replace(amount, discard_fraction=1 - share)
        for source, share in shares.items()
    }
    return BySource(
        {
            source: Deciding(rule, amounts.get(source, amount), reference)
            for source, reference in references.items()
        }
    )
