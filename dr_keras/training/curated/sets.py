"""The sets of a `CuratedModel`: what it streams from an ExampleSet, and what is held out.

A held-out set is kept in memory, in one order that the seed decides, and a meta-step's batch is a
function of its number: nothing to save for a resume.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import contextlib
import dataclasses

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.columns import by_rows, value_counts
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.streams import BatchStream
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.seeds import derive_seed
from dr_keras.training.batches import gathered
from dr_keras.training.curated.elements import SOURCE, check_specs, regrouped


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out sets in one order decided by the seed, as variables outside of any graph."""

    features: dict[str, dict[str, tf.Variable]]
    sizes: dict[str, int]

    @classmethod
    def of(cls, sets: Mapping[str, ExampleSet], seed: int) -> "HeldOut":
        features = {}
        for name, examples in sets.items():
            order = np.random.default_rng(derive_seed(seed, "held out", name)).permutation(
                len(examples)
            )
            features[name] = {
                key: tf.Variable(np.asarray(values[order]), trainable=False)
                for key, values in examples.features.items()
            }
        return cls(features, {name: len(examples) for name, examples in sets.items()})

    def batches(self, meta_step: tf.Tensor, size: int) -> dict[str, dict[str, tf.Tensor]]:
        """The next `size` examples of each set; after its last example comes its first."""
        first = tf.cast(meta_step, tf.int64) * size
        found = {}
        for name, columns in self.features.items():
            rows = (first + tf.range(size, dtype=tf.int64)) % self.sizes[name]
            found[name] = {key: tf.gather(values, rows) for key, values in columns.items()}
        return found


def by_name(held_out) -> dict:
    """Held-out sets by name; a dict of arrays is one set."""
    if isinstance(held_out, Mapping):
        if all(isinstance(v, (ExampleSet, tf.data.Dataset, Mapping)) for v in held_out.values()):
            return dict(held_out)
    return {"outer": held_out}


@contextlib.contextmanager
def stream(
    examples: ExampleSet, size: int, seed: int, first: Callable[[], int], names: Sequence[str]
) -> Iterator[tf.data.Dataset]:
    """Endless batches of a set, addressed by (seed, step), for the time of a `with` block.

    Args:
      first: () -> the step to begin at, asked when the first batch is read: after a callback has
        restored what was saved.
      names: of sources; with none, batches do not say where examples came from.
    """
    if names:
        places = {name: place for place, name in enumerate(names)}

        def numbered(part):
            found, index = np.unique(part.astype(str), return_inverse=True)
            return np.array([places[name] for name in found], np.int32)[index]

        numbers = by_rows(numbered, examples.sources)
        examples = dataclasses.replace(examples, features={**examples.features, SOURCE: numbers})
    batches = BatchStream(examples, size, seed)

    def rows():
        step = first()
        while True:
            yield batches.indices(step)
            step += 1

    numbers_of_rows = tf.data.Dataset.from_generator(
        rows, output_signature=tf.TensorSpec([size], tf.int64, name="rows")
    )
    with gathered(examples, numbers_of_rows) as dataset:
        yield dataset


def sources_of(examples: ExampleSet) -> list[str]:
    """The names of a set's sources, in order; none where all examples are of one."""
    names = sorted(map(str, value_counts(examples.sources)))
    return names if len(names) > 1 else []


def whole(held_out, model: keras.Model, name: str) -> ExampleSet:
    """A held-out set as arrays: an ExampleSet, a dataset that ends, or a dict of arrays.

    Raises:
      ConfigurationError: it is none of these, or does not end.
      DataError: it is empty.
    """
    if isinstance(held_out, ExampleSet):
        examples = held_out
    else:
        features = _arrays(held_out, model, name)
        check_specs({n: tf.TensorSpec(v.shape, v.dtype) for n, v in features.items()})
        count = len(next(iter(features.values())))
        labels = objects([name] * count)
        examples = ExampleSet(features, objects(map(str, range(count))), labels, labels, name=name)
    if not len(examples):
        raise DataError(f"The held-out set '{name}' is empty: the rater is judged by it.")
    return examples


def _arrays(held_out, model: keras.Model, name: str) -> dict[str, np.ndarray]:
    if isinstance(held_out, Mapping):
        return {key: np.asarray(values) for key, values in held_out.items()}
    if not isinstance(held_out, tf.data.Dataset):
        raise ConfigurationError(
            f"The held-out set '{name}' is {type(held_out).__name__}: give a tf.data.Dataset, an"
            " ExampleSet, or a dict of arrays by feature."
        )
    if held_out.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise ConfigurationError(
            f"The held-out set '{name}' is a dataset without an end, and it is kept in memory: give"
            " one that ends (take), of some thousands of examples."
        )
    sample = regrouped(held_out, model, 1, None, ())
    rows: dict[str, list] = {key: [] for key in sample.element_spec}
    for batch in sample.as_numpy_iterator():
        for key, value in batch.items():
            rows[key].append(value)
    if not next(iter(rows.values())):
        raise DataError(f"The held-out set '{name}' is empty: the rater is judged by it.")
    return {key: np.concatenate(values) for key, values in rows.items()}


def sample(batches: tf.data.Dataset) -> ExampleSet:
    """The first batch, for a look at what models make of it."""
    features = next(iter(batches.take(1).as_numpy_iterator()), None)
    if features is None:
        raise DataError("CuratedModel.fit: the dataset holds not one batch of B_up examples.")
    features.pop(SOURCE, None)
    count = len(next(iter(features.values())))
    labels = objects(["train"] * count)
    return ExampleSet(features, objects(map(str, range(count))), labels, labels, name="train")
