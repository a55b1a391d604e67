"""Corpora made of others: several as one, with or without weights, and a share of one."""

import collections
from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import math
from typing import Any

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document
from dr_keras.data.splits import unit_hash
from dr_keras.errors import ConfigurationError, DataError
import gin


@gin.configurable
def mixture_corpus(
    corpora: Sequence[Corpus],
    weights: Mapping[str, float] | Sequence[float] | None = None,
    name: str = "mixture",
    by_source: bool = False,
) -> "MixtureCorpus":
    """Joins corpora; every document keeps its source and, in `corpus`, the corpus it is of.

    Weights are shares of the examples that batches draw, not of the documents: all documents are
    read, whatever the weights. Ids must be unique across the corpora.

    Args:
      corpora: corpora with names that differ; they may be mixtures themselves.
      weights: one positive number for each corpus, in their order or by name; they need not add up
        to 1. None: examples are drawn as they come, so large corpora count for more.
      name: name of the mixture.
      by_source: weights are by name of the documents' source and not of the corpora: in `corpus`
        every document has its source. One corpus whose documents say where they are from is a
        mixture then, too.

    Raises:
      ConfigurationError: names repeat, or weights do not fit the corpora.
      DataError: when read, a document is of a source that has no weight.
    """
    corpora = list(corpora)
    names = [corpus.name for corpus in corpora]
    if not corpora:
        raise ConfigurationError("mixture_corpus.corpora is empty; name at least one corpus")
    repeated = [name for name, count in collections.Counter(names).items() if count > 1]
    if repeated:
        raise ConfigurationError(
            f"two corpora of a mixture are called {repeated[0]!r}; set the name of one of them"
        )
    if not by_source:
        return MixtureCorpus(name, corpora, _leaf_weights(corpora, _checked(weights, names)))
    nested = [corpus.name for corpus in corpora if corpus.weights]
    if nested:
        raise ConfigurationError(
            f"corpus {nested[0]!r} has weights of its own, and mixture_corpus.by_source is True:"
            " leave one of them out."
        )
    if not isinstance(weights, Mapping):
        raise ConfigurationError(
            f"mixture_corpus.weights is {weights!r}, and by_source is True: give a weight to every"
            " source by its name, such as {'news': 0.7, 'books': 0.3}."
        )
    return MixtureCorpus(name, corpora, _checked(weights, list(weights)), by_source=True)


def _checked(
    weights: Mapping[str, float] | Sequence[float] | None, names: list[str]
) -> dict[str, float] | None:
    if weights is None:
        return None
    if not isinstance(weights, Mapping):
        weights = list(weights)
        if len(weights) != len(names):
            raise ConfigurationError(
                f"mixture_corpus.weights has {len(weights)} numbers for {len(names)} corpora: "
                f"{', '.join(names)}"
            )
        weights = dict(zip(names, weights))
    if set(weights) != set(names):
        raise ConfigurationError(
            f"mixture_corpus.weights names {', '.join(weights)}, but the corpora are "
            f"{', '.join(names)}"
        )
    for name in names:
        if not (math.isfinite(weights[name]) and weights[name] > 0):
            raise ConfigurationError(
                f"the weight of corpus {name!r} must be a positive number, not {weights[name]}; "
                "leave a corpus out of the mixture to give it none"
            )
    total = math.fsum(weights.values())
    return {name: weights[name] / total for name in names}


def _leaf_weights(
    corpora: list[Corpus], weights: dict[str, float] | None
) -> dict[str, float] | None:
    """Spreads the weight of a corpus that is a weighted mixture over the corpora in it."""
    if weights is None:
        nested = [corpus.name for corpus in corpora if corpus.weights]
        if nested:
            raise ConfigurationError(
                f"corpus {nested[0]!r} has weights, so the mixture around it needs weights too"
            )
        return None
    leaves: dict[str, float] = {}
    for corpus in corpora:
        for leaf, weight in (corpus.weights or {corpus.name: 1.0}).items():
            if leaf in leaves:
                raise ConfigurationError(
                    f"two corpora of nested mixtures are called {leaf!r}; set the name of one"
                )
            leaves[leaf] = weight * weights[corpus.name]
    return leaves


class MixtureCorpus(Corpus):
    """See `mixture_corpus`; `weights` add up to 1 and go by `Document.corpus`."""

    def __init__(
        self,
        name: str,
        corpora: list[Corpus],
        weights: dict[str, float] | None,
        by_source: bool = False,
    ):
        super().__init__(name, self._documents, weights=weights)
        self._corpora, self._by_source = corpora, by_source

    def describe(self) -> dict[str, Any]:
        """Adds what each of the corpora says of itself."""
        return {
            **super().describe(),
            "kind": "mixture",
            "weights": self.weights,
            **({"by_source": True} if self._by_source else {}),
            "corpora": [corpus.describe() for corpus in self._corpora],
        }

    def _documents(self, skipped: collections.Counter) -> Iterator[Document]:
        for corpus in self._corpora:
            for document in corpus.documents():
                if self._by_source:
                    yield dataclasses.replace(document, corpus=self._weighed(document))
                    continue
                # The parts of a mixture without weights are drawn together, under its own name.
                yield (
                    document
                    if corpus.weights
                    else dataclasses.replace(document, corpus=corpus.name)
                )
            skipped.update(corpus.skipped)

    def _weighed(self, document: Document) -> str:
        """The source of a document, which has a weight."""
        if document.source not in (self.weights or {}):
            raise DataError(
                f"mixture_corpus: the document {document.id!r} is of the source"
                f" {document.source!r}, which mixture_corpus.weights does not name: give it a"
                " weight, or leave it out of the corpora."
            )
        return document.source


@gin.configurable
def sampled_corpus(
    corpus: Corpus,
    share: float = gin.REQUIRED,
    seed: int = 0,
    name: str | None = None,
    rest: bool = False,
) -> Corpus:
    """Documents chosen by a hash of the seed and of what they say, about a share of them.

    Of documents with groups, whole groups are chosen.

    The choice depends neither on order nor on the other documents, and is independent of the split
    into parts: every part and every source keeps about its share. `max_documents` of a corpus takes
    its first documents instead, which may all be of one source.

    Args:
      corpus: any corpus.
      share: in (0, 1].
      seed: another seed chooses others.
      name: None for the name of `corpus`.
      rest: take the documents that are not chosen, so that two corpora share none.

    Raises:
      ConfigurationError: the share is out of its range.
    """
    if not 0 < share <= 1 or (rest and share == 1):
        raise ConfigurationError(
            f"sampled_corpus.share is {share}: it must lie in (0, 1], and below 1 where the rest is"
            " taken."
        )

    def read(skipped: collections.Counter) -> Iterator[Document]:
        for document in corpus.documents():
            if (unit_hash("sample", seed, document.split_key) < share) != rest:
                yield document
            else:
                skipped["not in the sample"] += 1
        skipped.update(corpus.skipped)

    settings = {"share": share, "rest": rest, "of": corpus.describe()}
    return Corpus(name or corpus.name, read, settings, weights=corpus.weights)
