"""What arms choose among: examples with an id, a source, a number of tokens and a text.

A candidate is a window, or a whole document made of its windows. Arms need no more of it than this,
so every arm works on both.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools

import numpy as np

from dr_keras.data.columns import Column
from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.training.target_counts import count_targets


@dataclasses.dataclass(frozen=True, eq=False)
class Candidates:
    """Examples to choose among; row i of every array belongs to candidate i.

    Attributes:
      ids: object [N] of distinct strings.
      sources: object [N].
      documents: object [N], the id of the document each lies in: what folds are cut by.
      tokens: int64 [N], what it adds to the unique tokens of an arm.
      read_texts: returns the N texts; called once, when an arm first asks for them.
      passages: whether texts are pieces of longer documents, so that rules which presume a page
        say nothing about a short one (see `heuristics`).
      examples: the set they come from, or None.
      members: for each candidate its rows of `examples`; None where row i is candidate i.
      read_text: the text of one candidate, for who needs a few; None takes it of all.

    What is known of examples that are read on demand is a column here, too.
    """

    ids: np.ndarray | Column
    sources: np.ndarray | Column
    documents: np.ndarray | Column
    tokens: np.ndarray
    read_texts: Callable[[], Sequence[str]]
    passages: bool
    examples: ExampleSet | None = None
    members: list[np.ndarray] | None = None
    read_text: Callable[[int], str] | None = None

    def __post_init__(self):
        if not len(self.ids):
            raise DataError("There are no examples to choose among: the set is empty.")
        if isinstance(self.ids, Column):  # of a prepared corpus, which has seen to it
            return
        if len(set(self.ids.tolist())) < len(self.ids):
            raise DataError(
                "Some examples to choose among share an id, so a choice by id would mean both: make"
                " the ids unique (merge_duplicates joins exact copies)."
            )

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def texts(self) -> list[str]:
        """The N texts."""
        return list(self.read_texts())

    def text(self, row: int) -> str:
        """The text of one candidate."""
        if self.read_text is None or "texts" in self.__dict__:
            return self.texts[row]
        return self.read_text(row)

    def rows(self, kept: np.ndarray) -> np.ndarray:
        """Rows of `examples` that belong to the candidates at `kept` (bool [N]), ascending."""
        chosen = np.flatnonzero(kept)
        if self.members is None:
            return chosen
        return np.sort(np.concatenate([self.members[c] for c in chosen] or [chosen]))

    def of_examples(self, values: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """One figure a candidate, float64 [N], from one a row of `examples`: the weighted mean.

        Args:
          values: [rows]; scores, for example.
          weights: [rows], at least 0; None weighs all alike.
        """
        values = np.asarray(values, np.float64)
        if self.members is None:
            return _of_length(values, len(self))
        values = _of_length(values, len(self.examples))
        weights = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
        with np.errstate(invalid="ignore"):
            return np.array(
                [(values[m] @ weights[m]) / weights[m].sum() for m in self.members], np.float64
            )

    def token_means(self, values: np.ndarray) -> np.ndarray:
        """One figure a candidate, float64 [N]: of a document the mean over its windows' targets.

        Args:
          values: [rows]; what holds nothing to predict may be NaN, and counts for nothing.
        """
        if self.members is None:
            return self.of_examples(values)
        values, weights = np.asarray(values, np.float64), count_targets(self.examples)
        return self.of_examples(np.where((weights == 0) & np.isnan(values), 0.0, values), weights)

    def take(self, rows) -> "Candidates":
        """The candidates at `rows` (integers), as a set of their own without the examples."""
        rows = np.asarray(rows, np.int64)
        return Candidates(
            self.ids[rows],
            self.sources[rows],
            self.documents[rows],
            self.tokens[rows],
            lambda: [self.text(row) for row in rows],
            self.passages,
        )


def _of_length(values: np.ndarray, count: int) -> np.ndarray:
    if values.shape != (count,):
        raise ConfigurationError(
            f"there are {count} examples but the figures have the shape {values.shape}: give one"
            " figure an example, in the order of the set."
        )
    return values


def window_candidates(examples: ExampleSet) -> Candidates:
    """Every row of a set as a candidate of its own."""
    return Candidates(
        examples.ids,
        examples.sources,
        document_ids(examples),
        count_targets(examples),
        lambda: [examples.text(row) for row in range(len(examples))],
        passages=True,
        examples=examples,
        read_text=examples.text,
    )


def joined_candidates(examples: ExampleSet) -> Candidates:
    """Every document of a set as a candidate: its windows stay or go together.

    The text of a candidate is that of its windows in order; what windows shorter than the minimum
    were left out is missing from it.

    Args:
      examples: windows of documents; with packing, a window counts for the document it begins in.
    """
    documents, first, inverse = np.unique(
        document_ids(examples).astype(str), return_index=True, return_inverse=True
    )
    by_document = np.argsort(inverse, kind="stable")
    ends = np.cumsum(np.bincount(inverse, minlength=len(documents)))
    members = np.split(by_document, ends[:-1])
    order = np.argsort(first)  # documents in the order of the set
    members = [members[k] for k in order]
    targets = count_targets(examples)
    ids = documents[order].astype(object)

    def read(candidate: int) -> str:
        rows = members[candidate]
        if examples.render is None or "tokens" not in examples.features:
            return " ".join(examples.text(row) for row in rows)
        return examples.render({"tokens": examples.features["tokens"][rows].reshape(-1)})

    return Candidates(
        ids,
        examples.sources[first[order]],
        ids,
        np.array([targets[rows].sum() for rows in members], np.int64),
        lambda: list(map(read, range(len(members)))),
        passages=False,
        examples=examples,
        members=members,
        read_text=read,
    )
