"""Exports a rater of text; see `serving.artefact` for what is written."""

import os

import keras

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.artefact import write_artefact
from dr_keras.serving.text_signatures import TextKind
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
    """Writes `<directory>/<version>/`, with the signatures that `text_signatures` lists.

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
