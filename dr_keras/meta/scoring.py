"""Scores of a whole set of examples with a live rater."""

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.models.model_inputs import model_inputs


class Scorer:
    """Scores sets with one compiled function, whatever their size.

    Args:
      rater: Keras model from a batch's features to scores; its present weights are used.
      batch_size: rows scored at once; the last batch is filled up with copies of its last row.
    """

    def __init__(self, rater: keras.Model, batch_size: int = 128, jit_compile: bool = True):
        self._batch_size = batch_size

        def score(batch):
            return tf.reshape(rater(model_inputs(rater, batch), training=False), [-1])

        self._score = tf.function(score, jit_compile=jit_compile, autograph=False)

    def __call__(self, examples: ExampleSet) -> np.ndarray:
        """Scores, float32 [N], in the order of the set."""
        parts = []
        for start in range(0, len(examples), self._batch_size):
            rows = np.arange(start, start + self._batch_size)
            rows = np.minimum(rows, len(examples) - 1)
            batch = {name: tf.constant(v[rows]) for name, v in examples.features.items()}
            count = min(self._batch_size, len(examples) - start)
            parts.append(self._score(batch).numpy()[:count])
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)
