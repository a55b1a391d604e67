"""Documents that say nearly the same, by MinHash: what a shard tells of each, and what is left out."""

from collections.abc import Sequence

import pyarrow as pa

import gin


@gin.configurable
class NearDuplicates:
    """How near two documents are duplicates. Needs datasketch (`dr_keras[near_duplicates]`).

    Attributes:
      bands: how many hashes a document is compared by.
    """

    def __init__(self, threshold: float = 0.8, permutations: int = 128, shingle_words: int = 5):
        raise NotImplementedError

    def column(self, texts: Sequence[str]) -> pa.Array:
        """The column "bands" of the table of a shard: fixed-size binary [n], null: no words."""
        raise NotImplementedError

    def describe(self) -> dict:
        """JSON-able settings, for the manifest and to see whether a job is the same."""
        raise NotImplementedError
