"""A share of another corpus, for studies that need only so much of it."""

import collections
from collections.abc import Iterator

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import Document
from dr_keras.data.splits import unit_hash
from dr_keras.errors import ConfigurationError
import gin


@gin.configurable
def sampled_corpus(
    corpus: Corpus, share: float = gin.REQUIRED, seed: int = 0, name: str | None = None
) -> Corpus:
    """Documents chosen by a hash of the seed and of what they say, about a share of them.

    The choice depends neither on order nor on the other documents, and is independent of the split
    into parts: every part and every source keeps about its share. `max_documents` of a corpus takes
    its first documents instead, which may all be of one source.

    Args:
      corpus: any corpus.
      share: in (0, 1].
      seed: another seed chooses others.
      name: None for the name of `corpus`.

    Raises:
      ConfigurationError: the share is out of its range.
    """
    if not 0 < share <= 1:
        raise ConfigurationError(f"sampled_corpus.share is {share}: it must lie in (0, 1].")

    def read(skipped: collections.Counter) -> Iterator[Document]:
        for document in corpus.documents():
            if unit_hash("sample", seed, document.key) < share:
                yield document
            else:
                skipped["not in the sample"] += 1
        skipped.update(corpus.skipped)

    sample = Corpus(name or corpus.name, read, {"share": share, "of": corpus.describe()})
    sample.weights = corpus.weights
    return sample
