"""Scores and decisions about lists of texts: what adapters to other libraries share.

They are those of a corpus filtered by the artefact's own distribution (`filter_corpus.reference =
'artefact'`): each text is decided by itself, whoever else is in its batch or on its machine.
"""

from collections.abc import Sequence
import functools

import numpy as np

from dr_keras.errors import ConfigurationError
from dr_keras.rating.fractions import Decimal
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import Amount, Deciding, Decisions, find_rule
from dr_keras.serving.loaded_text import LoadedTextRater
from dr_keras.serving.loading import load_rater
from dr_keras.serving.window_scoring import WindowScoring


class TextScores:
    """Scores texts by an exported rater, which each process loads when it first needs it.

    Pickled it is its settings and the rater's fingerprint: small, alike for the same rater, and so
    the key by which other libraries may know what they have computed.

    Args:
      rater: path of an exported rater of text, or the name of one that comes with dr_keras; it is
        loaded once to see that it is there.
      window_scoring: how windows are scored; None: `WindowScoring()`.
      trusted: see `load_rater`.

    Raises:
      ConfigurationError: it is no rater of text.
      ArtefactError: there is none.
    """

    def __init__(
        self, rater: str, window_scoring: WindowScoring | None = None, trusted: bool = False
    ):
        self.rater, self.window_scoring, self.trusted = rater, window_scoring, trusted
        found = loaded(rater, trusted)
        if not isinstance(found, LoadedTextRater):
            raise ConfigurationError(f"{found!r} is no rater of text: name one that is.")
        self.fingerprint = found.fingerprint

    @property
    def loaded(self) -> LoadedTextRater:
        """The rater, loaded once in a process.

        Raises ConfigurationError where another one has taken its place.
        """
        found = loaded(self.rater, self.trusted)
        if found.fingerprint != self.fingerprint:
            raise ConfigurationError(
                f"{self.rater} has another rater now (fingerprint {found.fingerprint[:12]}, and"
                f" {self.fingerprint[:12]} before): name a version (export/3), or begin anew."
            )
        return found

    def score(self, texts: Sequence[str | bytes]) -> dict[str, np.ndarray]:
        """`score` and `percentile` float32 [N], `windows` int32 [N]."""
        return self.loaded.score_texts(texts, self.window_scoring)


class TextFilter(TextScores):
    """Decides which texts stay; as `TextScores`, and:

    Args:
      discard_fraction, batch_size, seed, method, temperature: see `rules.decide`.
      reference: what percentiles are taken under, such as `ReferenceDistribution.from_scores` of a
        sample of the texts at hand; None: what the rater was exported with.
    """

    def __init__(
        self,
        rater: str,
        discard_fraction: Decimal,
        batch_size: int = 64,
        seed: int = 0,
        method: str = "keep_probability",
        temperature: float | None = None,
        reference: ReferenceDistribution | None = None,
        window_scoring: WindowScoring | None = None,
        trusted: bool = False,
    ):
        amount = Amount(discard_fraction, batch_size, seed, temperature)
        rule = find_rule(method, amount).decide  # refuses bad settings before anything is loaded
        super().__init__(rater, window_scoring, trusted)
        self.deciding = Deciding(rule, amount, reference or self.loaded.document_reference)

    def decide(self, ids: Sequence[str], scores: np.ndarray) -> Decisions:
        """Decides about N texts; one whose id is its text draws by its content."""
        return self.deciding(ids, scores)


@functools.lru_cache(maxsize=4)  # a process may have a filter and one that measures
def loaded(rater: str, trusted: bool):
    """See `load_rater`."""
    return load_rater(rater, trusted=trusted)
