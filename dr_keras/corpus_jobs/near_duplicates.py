"""Documents that say nearly the same, by MinHash: what a shard tells of each.

Two documents are near where they share a large part of their runs of words. A document has a hash
for each of some bands of its MinHash signature; documents that agree in one of them are near, and
of these the first in reading order stays. So a document is left out exactly where an *earlier* one
agrees with it, whether that one stays or not: no order of work and no division into shards changes
it. (Broder, On the resemblance and containment of documents, 1997; Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4: two documents with the similarity s agree in a band of r of b with
the chance 1 - (1 - s^r)^b. Lee et al., Deduplicating training data makes language models better,
2022, is what it is for.)
"""

from collections.abc import Sequence
import functools
import hashlib
import re
import unicodedata

import pyarrow as pa

from dr_keras.data.corpora.base import check_at_least
from dr_keras.errors import ConfigurationError
from dr_keras.system.extras import require_near_duplicates_extra
import gin

_WORD = re.compile(r"\w+")
# Of the signatures, which are kept nowhere but within a job.
_SEED = 1


@gin.configurable
class NearDuplicates:
    """How near documents are left out. Needs datasketch (`dr_keras[near_duplicates]`).

    Attributes:
      bands: hashes by which a document is compared, b.
      rows: of the signature, that go into each, r.
    """

    def __init__(self, threshold: float = 0.8, permutations: int = 128, shingle_words: int = 5):
        """Args:
        threshold: Jaccard similarity of the sets of runs of words about which documents are
          near: b and r are chosen so that the chances to miss what lies above and to find what
          lies below, added up, are least. With the usual values b is 9 and r 13: of pairs with the
          similarity 0.6, 0.7, 0.8, 0.9 and 0.95, 1%, 8%, 40%, 93% and 99.9% are near.
        permutations: length of the signature; more make the step at the threshold steeper.
        shingle_words: words in a run, in lower case and without punctuation; a document with fewer
          has one run, and one without any words is near nothing.

        Raises:
          ConfigurationError: a value is out of its range, or datasketch cannot be imported.
        """
        if not 0 < threshold < 1:
            raise ConfigurationError(
                f"NearDuplicates.threshold is {threshold}: it must lie between 0 and 1."
            )
        check_at_least("NearDuplicates.permutations", permutations, 2)
        check_at_least("NearDuplicates.shingle_words", shingle_words)
        require_near_duplicates_extra()
        self.threshold, self.permutations = threshold, permutations
        self.shingle_words = shingle_words
        self.bands, self.rows = _bands_and_rows(threshold, permutations)

    def column(self, texts: Sequence[str]) -> pa.Array:
        """The column "bands" of the table of a shard: `bands` x 8 bytes; null for no words."""
        return pa.array(map(self._bands, texts), pa.binary(8 * self.bands))

    def describe(self) -> dict:
        """JSON-able settings, for the manifest and to see whether a job is the same."""
        names = ("threshold", "permutations", "shingle_words", "bands", "rows")
        return {name: getattr(self, name) for name in names}

    def _bands(self, text: str) -> bytes | None:
        shingles = shingles_of(text, self.shingle_words)
        if not shingles:
            return None
        signature = _empty_signature(self.permutations).copy()
        signature.update_batch(shingles)
        values = signature.hashvalues.astype("<u4")
        hashes = []
        for band in range(self.bands):
            # The number of the band is in the hash, so that two bands never agree.
            digest = hashlib.blake2b(band.to_bytes(8, "little"), digest_size=8)
            digest.update(values[band * self.rows : (band + 1) * self.rows].tobytes())
            hashes.append(digest.digest())
        return b"".join(hashes)


def shingles_of(text: str, words: int) -> set[bytes]:
    """The runs of so many words of a text, in lower case, without punctuation and white space."""
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    found = _WORD.findall(text.lower())
    ends = range(min(words, len(found)), len(found) + 1)
    runs = (" ".join(found[max(0, end - words) : end]) for end in ends if end)
    return {run.encode("utf-8", "surrogatepass") for run in runs}


@functools.lru_cache(maxsize=4)
def _empty_signature(permutations: int):
    from datasketch import MinHash

    return MinHash(permutations, seed=_SEED, scheme="affine32")


def _bands_and_rows(threshold: float, permutations: int) -> tuple[int, int]:
    from datasketch import MinHashLSH

    try:
        index = MinHashLSH(threshold=threshold, num_perm=permutations)
    except ValueError as error:
        raise ConfigurationError(
            f"NearDuplicates.threshold = {threshold} with {permutations} permutations: {error}."
            " Take more permutations or a lower threshold."
        ) from error
    return index.b, index.r
