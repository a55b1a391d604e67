"""Exporters: how a run's rater becomes an artefact, one for each kind of data.

An exporter is bound by gin as EXPORTER and called as

    exporter(rater, examples, scores, directory, metadata) -> path of the version

    rater: Keras model with the weights to ship.
    examples: an ExampleSet, the reference sample.
    scores: float32 [N], the rater's scores of it.
    directory: root of the versions.
    metadata: JSON-able, joins `rater.json`.

To export another kind of data, write one with a `RaterKind` of its own (`serving.artefact`).
"""

import keras
import numpy as np

from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.artefact import write_artefact
from dr_keras.serving.example_signatures import ExampleKind
from dr_keras.serving.export import export_rater
from dr_keras.serving.image_signatures import ImageKind
import gin


@gin.configurable(allowlist=["tokenizer"])
def export_text(
    rater: keras.Model,
    examples: ExampleSet,
    scores: np.ndarray,
    directory: str,
    metadata: dict,
    tokenizer: Tokenizer = gin.REQUIRED,
) -> str:
    """Exports a rater of token windows; `tokenizer` is the one that made the tokens."""
    return export_rater(
        rater,
        tokenizer,
        int(examples.features["tokens"].shape[1]),
        directory,
        ReferenceDistribution.from_scores(scores),
        metadata,
        document_reference=ReferenceDistribution.from_scores(document_scores(examples, scores)),
    )


def document_scores(examples: ExampleSet, scores: np.ndarray) -> np.ndarray:
    """Mean score of each document's windows, weighed by their real tokens."""
    owners, index = np.unique(document_ids(examples), return_inverse=True)
    lengths = np.count_nonzero(examples.features["tokens"], axis=1)
    sums = np.bincount(index, weights=scores * lengths, minlength=len(owners))
    return sums / np.maximum(np.bincount(index, weights=lengths, minlength=len(owners)), 1)


@gin.configurable(denylist=["rater", "examples", "scores", "directory", "metadata"])
def export_examples(
    rater: keras.Model, examples: ExampleSet, scores: np.ndarray, directory: str, metadata: dict
) -> str:
    """Exports a rater of named features: tables, or whatever has no kind of its own."""
    kind = ExampleKind(rater, examples)
    return write_artefact(
        kind, directory, ReferenceDistribution.from_scores(scores), metadata=metadata
    )


@gin.configurable(denylist=["rater", "examples", "scores", "directory", "metadata"])
def export_images(
    rater: keras.Model, examples: ExampleSet, scores: np.ndarray, directory: str, metadata: dict
) -> str:
    """Exports a rater of images, for uint8 and for floats."""
    kind = ImageKind(rater, examples)
    return write_artefact(
        kind, directory, ReferenceDistribution.from_scores(scores), metadata=metadata
    )
