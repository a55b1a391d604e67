"""Arms of a comparison: which rows of the training set each one trains on."""

from collections.abc import Collection

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.data.splits import unit_hash


def document_ids(examples: ExampleSet) -> np.ndarray:
    """The document of every example, object [N]: its id without the window's number."""
    return np.array([str(i).rpartition("#")[0] or str(i) for i in examples.ids], object)


def kept_rows(examples: ExampleSet, kept: Collection[str]) -> np.ndarray:
    """Rows whose document is in `kept`, int [K], ascending."""
    kept = set(kept)
    return np.flatnonzero([document in kept for document in document_ids(examples)])


def random_documents(examples: ExampleSet, count: int, seed: int) -> set[str]:
    """`count` documents chosen by a hash of (seed, id): the same whatever their order."""
    documents = sorted(set(document_ids(examples)))
    return set(sorted(documents, key=lambda d: unit_hash("random arm", seed, d))[:count])
