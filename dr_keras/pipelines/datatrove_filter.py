"""A rater as a filter of datatrove.

    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter
    from dr_keras.pipelines.datatrove_filter import RaterFilter

    pipeline = [
        JsonlReader("in/"),
        RaterFilter("runs/mine/export", discard_fraction=0.5, exclusion_writer=JsonlWriter("out/")),
        JsonlWriter("kept/"),
    ]

Needs `pip install 'dr_keras[datatrove]'`; nothing else of dr_keras imports this module.
"""

import math
from typing import Any

try:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
except ImportError as error:
    raise ModuleNotFoundError(
        f"datatrove cannot be imported ({error}): pip install 'dr_keras[datatrove]'.",
        name="datatrove",
    ) from error

from dr_keras.pipelines.text_filter import TextFilter
from dr_keras.rating.fractions import Decimal


class RaterFilter(BaseFilter):
    """Keeps the better share of documents, and puts `score` and `percentile` into their metadata.

    Decisions are those of `filter-corpus --reference artefact` about the same ids. A dropped
    document says why: "no_finite_score", "percentile_too_low" or "not_drawn".

    Args:
      rater: path of an exported rater of text that workers can reach, or the name of one that comes
        with dr_keras.
      discard_fraction: f in [0, 1), the share of documents like those that the rater was exported
        with which goes.
      documents_per_batch: documents that are scored together; their windows fill the network's
        batches.
      exclusion_writer: a datatrove writer of what is dropped.
      settings: others of `TextFilter` (`batch_size` is B of the batch top-K that is imitated;
        `seed`, `method`, `temperature`, `reference`, `window_scoring`, `trusted`).

    Raises:
      ConfigurationError: a setting out of its range; it is no rater of text.
      ArtefactError: there is no such rater.
    """

    name = "dr_keras rater"

    def __init__(
        self,
        rater: str,
        discard_fraction: Decimal,
        documents_per_batch: int = 256,
        exclusion_writer: Any = None,
        **settings: Any,
    ):
        super().__init__(exclusion_writer, batch_size=documents_per_batch)
        self._filter = TextFilter(rater, discard_fraction, **settings)

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """See `filter_batch`."""
        return self.filter_batch([doc])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        """Whether each document stays, or (False, why not)."""
        found = self._filter.score([doc.text for doc in batch])
        decisions = self._filter.decide([str(doc.id) for doc in batch], found["score"])
        results: list[bool | tuple[bool, str]] = []
        rows = zip(
            batch, found["score"], decisions.percentile, decisions.keep, decisions.probability
        )
        for doc, score, percentile, stays, probability in rows:
            doc.metadata["score"] = float(score) if math.isfinite(score) else None
            doc.metadata["percentile"] = float(percentile)
            results.append(True if stays else (False, _reason(score, probability)))
        return results


def _reason(score: float, probability: float) -> str:
    """One of a few: datatrove counts documents by reason."""
    if not math.isfinite(score):
        return "no_finite_score"
    return "not_drawn" if probability else "percentile_too_low"
