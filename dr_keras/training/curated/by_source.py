"""What a batch's examples of each source get, as a Keras metric."""

from collections.abc import Sequence

import keras
import tensorflow as tf


class BySource(keras.metrics.Metric):
    """Means by source since the metric was reset; its result is a dict `<name>/<source>`.

    Args:
      sources: names; a source is known by its place among them.
      name: of the metric.
    """

    def __init__(self, sources: Sequence[str], name: str):
        super().__init__(name=name)
        self._sources = tuple(sources)
        self._total = self.add_variable([len(self._sources)], "zeros", name="total")
        self._count = self.add_variable([len(self._sources)], "zeros", name="count")

    def update_state(self, values, numbers, weights) -> None:
        """Adds examples.

        Args:
          values: float [B].
          numbers: int32 [B], each example's source.
          weights: float, [B] or of each source; a source's mean is the sum of its values over that
            of its weights.
        """
        count = len(self._sources)
        if weights.shape.rank == 1 and weights.shape == values.shape:
            weights = tf.math.unsorted_segment_sum(weights, numbers, count)
        self._total.assign_add(tf.math.unsorted_segment_sum(values, numbers, count))
        self._count.assign_add(tf.ones([count]) * weights)

    def result(self):
        means = tf.math.divide_no_nan(self._total.value, self._count.value)
        return {f"{self.name}/{source}": means[n] for n, source in enumerate(self._sources)}
