"""Exported raters: how they are found, checked and loaded, and what one of any kind can do."""

from collections.abc import Mapping
import functools
import importlib
import os

import numpy as np
import tensorflow as tf

from dr_keras.config.gin_files import packaged_folder
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.rating.fractions import Decimal, keep_probability, oversized_batch
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import folder, operations
from dr_keras.system import schema

# Of a dataset of examples.
_EXAMPLES_AT_ONCE = 64
# By the `kind` in rater.json: module and class that a rater of the kind is loaded as.
LOADED_KINDS = {
    "text": ("dr_keras.serving.loaded_text", "LoadedTextRater"),
    "examples": ("dr_keras.serving.examples", "LoadedExampleRater"),
    "images": ("dr_keras.serving.images", "LoadedImageRater"),
    "sources": ("dr_keras.serving.sources", "LoadedSourceRater"),
}


class LoadedRater:
    """Scores and percentiles from an exported rater; made by `load_rater`.

    A subclass, one for each kind of data, says how inputs reach the signatures: `needed`, `_score`,
    `_is_example` and `_frozen_specs`.

    Attributes:
      path: the version it was loaded from.
      metadata: what `serving.folder.describe` wrote, as a dict.
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
        if not self._is_described_by(folder.facts_only(metadata)):
            raise ArtefactError(
                f"{path} is damaged: its {folder.FILE_NAME} does not belong to its graph. Copy or"
                " export the rater again."
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
        return self._score(inputs)

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

    @functools.cached_property
    def _frozen_specs(self) -> dict[str, tf.TensorSpec]:
        """Batches that pipelines may hand over, by name."""
        raise NotImplementedError

    def _score(self, inputs) -> dict:
        """`score` and `percentile` of anything but datasets; of tensors, also in a graph."""
        raise NotImplementedError

    def _is_example(self, spec) -> bool:
        """Whether elements of a dataset are single examples, and not batches.

        Raises:
          DataError: they are nothing that the rater takes.
        """
        raise NotImplementedError

    def _score_dataset(self, dataset: tf.data.Dataset) -> tf.data.Dataset:
        is_example = self._is_example(dataset.element_spec)
        scored = (dataset.batch(_EXAMPLES_AT_ONCE) if is_example else dataset).map(self)
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


def load_rater(path: str | os.PathLike, trusted: bool = False) -> LoadedRater:
    """Loads an exported rater.

    What it says of itself is checked before anything of it is acted on, and its graph may hold
    only what raters compute with (`serving.operations`): nothing that opens files or runs programs.

    Args:
      path: a version (`export/3`), or the root of versions, of which the highest is taken; or the
        name of a rater that comes with dr_keras, see `shipped_raters`.
      trusted: whether you know who made it, so that its graph may hold any operation and its
        `requires` any module: both can do all that you can do on this machine.

    Returns:
      A `LoadedRater` of the kind that was exported, such as `LoadedTextRater`.

    Raises:
      ArtefactError: the directory is missing, holds no rater, or only part of one, or needs what is
        not installed or not known.
    """
    path = os.fsdecode(path)
    try:
        return _load(find_version(path), trusted)
    except (OSError, UnicodeError, tf.errors.OpError) as error:
        raise ArtefactError(
            f"{ascii(path)[1:-1]} cannot be read ({error}): see to its permissions, or copy the"
            " rater again."
        ) from error


def _load(directory: str, trusted: bool) -> LoadedRater:
    metadata = folder.parse(directory)
    if metadata["kind"] not in LOADED_KINDS:
        raise ArtefactError(
            f"{directory} holds a rater of {metadata['kind']!r}, and this dr_keras knows"
            f" {', '.join(LOADED_KINDS)}: install a newer one."
        )
    module, name = LOADED_KINDS[metadata["kind"]]
    loaded_class = getattr(importlib.import_module(module), name)
    folder.check_facts(directory, metadata, loaded_class.facts)
    if not trusted:
        _check_modules(directory, metadata["requires"])
    folder.check_files(directory, metadata)
    if not trusted:
        graphs = folder.graph_folders(metadata["files"])
        operations.check(directory, graphs, metadata["requires"])
    _import_modules(directory, metadata["requires"])
    try:
        saved_model = tf.saved_model.load(directory)
    except Exception as error:  # whatever TensorFlow makes of a graph that is damaged or made up
        raise ArtefactError(
            f"{directory} cannot be loaded as a SavedModel ({error}): the copy is damaged; copy or"
            " export the rater again."
        ) from error
    rater = loaded_class(directory, saved_model, metadata)
    rater.trusted = trusted
    return rater


def _check_modules(directory: str, modules: list[str]) -> None:
    for module in modules:
        if module not in operations.OF_MODULES:
            raise ArtefactError(
                f"{directory} needs the module {ascii(module)[1:-1]}, and a rater may need"
                f" {', '.join(operations.OF_MODULES)}: importing any other runs what it holds. If"
                " you trust whoever made the rater, load it with load_rater(path, trusted=True), on"
                " the command line with --trust_rater."
            )


def _import_modules(directory: str, modules: list[str]) -> None:
    for module in modules:  # registers the operations that the graph uses
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ArtefactError(
                f"{directory} needs the module {module}, which cannot be imported ({error}):"
                f" install {module.replace('_', '-')}."
            ) from error


def shipped_raters() -> list[str]:
    """Names of the raters that come with dr_keras, which `load_rater` takes in place of a path."""
    try:
        shipped = packaged_folder("savedmodels")
    except ConfigurationError:  # an installation without them
        return []
    return sorted(entry.name for entry in shipped.iterdir() if folder.versions(entry))


def find_version(path: str) -> str:
    """The directory of a version: `path` itself, or the highest version below it.

    A name that is no directory may be that of a rater that comes with dr_keras.

    Raises:
      ArtefactError: it is not a directory.
    """
    if not tf.io.gfile.isdir(path):
        shipped = shipped_raters()
        if path not in shipped:
            raise ArtefactError(
                f"{path} is not a directory: name the one that export_rater wrote, or a rater that"
                f" comes with dr_keras ({', '.join(shipped) or 'there is none'})."
            )
        path = os.path.join(packaged_folder("savedmodels"), path)
    if folder.what_is(os.path.join(path, folder.FILE_NAME)) != folder.NOTHING:
        return path
    below = [os.path.join(path, name) for _, name in folder.version_names(path)]
    # The highest first, so that no more are looked at than are needed.
    return next((version for version in reversed(below) if tf.io.gfile.isdir(version)), path)
