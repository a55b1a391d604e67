"""How a rater becomes an artefact, one function for each kind of data; `serving.artefact` says what
is written.

The exporter of a run is bound by gin as EXPORTER and called as

    exporter(rater, examples, scores, directory, metadata) -> path of the version

    rater: Keras model with the weights to ship.
    examples: an ExampleSet, the reference sample.
    scores: float32 [N], the rater's scores of it.
    directory: root of the versions.
    metadata: JSON-able, joins `rater.json`.

To export another kind of data, write one with a `RaterKind` of its own (`serving.signatures`).
"""

import os

import keras
import numpy as np

from dr_keras.data.document_rows import document_ids
from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.artefact import write_artefact
from dr_keras.serving.examples import ExampleKind
from dr_keras.serving.images import ImageKind
from dr_keras.serving.text import TextKind
import gin


@gin.configurable(allowlist=["version", "chunk", "example_feature"])
def export_rater(
    rater: keras.Model,
    tokenizer: Tokenizer,
    sequence_length: int,
    directory: str | os.PathLike,
    reference: ReferenceDistribution,
    metadata: dict | None = None,
    version: int | None = None,
    document_reference: ReferenceDistribution | None = None,
    chunk: int = 256,
    example_feature: str = "text",
) -> str:
    """Writes `<directory>/<version>/`, with the signatures that `serving.text` lists.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B]. One that takes any number of tokens up to S
        (`text_rater` does) spares the cost of padding.
      tokenizer: the one it was meta-trained with.
      sequence_length: S, the most tokens in a window.
      directory: root of the versions, made where it is missing.
      reference: distribution of the scores of windows; percentiles are taken under it.
      metadata: what else is worth knowing (meta-step, gin config, data fingerprint), JSON-able.
      version: a positive integer; None takes the next one.
      document_reference: distribution of the scores of whole documents, for the percentiles of
        texts; None uses `reference`, which is exact while documents fit into one window.
      chunk: windows scored at once inside a graph; bounds its memory.
      example_feature: the feature of a tf.train.Example that holds the text, for
        `serve_tf_examples`.

    Returns:
      The path of the version.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together.
      ArtefactError: the version exists already.
    """
    kind = TextKind(rater, tokenizer, sequence_length, example_feature, chunk)
    return write_artefact(kind, directory, reference, document_reference, metadata, version)


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
