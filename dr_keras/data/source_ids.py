"""Where an example came from, as a number that models can read: the feature `source`.

For a rater that sees nothing else (`dr_keras.models.source_rater`): what it learns is a weight for
every source.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses

import numpy as np

from dr_keras.data.columns import Column, Each, value_counts
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import ConfigurationError, DataError
import gin

SOURCE = "source"
# Of a source that is not among those that are named; they count from 1.
UNKNOWN = 0


@gin.configurable
def source_data(
    data: Callable[[], Parts] | Parts = gin.REQUIRED, sources: Sequence[str] = gin.REQUIRED
) -> Parts:
    """The parts of `data`, with one more feature: `source`, int32 [N], the number of its source.

    Args:
      data: the parts, or a function that returns them, such as @text_data.
      sources: names of all sources of the train part. The k-th gets the number k, from 1. What is
        held out may come from elsewhere, and then has 0 there: a rater never reads it.

    Raises:
      ConfigurationError: a name twice, or the features have a `source` already.
      DataError: these are not the sources of the train part; the message has the right line.
    """
    names = list(sources)
    if isinstance(sources, str) or len(set(names)) < len(names):
        raise ConfigurationError(
            f"source_data.sources is {sources!r}: it must be a list of names, each of them once."
        )
    parts = data() if callable(data) else data
    train = parts.train
    if SOURCE in train.features:
        raise ConfigurationError(
            f"source_data: the examples have a feature '{SOURCE}' already, which would be replaced:"
            " give it another name."
        )
    present = sorted(value_counts(train.sources))
    if set(present) != set(names):
        lacking = sorted(set(present) - set(names))
        wrong = (
            f"the train part has a source {lacking[0]!r} that is not among them"
            if lacking
            else f"no example of the train part is of {sorted(set(names) - set(present))[0]!r}"
        )
        raise DataError(
            f"source_data.sources has {len(names)} names, and {wrong}. The sources are\n"
            f"SOURCES = {tuple(present)!r}"
        )
    numbers = {name: number for number, name in enumerate(names, 1)}
    features = set(train.features)

    def given(examples: ExampleSet) -> ExampleSet:
        # A held-out set of another form, such as of questions, stays what it is.
        return with_source(examples, numbers) if set(examples.features) == features else examples

    named = parts.named_outer
    return dataclasses.replace(
        parts,
        **{name: given(one) for name, one in parts.items()},
        named_outer=None if named is None else {name: given(one) for name, one in named.items()},
        own_test=None if parts.own_test is None else given(parts.own_test),
    )


def with_source(examples: ExampleSet, numbers: Mapping[str, int]) -> ExampleSet:
    """The set with the feature `source`; 0 where a source has no number."""
    if isinstance(examples.sources, Column):
        found: np.ndarray | Column = _Numbers(_Number(dict(numbers)), examples.sources)
    else:
        found = np.array([numbers.get(str(s), UNKNOWN) for s in examples.sources], np.int32)
    return dataclasses.replace(examples, features={**examples.features, SOURCE: found})


@dataclasses.dataclass(frozen=True)
class _Number:
    """A source's number; a class, so that it can be sent to other processes."""

    numbers: dict[str, int]

    def __call__(self, source) -> int:
        return self.numbers.get(str(source), UNKNOWN)


class _Numbers(Each):
    """Numbers of the sources of a set that is read on demand."""

    dtype = np.dtype(np.int32)

    def read(self, rows: np.ndarray) -> np.ndarray:
        return super().read(rows).astype(np.int32)
