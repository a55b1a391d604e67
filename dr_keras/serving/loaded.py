"""What a loaded rater of any kind can do."""

from collections.abc import Callable, Mapping
import functools

import numpy as np
import tensorflow as tf

from dr_keras.errors import ArtefactError, DataError
from dr_keras.rating.fractions import Decimal, keep_probability, oversized_batch
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import schema
from dr_keras.serving.frozen import freeze
from dr_keras.serving.metadata import FILE_NAME, facts_only


class LoadedRater:
    """Scores and percentiles from an exported rater; made by `load_rater`.

    A subclass, one for each kind of data, says how inputs reach the signatures: `needed`,
    `_score_tensors`, `_score_python`, `_is_example` and `_frozen_specs`.

    Attributes:
      path: the version it was loaded from.
      metadata: what `serving.metadata.describe` wrote, as a dict.
      reference: the distribution of scores of windows (or images).
      document_reference: that of whole documents; the same where there is no difference.
      fingerprint: hex SHA-256 of weights and of what decides the scores besides.
      trusted: whether it was loaded as one whose graph may hold any operation; who loads it again
        elsewhere, such as a worker, says so again.
      facts: forms of what the metadata of the kind has beside that of all.
    """

    needed: tuple[str, ...] = ("serving_default", "keep_probability", "get_metadata")
    facts: Mapping[str, schema.Form] = {}
    trusted = False

    def __init__(self, path: str, saved_model, metadata: dict):
        self.path = path
        self.metadata = metadata
        self.fingerprint = metadata["fingerprint"]
        stored = metadata["document_reference"]
        try:
            self.reference = ReferenceDistribution.from_dict(metadata["reference"])
            self.document_reference = (
                ReferenceDistribution.from_dict(stored) if stored else self.reference
            )
        except DataError as error:
            raise ArtefactError(f"{path}: {error} Export the rater again.") from error
        self._saved_model = saved_model  # keeps the variables alive
        self.signatures = saved_model.signatures
        missing = [name for name in self.needed if name not in self.signatures]
        if missing:
            raise ArtefactError(f"{path} lacks the signatures {missing}: export the rater again.")
        if not self._is_described_by(facts_only(metadata)):
            raise ArtefactError(
                f"{path} is damaged: its {FILE_NAME} does not belong to its graph. Copy or export"
                " the rater again."
            )

    def _is_described_by(self, facts: dict) -> bool:
        try:
            in_graph = self.signatures["get_metadata"]()["metadata"].numpy()
            return schema.strict_json(in_graph) == facts
        except Exception:  # whatever a graph may raise that somebody else made
            return False

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({self.path!r}, {self.metadata['parameters']:,} parameters,"
            f" fingerprint {self.fingerprint[:12]})"
        )

    @tf.autograph.experimental.do_not_convert  # errors come out as they were raised
    def __call__(self, inputs):
        """Scores whatever is given.

        Args:
          inputs: what the kind of rater takes, by one or many; tensors; or a dataset of one of
            these, by examples or by batches (result: a dataset alike).

        Returns:
          A dict of `score` and `percentile`, float32: NumPy for Python and NumPy input, tensors for
          tensors, also in a graph.

        Raises:
          DataError: something else was given.
        """
        if isinstance(inputs, tf.data.Dataset):
            return self._score_dataset(inputs)
        if isinstance(inputs, dict):
            inputs = self._from_dict(inputs)
        if not tf.is_tensor(inputs):
            return self._score_python(inputs)
        refuse_composite(inputs)
        return self._score_tensors(inputs)

    def keep_probability(self, inputs, discard_fraction: Decimal, batch_size: int) -> dict:
        """Scores, and the chance to survive batch top-K.

        Args:
          inputs: as for a call; datasets become datasets.
          discard_fraction: f in [0, 1); the decimal counts, not its binary float.
          batch_size: B, examples kept of each oversized batch.

        Returns:
          What a call gives, and `keep_probability` float32.

        Raises:
          ConfigurationError: fraction or batch size out of range.
          DataError: inputs that cannot be scored.
        """
        oversized = oversized_batch(batch_size, discard_fraction)

        def add(scored):
            chance = keep_probability(scored["percentile"], int(batch_size), oversized)
            chance = tf.cast(chance, tf.float32)
            is_tensor = tf.is_tensor(scored["percentile"])
            return {**scored, "keep_probability": chance if is_tensor else chance.numpy()}

        scored = self(inputs)
        return scored.map(add) if isinstance(scored, tf.data.Dataset) else add(scored)

    def frozen_score_function(self, inputs: str | None = None) -> Callable:
        """A function to scores float32 [N], with the weights as constants, for input pipelines.

        Args:
          inputs: which of the kind's inputs it takes, for text "text" (string [N]) or "tokens"
            (int32 [N, S]); None takes the first.
        """
        specs = self._frozen_specs
        if inputs is None:
            inputs = next(iter(specs))
        if inputs not in specs:
            names = " or ".join(map(repr, specs))
            raise DataError(f"frozen_score_function takes {names}, not {inputs!r}.")
        return freeze(self, specs[inputs])

    @functools.cached_property
    def _frozen_specs(self) -> dict[str, tf.TensorSpec]:
        """Batches that pipelines may hand over, by name."""
        raise NotImplementedError

    def _from_dict(self, inputs: dict):
        """The value to score from the features of an example or a batch."""
        raise NotImplementedError

    def _score_tensors(self, inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        """`score` and `percentile` of a batch, also in a graph."""
        raise NotImplementedError

    def _score_python(self, inputs) -> dict[str, np.ndarray]:
        """`score` and `percentile` of one or many Python or NumPy values."""
        raise NotImplementedError

    def _is_example(self, spec: tf.TensorSpec) -> bool:
        """Whether elements of a dataset are single examples, and not batches."""
        raise NotImplementedError

    def _score_dataset(self, dataset: tf.data.Dataset, batch_size: int = 64) -> tf.data.Dataset:
        spec = dataset.element_spec
        spec = self._from_dict(spec) if isinstance(spec, dict) else spec
        if not isinstance(spec, tf.TensorSpec) or spec.shape.rank is None:
            raise DataError(
                f"A rater of {self.metadata['kind']} scores datasets of what it takes, not of"
                f" {dataset.element_spec}: map the dataset first, or use dr_keras' top_k with key."
            )
        is_example = self._is_example(spec)
        batches = dataset.batch(batch_size) if is_example else dataset
        scored = batches.map(self)
        return scored.unbatch() if is_example else scored


def refuse_composite(value, name: str = "input") -> None:
    """Raises DataError for tensors of several parts, which no signature takes."""
    if isinstance(value, (tf.RaggedTensor, tf.SparseTensor, tf.IndexedSlices)):
        raise DataError(
            f"The {name} is a {type(value).__name__}: make it dense first, with to_tensor() or"
            " tf.sparse.to_dense."
        )


def values_of(tensor: tf.Tensor) -> np.ndarray | None:
    """What is in a tensor, where that is known already; None in a graph."""
    return tensor.numpy() if tf.executing_eagerly() and hasattr(tensor, "numpy") else None


def as_arrays(outputs: dict[str, tf.Tensor]) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in outputs.items()}
