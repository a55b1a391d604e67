"""Sets of examples: rows of features, each with a stable id, and what is known about them.

Nothing here knows about text. A set of images, token windows or table rows looks the same to the
streams, to the meta-trainer and to the evaluation.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
import dataclasses
import functools
import hashlib

import numpy as np

from dr_keras.data.splits import PARTS
from dr_keras.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSet:
    """Examples in a fixed order; row i of every array belongs to example i.

    Attributes:
      features: what models read, name -> array [N, ...]. For text: `tokens`, int32 [N, S], where 0
        is padding.
      ids: object array [N] of strings; they point back to the corpus (`<document id>#<k>`).
      sources: object array [N] of strings: where the text came from, within its corpus.
      corpora: object array [N] of corpus names, the unit that `weights` speaks about.
      labels: known for evaluation only, never given to a model, name -> array [N]. For text:
        `level` float32 (damage in [0, 1], NaN where unknown) and `damage` (object: kind or None).
      weights: share of the batches that each corpus gets, corpus name -> weight; None draws every
        example equally often.
      render: turns one row (name -> array without the leading axis) into text for people, or None.
      name: how messages call this set.

    Raises:
      DataError: arrays of different lengths, or weights that do not fit the corpora.
    """

    features: Mapping[str, np.ndarray]
    ids: np.ndarray
    sources: np.ndarray
    corpora: np.ndarray
    labels: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    render: Callable[[dict[str, np.ndarray]], str] | None = None
    name: str = "examples"

    def __post_init__(self):
        if not self.features:
            raise DataError(f"The set '{self.name}' has no features: give it at least one array.")
        lengths = {
            **{f"features['{key}']": len(value) for key, value in self.features.items()},
            **{f"labels['{key}']": len(value) for key, value in self.labels.items()},
            "sources": len(self.sources),
            "corpora": len(self.corpora),
        }
        for field, length in lengths.items():
            if length != len(self.ids):
                raise DataError(
                    f"The set '{self.name}' has {len(self.ids)} ids but {length} rows in {field}:"
                    " every array needs one row an example."
                )

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices, name: str | None = None) -> "ExampleSet":
        """The examples at `indices` (integers, a boolean mask [N] or a slice), in that order."""
        if not isinstance(indices, slice):
            indices = np.asarray(indices)
            if indices.size == 0:  # np.asarray([]) would be float and index nothing
                indices = indices.astype(np.int64)
        return dataclasses.replace(
            self,
            features={key: value[indices] for key, value in self.features.items()},
            ids=self.ids[indices],
            sources=self.sources[indices],
            corpora=self.corpora[indices],
            labels={key: value[indices] for key, value in self.labels.items()},
            name=self.name if name is None else name,
        )

    def thinned(self, size: int | None) -> "ExampleSet":
        """At most `size` examples, evenly spread; None takes all."""
        if size is None or size >= len(self):
            return self
        return self.take(evenly_spread(len(self), size))

    def row(self, index: int) -> dict[str, np.ndarray]:
        """The features of one example, without the leading axis."""
        return {key: value[index] for key, value in self.features.items()}

    def text(self, index: int) -> str:
        """One example as people read it; its id where the set cannot be rendered."""
        return str(self.ids[index]) if self.render is None else self.render(self.row(index))

    def counts_by_source(self) -> dict[str, int]:
        """Examples of each source, the largest first, then by name."""
        counts = Counter(self.sources.tolist())
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of ids, features and weights, in order.

        The order counts, because streams address rows by number: a run can be resumed only on the
        same rows in the same places. Labels and names do not count; no training sees them.
        """
        digest = hashlib.sha256()
        for key in sorted(self.features):
            value = np.ascontiguousarray(self.features[key])
            digest.update(f"{key} {value.dtype.str} {value.shape}\n".encode())
            digest.update(repr(value.tolist()).encode() if value.dtype == object else value.data)
        for array in (self.ids, self.corpora):
            # repr keeps two neighbouring strings apart whatever they hold
            digest.update(repr(array.tolist()).encode("utf-8", "surrogatepass"))
        if self.weights is not None:
            digest.update(repr(sorted((k, float(v)) for k, v in self.weights.items())).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The four disjoint parts of a corpus.

    `train` feeds inner updates and evaluation models, `outer` the meta-objective, `validation`
    chooses checkpoints and discard fractions, `test` is reported and touched by nothing else.
    """

    train: ExampleSet
    outer: ExampleSet
    validation: ExampleSet
    test: ExampleSet

    def items(self) -> list[tuple[str, ExampleSet]]:
        """(part name, examples) in the order of `splits.PARTS`."""
        return [(name, getattr(self, name)) for name in PARTS]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the four parts: a run resumes only on the data it began with."""
        lines = "".join(f"{name} {part.fingerprint}\n" for name, part in self.items())
        return hashlib.sha256(lines.encode()).hexdigest()


def objects(values: Iterable) -> np.ndarray:
    """An object array [N]; numpy's own texts would all be as wide as the longest of them."""
    return np.array(list(values), object)


def evenly_spread(count: int, size: int) -> np.ndarray:
    """At most `size` of the rows 0 to `count` - 1, evenly spread, ascending: int64."""
    return np.linspace(0, count - 1, min(size, count)).astype(np.int64)


def document_ids(examples: ExampleSet) -> np.ndarray:
    """The document of every example, object [N]: its id without the window's number."""
    return objects(str(i).rpartition("#")[0] or str(i) for i in examples.ids)
