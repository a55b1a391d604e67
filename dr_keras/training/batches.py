"""Batches of an example set as tensors: gathered by row numbers, or all rows in order."""

import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet


def gathered(examples: ExampleSet, rows: np.ndarray) -> tf.data.Dataset:
    """Batches of `examples` given by row numbers [steps, B], gathered without Python."""
    table = {name: tf.constant(values) for name, values in examples.features.items()}
    batches = tf.data.Dataset.from_tensor_slices(rows).map(
        lambda chosen: {name: tf.gather(values, chosen) for name, values in table.items()}
    )
    # With autotuning, tearing the iterator down can wait for the tuning thread's current period,
    # which doubles up to a minute: seen as runs that take exactly 5.12, 10.24 or 20.48 seconds.
    options = tf.data.Options()
    options.autotune.enabled = False
    return batches.prefetch(2).with_options(options)


def in_order(examples: ExampleSet, size: int) -> list[dict[str, tf.Tensor]]:
    """Batches of one size; the last is filled up with copies of the first example."""
    rows = np.arange(-(-len(examples) // size) * size)
    rows[len(examples) :] = 0
    return [
        {name: tf.constant(values[chosen]) for name, values in examples.features.items()}
        for chosen in np.split(rows, len(rows) // size)
    ]
