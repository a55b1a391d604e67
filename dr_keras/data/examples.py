"""Sets of examples: rows of features, each with a stable id, and what is known about them.

Nothing here knows about text. A set of images, token windows or table rows looks the same to the
streams, to the meta-trainer and to the evaluation.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
import dataclasses
import functools
import hashlib
from typing import Any

import numpy as np

from dr_keras.data.columns import (
    Column,
    Each,
    concatenated,
    row_numbers,
    smallest,
    taken,
    value_counts,
)
from dr_keras.data.splits import PARTS
from dr_keras.errors import ConfigurationError, DataError


@dataclasses.dataclass(frozen=True, eq=False)
class ExampleSet:
    """Examples in a fixed order; row i of every array belongs to example i.

    In place of each array there may be a `Column`, whose rows are read where they are asked for:
    `values[rows]` gives an array of either.

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
      end_id: of text, the token that stands between two documents in one window; None without one.
      name: how messages call this set.

    Raises:
      DataError: arrays of different lengths, or weights that do not fit the corpora.
    """

    features: Mapping[str, np.ndarray | Column]
    ids: np.ndarray | Column
    sources: np.ndarray | Column
    corpora: np.ndarray | Column
    labels: Mapping[str, np.ndarray | Column] = dataclasses.field(default_factory=dict)
    weights: Mapping[str, float] | None = None
    render: Callable[[dict[str, np.ndarray]], str] | None = None
    end_id: int | None = None
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
        """The examples at `indices` (integers, a boolean mask [N] or a slice), in that order.

        Raises:
          IndexError: there is no such example.
        """
        rows: Any = indices
        if self._columns or not isinstance(indices, slice):  # slices of arrays are views
            rows = smallest(row_numbers(indices, len(self)), len(self))
        return dataclasses.replace(
            self,
            features={key: taken(value, rows) for key, value in self.features.items()},
            ids=taken(self.ids, rows),
            sources=taken(self.sources, rows),
            corpora=taken(self.corpora, rows),
            labels={key: taken(value, rows) for key, value in self.labels.items()},
            name=self.name if name is None else name,
        )

    @property
    def _columns(self) -> bool:
        """Whether anything is read on demand."""
        values = (*self.features.values(), *self.labels.values())
        all_of = (*values, self.ids, self.sources, self.corpora)
        return any(isinstance(value, Column) for value in all_of)

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
        counts = value_counts(self.sources)
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of ids, features and weights, in order.

        The order counts, because streams address rows by number: a run can be resumed only on the
        same rows in the same places. Labels and names do not count; no training sees them. Of
        columns, what they say of themselves is taken, so that those on disk are not read.
        """
        digest = hashlib.sha256()
        for key in sorted(self.features):
            value = self.features[key]
            if isinstance(value, Column):
                digest.update(f"{key} column {value.fingerprint}\n".encode())
                continue
            value = np.ascontiguousarray(value)
            digest.update(f"{key} {value.dtype.str} {value.shape}\n".encode())
            digest.update(repr(value.tolist()).encode() if value.dtype == object else value.data)
        for array in (self.ids, self.corpora):
            if isinstance(array, Column):
                digest.update(f"column {array.fingerprint}\n".encode())
                continue
            # repr keeps two neighbouring strings apart whatever they hold
            digest.update(repr(array.tolist()).encode("utf-8", "surrogatepass"))
        if self.weights is not None:
            digest.update(repr(sorted((k, float(v)) for k, v in self.weights.items())).encode())
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True, eq=False)
class Parts:
    """The four disjoint parts of a corpus; the outer part may be several sets with names.

    `train` feeds inner updates and evaluation models, `outer` the meta-objective, `validation`
    chooses checkpoints and discard fractions, `test` is reported and touched by nothing else.

    Attributes:
      outer: all that is held out for the meta-objective and looks like `train`, as one set.
      named_outer: the sets of the meta-objective by name, where there are several, or one whose
        features are not those of `train`; None for `outer` alone.
      target: name of the corpus that outer, validation and test are of, where a target was named.
      own_test: with a target, the test part of the corpus itself, to see what the target costs
        elsewhere; None without, or where nothing is left of it.
      notes: what people should know about these parts, a sentence each.
      disjoint: whether who made the parts has seen to it that nothing in `train` is held out, such
        as by document; what is not known to be is checked before a run (`data.overlap`).
    """

    train: ExampleSet
    outer: ExampleSet
    validation: ExampleSet
    test: ExampleSet
    named_outer: Mapping[str, ExampleSet] | None = None
    disjoint: bool = False
    target: str | None = None
    own_test: ExampleSet | None = None
    notes: Sequence[str] = ()

    def __post_init__(self):
        if self.named_outer is not None:
            check_set_names("named_outer", self.named_outer)

    @classmethod
    def of(cls, sets: Mapping[str, ExampleSet], disjoint: bool = False) -> "Parts":
        """Parts of train, validation, test and either "outer" or some "outer/<name>"."""
        several = {k.removeprefix("outer/"): v for k, v in sets.items() if k.startswith("outer/")}
        train, validation, test = (sets[part] for part in ("train", "validation", "test"))
        if not several:
            return cls(train, sets["outer"], validation, test, disjoint=disjoint)
        features = set(train.features)
        alike = {name: one for name, one in several.items() if set(one.features) == features}
        whole = joined(alike, "outer") if alike else train.take([], "outer")
        return cls(train, whole, validation, test, several, disjoint)

    @property
    def outer_sets(self) -> dict[str, ExampleSet]:
        """The sets of the meta-objective by name; the only one is called "outer"."""
        return {"outer": self.outer} if self.named_outer is None else dict(self.named_outer)

    def items(self) -> list[tuple[str, ExampleSet]]:
        """(part name, examples) in the order of `splits.PARTS`."""
        return [(name, getattr(self, name)) for name in PARTS]

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all sets: a run resumes only on the data it began with."""
        sets = self.items()
        sets += [(f"outer/{name}", one) for name, one in (self.named_outer or {}).items()]
        lines = "".join(f"{name} {part.fingerprint}\n" for name, part in sets)
        return hashlib.sha256(lines.encode()).hexdigest()


def by_part(outer, validation, test) -> dict:
    """Part -> what was given for it; each of several outer sets by name is "outer/<name>".

    Raises:
      ConfigurationError: names that are none.
    """
    if not isinstance(outer, Mapping):
        return {"outer": outer, "validation": validation, "test": test}
    check_set_names("outer", outer)
    several = {f"outer/{name}": given for name, given in outer.items()}
    return {**several, "validation": validation, "test": test}


def part_argument(part: str) -> str:
    """How a part is called where it is an argument: "outer/code" is "outer['code']"."""
    part, _, name = part.partition("/")
    return f"{part}[{name!r}]" if name else part


def check_set_names(argument: str, sets: Mapping[str, object]) -> None:
    """Raises ConfigurationError unless the names of held-out sets can stand in logs and messages.

    Args:
      argument: as messages call it.
      sets: name -> anything.
    """
    wrong = [name for name in sets if not isinstance(name, str) or not name or "/" in name]
    if wrong or not sets:
        given = f"the name {wrong[0]!r}" if wrong else "no set"
        raise ConfigurationError(
            f"{argument} has {given}: give a dict of at least one held-out set by its name, a text"
            " without '/'."
        )


def joined(sets: Mapping[str, ExampleSet], name: str) -> ExampleSet:
    """Sets with the same features as one, in their order; its ids are distinct again.

    An example that two sets share under one id is there once. Where sets have an id in common that
    means different examples, all ids of the later one begin with its name. Of several sets, weights
    are dropped.

    Args:
      sets: name -> examples with distinct ids.
      name: of the whole.
    """
    first = next(iter(sets.values()))
    if len(sets) == 1:
        return dataclasses.replace(first, name=name)
    seen: dict[str, tuple[ExampleSet, int]] = {}
    parts = []
    for set_name, examples in sets.items():
        known = {row: seen[one] for row, one in enumerate(examples.ids) if one in seen}
        if all(_same_row(examples, row, *twin) for row, twin in known.items()):
            examples = examples.take([row for row in range(len(examples)) if row not in known])
        else:
            ids = objects(f"{set_name}/{one}" for one in examples.ids)
            examples = dataclasses.replace(examples, ids=ids)
        seen.update((one, (examples, row)) for row, one in enumerate(examples.ids))
        parts.append(examples)
    labels = [key for key in first.labels if all(key in part.labels for part in parts)]
    return ExampleSet(
        features={k: concatenated([part.features[k] for part in parts]) for k in first.features},
        ids=concatenated([part.ids for part in parts]),
        sources=concatenated([part.sources for part in parts]),
        corpora=concatenated([part.corpora for part in parts]),
        labels={key: concatenated([part.labels[key] for part in parts]) for key in labels},
        render=first.render,
        end_id=first.end_id,
        name=name,
    )


def _same_row(one: ExampleSet, row: int, other: ExampleSet, twin: int) -> bool:
    return all(np.array_equal(v[row], other.features[key][twin]) for key, v in one.features.items())


def objects(values: Iterable) -> np.ndarray:
    """An object array [N]; numpy's own texts would all be as wide as the longest of them."""
    return np.array(list(values), object)


def evenly_spread(count: int, size: int) -> np.ndarray:
    """At most `size` of the rows 0 to `count` - 1, evenly spread, ascending: int64."""
    return np.linspace(0, count - 1, min(size, count)).astype(np.int64)


def document_ids(examples: ExampleSet) -> np.ndarray | Column:
    """The document of every example, object [N]: its id without the window's number."""
    if isinstance(examples.ids, Column):
        return Each(document_of, examples.ids)
    return objects(map(document_of, examples.ids))


def document_of(id: str) -> str:
    """The document of an example: its id without the window's number."""
    return str(id).rpartition("#")[0] or str(id)
