"""A rater that scores where an example came from: what is exported, and how it is loaded.

Its signatures:

    serving_default    source string [B]                     -> score, percentile
    serve_tf_examples  examples string [B]: tf.train.Example -> score, percentile
    keep_probability   source string [B], discard_fraction float64 [], batch_size int32 []
                                                             -> score, percentile, keep_probability

Scores, percentiles and probabilities are float32 [B], B >= 0. A source that the rater was not
trained with has no score: the graph fails, and names it. All examples of a source have one score,
so that a percentile says how much text is of sources that score lower.
"""

import functools

import keras
import numpy as np
import tensorflow as tf

from dr_keras.errors import DataError
from dr_keras.models.source_rater import SOURCE, sources_of
from dr_keras.serving.loading import LoadedRater, as_arrays
from dr_keras.serving.signatures import RaterKind, References, Signature, outputs
from dr_keras.system import schema

_SHOWN = 5  # names of unknown sources in a message


class SourceKind(RaterKind):
    """A rater of sources; `RaterKind` says what the parts are.

    Args:
      rater: made by `source_rater`.

    Raises:
      ConfigurationError: it is another kind of rater.
    """

    kind = "sources"

    def __init__(self, rater: keras.Model):
        super().__init__(rater)
        self.names = sources_of(rater)

    def facts(self) -> dict:
        return {"sources": list(self.names)}

    def served(self, references: References) -> Signature:
        names = tf.constant(self.names)

        def serve(source):
            matches = tf.equal(source[:, tf.newaxis], names)  # [B, K]
            known = tf.reduce_any(matches, axis=1)
            check = tf.debugging.Assert(
                tf.reduce_all(known),
                ["sources that the rater was not trained with:", tf.boolean_mask(source, ~known)],
                summarize=_SHOWN,
            )
            with tf.control_dependencies([check]):
                numbers = tf.argmax(tf.cast(matches, tf.int32), axis=1, output_type=tf.int32) + 1
            return outputs(self.rater({SOURCE: numbers}, training=False), references.units)

        spec = tf.TensorSpec([None], tf.string, name=SOURCE)
        return Signature(serve, [spec], {SOURCE: np.array([self.names[0]], object)})

    def parse(self, examples: tf.Tensor) -> list[tf.Tensor]:
        form = tf.io.FixedLenFeature([], tf.string)
        return [tf.io.parse_example(examples, {SOURCE: form})[SOURCE]]


class LoadedSourceRater(LoadedRater):
    """A `LoadedRater` that takes the name of a source, or many: a list, array or string tensor.

    Attributes:
      sources: the names that it knows.
    """

    facts = {"sources": schema.list_of(schema.TEXT, least=1)}

    def __init__(self, path: str, saved_model, metadata: dict):
        super().__init__(path, saved_model, metadata)
        self.sources = tuple(metadata["sources"])

    @functools.cached_property
    def _frozen_specs(self) -> dict[str, tf.TensorSpec]:
        return {SOURCE: tf.TensorSpec([None], tf.string)}

    def _score(self, inputs) -> dict:
        given = inputs[SOURCE] if isinstance(inputs, dict) and SOURCE in inputs else inputs
        is_tensor = tf.is_tensor(given)
        if not is_tensor:
            self._check_known(given)
            given = tf.constant(given, tf.string)
        if given.dtype != tf.string or given.shape.rank not in (0, 1):
            raise DataError(
                f"This rater scores names of sources, strings [] or [B], not {given.dtype.name} of"
                f" shape {given.shape}."
            )
        scored = self.signatures["serving_default"](source=tf.reshape(given, [-1]))
        if given.shape.rank == 0:
            scored = {name: value[0] for name, value in scored.items()}
        return scored if is_tensor else as_arrays(scored)

    def _check_known(self, names) -> None:
        for name in [names] if isinstance(names, str | bytes) else names:
            text = name.decode("utf-8", "replace") if isinstance(name, bytes) else name
            if not isinstance(text, str):
                raise DataError(
                    f"This rater scores names of sources, not {type(text).__name__}: give a string"
                    " or a list of them."
                )
            if text not in self.sources:
                raise DataError(
                    f"{self.path} was not trained with the source {text!r}: it knows"
                    f" {', '.join(self.sources)}. Meta-train with this source among SOURCES, or"
                    " leave its examples out."
                )

    def _is_example(self, spec) -> bool:
        part = spec.get(SOURCE) if isinstance(spec, dict) else spec
        if not isinstance(part, tf.TensorSpec) or part.dtype != tf.string:
            raise DataError(f"This rater scores datasets of names of sources, not of {spec}.")
        return part.shape.rank == 0
