"""Whom a rater's choice favours among the examples of a study: the finding "audit".

A window belongs to the source, script and labels of its document, and to the band of that
document's length in tokens. Shares are of examples, so a long document counts for all of its own.
"""

import numpy as np

from dr_keras.baselines.selection import kept_count
from dr_keras.data.columns import Column
from dr_keras.data.examples import ExampleSet, document_ids, evenly_spread
from dr_keras.data.text_groups import length_band, script
from dr_keras.rating.audit import audit, counted, tally
from dr_keras.rating.fractions import Decimal
from dr_keras.runs.held_out import has_text, label_groups
from dr_keras.training.target_counts import count_targets

_ROWS = 20_000  # looked at: texts are read one by one


def audited(train: ExampleSet, outer: ExampleSet, scores, discard_fraction: Decimal) -> dict:
    """The train part before and after the lowest-rated examples are dropped, and the outer part.

    Args:
      train: N examples.
      outer: what the rater was made for.
      scores: [N]; of equal ones the earlier is dropped first.
      discard_fraction: in [0, 1).

    Returns:
      As `rating.audit.audit`, of at most 20,000 evenly spread examples of each part.
    """
    scores = np.asarray(scores, np.float64)
    keep = np.zeros(len(scores), bool)
    number = kept_count(len(scores), discard_fraction)
    keep[np.argsort(scores, kind="stable")[len(scores) - number :]] = True
    rows = evenly_spread(len(train), _ROWS)
    held_out = counted(_groups(outer, evenly_spread(len(outer), _ROWS))) if len(outer) else None
    return audit(tally(_groups(train, rows), scores[rows], keep[rows]), held_out)


def _groups(examples: ExampleSet, rows: np.ndarray) -> dict[str, list[str]]:
    sample = examples.take(rows)
    groups = {"source": sample.sources[:].astype(str).tolist()}
    if has_text(sample):
        groups["script"] = [script(sample.text(row)) for row in range(len(sample))]
        sizes = _document_sizes(examples)
        if sizes is not None:
            groups["length"] = [length_band(int(size), "tokens") for size in sizes[rows]]
    return groups | label_groups(sample)


def _document_sizes(examples: ExampleSet) -> np.ndarray | None:
    """Tokens of the document of every example, [N]; None where that would read all from disk."""
    if isinstance(examples.ids, Column):
        return None
    _, owners = np.unique(document_ids(examples).astype(str), return_inverse=True)
    return np.bincount(owners, count_targets(examples)).astype(np.int64)[owners]
