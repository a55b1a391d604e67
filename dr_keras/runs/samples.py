"""Some of a set's documents, whole: for the reference distribution, and for teachers that cost."""

import numpy as np

from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.data.splits import unit_hash


def whole_documents(examples: ExampleSet, size: int) -> ExampleSet:
    """Whole documents, chosen by a hash of their ids, with about `size` examples in all.

    Whole, because a document whose windows were thinned out would get another mean; by hash, so
    that the order of the corpus does not matter.
    """
    if len(examples) <= size:
        return examples
    owners, index, counts = np.unique(
        document_ids(examples), return_inverse=True, return_counts=True
    )
    order = np.argsort([unit_hash("reference", owner) for owner in owners])
    number = max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))
    return examples.take(np.flatnonzero(np.isin(index, order[:number])))
