"""Batches of an example set as tensors: gathered by row numbers, or all rows in order.

A set of arrays that is small stays where batches are made of it, and no Python runs between steps.
Of a large one, and of columns (`data.columns`), a thread reads the rows of a few batches ahead.
"""

from collections.abc import Iterable, Iterator
import contextlib
import dataclasses

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.system.reading_ahead import ReadingAhead

# Bytes of a set's features of which a copy is made.
_KEPT = 1 << 28


@contextlib.contextmanager
def gathered(
    examples: ExampleSet, rows: np.ndarray | tf.data.Dataset, read_ahead: int = 2
) -> Iterator[tf.data.Dataset]:
    """Batches of `examples` given by row numbers [steps, B], for the time of a `with` block.

    Args:
      rows: an array, or a dataset of int64 [B].
      read_ahead: batches made before they are needed.

    Raises:
      Exception: on leaving, what reading raised, in place of what TensorFlow makes of it.
    """
    failures: list[Exception] = []
    batches = rows
    if not isinstance(rows, tf.data.Dataset):
        batches = tf.data.Dataset.from_tensor_slices(rows)
    if _is_kept(examples):
        table = {name: tf.constant(values) for name, values in examples.features.items()}
        batches = batches.map(
            lambda chosen: {name: tf.gather(values, chosen) for name, values in table.items()}
        )
    else:
        batches = batches.map(lambda chosen: _read(examples, chosen, failures))
    # With autotuning, tearing the iterator down can wait for the tuning thread's current period,
    # which doubles up to a minute: seen as runs that take exactly 5.12, 10.24 or 20.48 seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    if read_ahead:
        batches = batches.prefetch(read_ahead)
    try:
        yield batches.with_options(options)
    except tf.errors.OpError as error:
        if failures:
            raise failures[0] from error
        raise


def in_order(
    examples: ExampleSet, size: int, read_ahead: int = 2
) -> Iterable[dict[str, tf.Tensor]]:
    """Batches of one size; the last is filled up with copies of the first example.

    Args:
      read_ahead: batches read before they are asked for, where they are not kept.

    Returns:
      What can be iterated over again and again.
    """
    batches = _InOrder(examples, size, read_ahead)
    return list(batches) if _is_kept(examples) else batches


@dataclasses.dataclass(frozen=True)
class _InOrder:
    """Batches that are read each time they are asked for."""

    examples: ExampleSet
    size: int
    read_ahead: int

    def __iter__(self) -> Iterator[dict[str, tf.Tensor]]:
        numbers = range(-(-len(self.examples) // self.size))
        with ReadingAhead(self._read, numbers, self.read_ahead) as read:
            for features in read:
                yield {name: tf.constant(values) for name, values in features.items()}

    def _read(self, number: int) -> dict[str, np.ndarray]:
        rows = np.arange(number * self.size, (number + 1) * self.size)
        rows[rows >= len(self.examples)] = 0
        return {name: values[rows] for name, values in self.examples.features.items()}


def _is_kept(examples: ExampleSet) -> bool:
    arrays = [v for v in examples.features.values() if isinstance(v, np.ndarray)]
    return len(arrays) == len(examples.features) and sum(v.nbytes for v in arrays) <= _KEPT


def _read(examples: ExampleSet, chosen: tf.Tensor, failures: list) -> dict[str, tf.Tensor]:
    """The rows `chosen`, int64 [B], read by Python when a batch is made."""
    features = examples.features

    def read(rows):
        try:
            return [np.asarray(values[rows]) for values in features.values()]
        except Exception as error:
            failures.append(error)
            raise

    types = [tf.as_dtype(values.dtype) for values in features.values()]
    found = tf.numpy_function(read, [chosen], types)
    for tensor, values in zip(found, features.values(), strict=True):
        tensor.set_shape([*chosen.shape, *values.shape[1:]])
    return dict(zip(features, found))
