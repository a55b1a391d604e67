"""A rater that sees nothing but where an example came from: one score a source.

With the softmax of `example_softmax` over a batch, a source s that is drawn with the share p_s then
has about the weight p_s exp(phi_s) / sum_r p_r exp(phi_r) of every batch: what is learned are the
weights of a mixture, as DoReMi (Xie et al., 2023) learns them from excess losses, here by the
meta-gradient of held-out loss.
"""

from collections.abc import Mapping, Sequence

import keras
import numpy as np

from dr_keras.errors import ConfigurationError, DataError
from dr_keras.models import layers
import gin

SOURCE = "source"


@keras.saving.register_keras_serializable("dr_keras")
class SourceScores(keras.layers.Layer):
    """One score for each source, 0 before any training.

    Args:
      names: of the sources; the k-th is number k, from 1.

    Attributes:
      names: a tuple of these.

    Raises:
      ConfigurationError: no name, or one twice.
    """

    def __init__(self, names: Sequence[str], **kwargs):
        super().__init__(**kwargs)
        self.names = () if isinstance(names, str) else tuple(names)
        if not self.names or len(set(self.names)) < len(self.names):
            raise ConfigurationError(
                f"source_rater.sources is {names!r}: it must be a list of names, each of them once;"
                " the same as source_data.sources."
            )

    def build(self, input_shape):
        self.scores = self.add_weight(
            name="scores", shape=(len(self.names), 1), initializer="zeros"
        )

    def call(self, numbers):
        """Scores [B] of numbers int32 [B]; 0 of a number that no source has."""
        # A product with the table: a lookup's gradient would be sparse, and there is little here.
        chosen = keras.ops.one_hot(numbers - 1, len(self.names), dtype=self.compute_dtype)
        return keras.ops.squeeze(keras.ops.matmul(chosen, self.scores), axis=-1)

    def get_config(self):
        return {**super().get_config(), "names": list(self.names)}


@gin.configurable
def source_rater(sources: Sequence[str] = gin.REQUIRED) -> keras.Model:
    """phi_eta(x) = the score of x's source.

    Args:
      sources: their names, as given to `source_data`, which numbers them.

    Returns:
      A Keras model from {"source": int32 [B]} to scores [B], float32 (float64 under that policy).
    """
    numbers = keras.Input((), dtype="int32", name=SOURCE)
    dtype = layers.output_dtype()
    scores = SourceScores(sources, name="source_scores", dtype=dtype)(numbers)
    return keras.Model({SOURCE: numbers}, scores, name="source_rater")


def sources_of(rater: keras.Model) -> tuple[str, ...]:
    """The names of the sources that a source rater knows, in the order of its scores.

    Raises:
      ConfigurationError: it is another kind of rater.
    """
    for layer in rater.layers:
        if isinstance(layer, SourceScores):
            return layer.names
    raise ConfigurationError(
        f"The rater '{rater.name}' does not score sources: weights of sources are what"
        " @source_rater learns (gin file experiments/source_weights.gin)."
    )


def check_sources(rater: keras.Model, features: Mapping, sources: Sequence, name: str) -> None:
    """Raises DataError where a source rater is to score an example of a source that it lacks.

    Args:
      rater: any; others are not looked at.
      features: of a set, name -> [N].
      sources: [N], names, for the message.
      name: of the set.
    """
    if not any(isinstance(layer, SourceScores) for layer in rater.layers):
        return
    known = sources_of(rater)
    numbers = np.asarray(features[SOURCE])
    unknown = np.flatnonzero((numbers < 1) | (numbers > len(known)))
    if unknown.size:
        found = sorted({str(sources[row]) for row in unknown})
        raise DataError(
            f"The set '{name}' has {unknown.size:,} examples of sources that the rater was not"
            f" trained with, such as {found[0]!r}: it knows {', '.join(known)}. Leave them out, or"
            " meta-train with their sources among SOURCES."
        )
