"""The documents of a prepared corpus, made of their windows again where they are asked for."""

from collections.abc import Iterator
import dataclasses
import functools

import numpy as np

from dr_keras.data.columns import value_counts
from dr_keras.data.documents import Document, make_document
from dr_keras.data.examples import ExampleSet, Parts, document_of
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.studies.cells import describe

_ROWS = 1 << 14  # windows whose ids are read at once


class WindowDocuments:
    """Documents of a set of windows that lie one after the other; none is held.

    A document's text is what its windows hold: what was too short for a window is missing, and so
    is what its tokenizer does not keep. Of packed windows, those that begin in a document are its.

    Args:
      examples: text windows whose ids are `<document id>#<k>`.
    """

    def __init__(self, examples: ExampleSet):
        self._examples = examples
        starts, last = [], None
        for start in range(0, len(examples), _ROWS):
            for row, id in enumerate(examples.ids[start : start + _ROWS].tolist(), start):
                owner = document_of(id)
                if owner != last:
                    starts.append(row)
                    last = owner
        self._starts = np.array([*starts, len(examples)], np.int64)

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> Document:
        return self._document(*self._starts[place : place + 2].tolist())

    def __iter__(self) -> Iterator[Document]:
        return (self[place] for place in range(len(self)))

    def _document(self, start: int, end: int) -> Document:
        examples = self._examples
        tokens = examples.features["tokens"][start:end].reshape(-1)
        level = float(examples.labels["level"][start])
        made = make_document(
            examples.render({"tokens": tokens}),
            str(examples.sources[start]),
            document_of(examples.ids[start]),
        )
        return dataclasses.replace(
            made,
            level=None if np.isnan(level) else level,
            damage=examples.labels["damage"][start],
            corpus=str(examples.corpora[start]),
        )


class PreparedText:
    """What a quick start reads of a corpus that was prepared: gin's `experiment.data`."""

    @functools.cached_property
    def setup(self) -> Experiment:
        return experiment()

    @property
    def _parts(self) -> Parts:
        return self.setup.parts

    @functools.cached_property
    def name(self) -> str:
        """Of the corpus."""
        return ", ".join(sorted(map(str, value_counts(self._parts.train.corpora)))[:20])

    @functools.cached_property
    def documents(self) -> dict[str, WindowDocuments]:
        return {part: WindowDocuments(examples) for part, examples in self._parts.items()}

    def describe(self) -> dict:
        """The `corpus` section of results.json."""
        described = describe(self._parts, self.name)
        for part, facts in described["parts"].items():
            facts["documents"] = len(self.documents[part])
        return described | {"notes": {"name": self.name, "kind": "prepared"}}
