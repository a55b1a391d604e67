"""What a held-out set holds, by source, script, length and labels, for whoever audits a choice."""

import numpy as np

from dr_keras.baselines.candidates import Candidates, joined_candidates
from dr_keras.data.examples import ExampleSet
from dr_keras.data.text_groups import text_groups
from dr_keras.rating.audit import UNKNOWN, counted
from dr_keras.runs.samples import whole_documents

_WINDOWS = 5_000  # looked at: shares need no more
_CLASSES = 100  # of a label that is a number


def held_out_groups(outer: ExampleSet) -> dict[str, dict[str, int]] | None:
    """Documents of a held-out set: dimension -> group -> number; None of an empty set.

    Of a large set whole documents are looked at, chosen by hash.
    """
    if not len(outer):
        return None
    sample = whole_documents(outer, _WINDOWS)
    if not has_text(sample):
        return counted(label_groups(sample) | {"source": sample.sources.astype(str).tolist()})
    documents = joined_candidates(sample)
    groups = text_groups(documents.texts) | {"source": documents.sources.astype(str).tolist()}
    first = _first_rows(documents)
    return counted(groups | label_groups(sample.take(first)))


def _first_rows(documents: Candidates) -> np.ndarray:
    members = documents.members or [np.array([row]) for row in range(len(documents))]
    return np.array([rows[0] for rows in members])


def has_text(examples: ExampleSet) -> bool:
    """Whether these are windows of tokens that can be read."""
    return "tokens" in examples.features and examples.render is not None


def label_groups(examples: ExampleSet) -> dict[str, list[str]]:
    """Label -> its value for every example, as text: texts, truth values, and numbers of classes.

    Labels are those known for evaluation, and the feature "label" of a classification. What takes
    more than a hundred values, as measures and levels do, is no group.
    """
    found = {}
    columns = {**examples.labels, "label": examples.features.get("label")}
    for name, values in columns.items():
        if values is None or getattr(values, "ndim", 1) != 1 or values.dtype.kind not in "OSUbiu":
            continue
        texts = [_text(value) for value in values[:].tolist()]
        different = set(texts)
        if different - {UNKNOWN} and len(different) <= _CLASSES:
            found[name] = texts
    return found


def _text(value: object) -> str:
    if value is None:
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
