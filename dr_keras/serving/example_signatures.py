"""The signatures of a rater of examples with named features, such as rows of a table.

    serving_default    <feature> [B, ...], one an input      -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    keep_probability   <feature> ..., discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability

Scores, percentiles and probabilities are float32 [B], B >= 0. Features have the names, types and
shapes that the rater was meta-trained with; of a tf.train.Example, whole numbers are an int64_list
and others a float_list.
"""

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError
from dr_keras.meta.problem import model_inputs
from dr_keras.serving.artefact import Endpoint, References
from dr_keras.serving.signatures import KEEP_INPUTS, outputs, with_keep_probability


class ExampleKind:
    """A rater of named features, for `artefact.write_artefact`; see `artefact.RaterKind`.

    Args:
      rater: Keras model from features to scores [B] or [B, 1].
      examples: a set it was meta-trained with, for the types and shapes of its features.

    Raises:
      ConfigurationError: the rater reads a feature that the examples do not have.
    """

    kind = "examples"

    def __init__(self, rater: keras.Model, examples: ExampleSet):
        self.rater = rater
        self.requires: list[str] = []
        self.trackables: list = []
        self.assets: dict[str, str] = {}
        self.inputs = rater_inputs(rater, examples)

    def facts(self) -> dict:
        return {
            "inputs": {
                name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()[1:]}
                for name, spec in self.inputs.items()
            }
        }

    def endpoints(self, references: References) -> dict[str, Endpoint]:
        specs = list(self.inputs.values())
        names = list(self.inputs)

        def serve(*values):
            return outputs(self._score(dict(zip(names, values))), references.units)

        def serve_tf_examples(examples):
            return serve(*self._parse(examples).values())

        def keep_probability(*values):
            *features, discard_fraction, batch_size = values
            return with_keep_probability(serve(*features), discard_fraction, batch_size)

        examples = tf.TensorSpec([None], tf.string, name="examples")
        return {
            "serving_default": Endpoint(serve, specs),
            "serve_tf_examples": Endpoint(serve_tf_examples, [examples]),
            "keep_probability": Endpoint(keep_probability, [*specs, *KEEP_INPUTS]),
        }

    def warmup_requests(self) -> list[tuple[str, dict[str, np.ndarray]]]:
        rows = {
            name: np.zeros([2, *spec.shape[1:]], spec.dtype.as_numpy_dtype)
            for name, spec in self.inputs.items()
        }
        keep = {"discard_fraction": np.float64(0.5), "batch_size": np.int32(64)}
        return [("serving_default", rows), ("keep_probability", {**rows, **keep})]

    def _score(self, features: dict[str, tf.Tensor]) -> tf.Tensor:
        def score():
            scores = self.rater(model_inputs(self.rater, features), training=False)
            return tf.reshape(tf.cast(scores, tf.float32), [-1])

        # Some kernels, fused convolutions among them, fail on a batch of no examples.
        count = tf.shape(next(iter(features.values())))[0]
        return tf.cond(count > 0, score, lambda: tf.zeros([0], tf.float32))

    def _parse(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        """The features of serialised tf.train.Examples [B], in the order of `inputs`."""
        stored = {
            name: tf.io.FixedLenFeature(
                spec.shape[1:], tf.int64 if spec.dtype.is_integer else tf.float32
            )
            for name, spec in self.inputs.items()
        }
        parsed = tf.io.parse_example(examples, stored)
        return {name: tf.cast(parsed[name], spec.dtype) for name, spec in self.inputs.items()}


def rater_inputs(rater: keras.Model, examples: ExampleSet) -> dict[str, tf.TensorSpec]:
    """The features that a rater reads, batches of any size; all of them where it does not say.

    Raises:
      ConfigurationError: it reads one that the examples do not have.
    """
    names = [tensor.name for tensor in getattr(rater, "inputs", None) or []]
    if isinstance(rater, keras.Sequential) and names and names[0] not in examples.features:
        names = []
    names = names or list(examples.features)
    missing = [name for name in names if name not in examples.features]
    if missing:
        raise ConfigurationError(
            f"The rater '{rater.name}' reads {missing[0]!r}, and the examples have"
            f" {sorted(examples.features)}: name its inputs after features."
        )
    return {
        name: tf.TensorSpec(
            [None, *examples.features[name].shape[1:]], examples.features[name].dtype, name
        )
        for name in names
    }
