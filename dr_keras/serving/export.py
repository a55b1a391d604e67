"""A rater as a SavedModel that any TensorFlow program can load, without dr_keras.

`<directory>/<version>/` holds `saved_model.pb`, `variables/`, `rater.json` (see
`serving.metadata`) and the tokenizer's files under `assets.extra/tokenizer/`. It is written under
a temporary name and renamed, so a version that can be seen is whole.

Signatures; all outputs are dicts:

    serving_default  text string [B]      -> score float32 [B], percentile float32 [B]
    serve_tokens     tokens int32 [B, S]  -> score, percentile; 0 is padding; core operations only
    text_windows     text string [B]      -> tokens int32 [N, S], document int32 [N]
    get_metadata     (nothing)            -> metadata, a JSON string

Texts longer than S tokens are scored window by window (`serving.windows`). Any bytes are text. An
empty text, or a row of nothing but padding, has the lowest score of the reference distribution
and percentile 0: there is nothing to learn from it, and the network never saw one.
"""

import json
import os
import uuid

import keras
import tensorflow as tf

from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.filtering.reference import ReferenceDistribution
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving import windows


def export_rater(
    rater: keras.Model,
    tokenizer: Tokenizer,
    sequence_length: int,
    directory: str,
    reference: ReferenceDistribution,
    metadata: dict | None = None,
    version: int | None = None,
    document_reference: ReferenceDistribution | None = None,
    chunk: int = 256,
) -> str:
    """Writes `<directory>/<version>/`.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B].
      tokenizer: the one it was meta-trained with.
      sequence_length: S, tokens in a window.
      directory: root of the versions, made where it is missing.
      reference: distribution of the scores of windows; percentiles are taken under it.
      metadata: what else is worth knowing (meta-step, gin config, data fingerprint), JSON-able.
      version: a positive integer; None takes the next one.
      document_reference: distribution of the scores of whole documents, for the percentiles of
        texts; None uses `reference`, which is exact while documents fit into one window.
      chunk: windows scored at once inside `serving_default`; bounds its memory.

    Returns:
      The path of the version.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together.
      ArtefactError: the version exists already.
    """
    _check_fit(rater, tokenizer, sequence_length)
    directory = os.fspath(directory)
    tf.io.gfile.makedirs(directory)
    if version is None:
        version = max(versions(directory), default=0) + 1
    final = os.path.join(directory, str(int(version)))
    if tf.io.gfile.exists(final):
        raise ArtefactError(f"{final} exists already: choose another version, or remove it first.")
    facts = metadata_file.describe(
        rater, tokenizer, sequence_length, reference, document_reference, metadata or {}
    )
    # servers look at integer names only
    temporary = os.path.join(directory, f"tmp-{version}-{uuid.uuid4().hex[:8]}")
    try:
        _archive(rater, tokenizer, facts, chunk).write_out(temporary, verbose=False)
        if tokenizer.assets:
            assets = os.path.join(temporary, metadata_file.TOKENIZER_DIRECTORY)
            tf.io.gfile.makedirs(assets)
            for path in tokenizer.assets:
                tf.io.gfile.copy(path, os.path.join(assets, os.path.basename(path)))
        metadata_file.write(temporary, facts)
        tf.io.gfile.rename(temporary, final)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
    return final


def versions(directory: str) -> list[int]:
    """The versions below a directory, ascending; none where it does not exist."""
    if not tf.io.gfile.isdir(directory):
        return []
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(directory)]
    return sorted(int(name) for name in names if name.isascii() and name.isdigit())


def _archive(
    rater: keras.Model, tokenizer: Tokenizer, facts: dict, chunk: int
) -> keras.export.ExportArchive:
    length = facts["sequence_length"]
    window_reference = ReferenceDistribution.from_dict(facts["reference"])
    text_reference = window_reference
    if facts["document_reference"]:
        text_reference = ReferenceDistribution.from_dict(facts["document_reference"])

    def score(tokens):
        return tf.cast(rater({"tokens": tokens}, training=False), tf.float32)

    def outputs(scores, empty, reference):
        scores = tf.where(empty, reference.quantiles[0], scores)
        percentile = tf.where(empty, 0.0, reference.percentile(scores))
        return {"score": scores, "percentile": percentile}

    def serve_tokens(tokens):
        return outputs(score(tokens), windows.is_empty(tokens), window_reference)

    def text_windows(text):
        tokens, document = windows.text_windows(tokenizer, text, length)
        return {"tokens": tokens, "document": document}

    def serve_text(text):
        tokens, owner = windows.text_windows(tokenizer, text, length)
        scores = windows.score_in_chunks(score, tokens, chunk)
        scores, empty = windows.document_scores(scores, tokens, owner, tf.shape(text)[0])
        return outputs(scores, empty, text_reference)

    def get_metadata():
        return {"metadata": tf.constant(json.dumps(facts))}

    archive = keras.export.ExportArchive()
    archive.track(rater)
    for resource in tokenizer.trackables:
        archive.track(resource)
    text = tf.TensorSpec([None], tf.string, name="text")
    width = None if facts["variable_length"] else length
    tokens = tf.TensorSpec([None, width], tf.int32, name="tokens")
    archive.add_endpoint("serving_default", serve_text, [text])
    archive.add_endpoint("serve_tokens", serve_tokens, [tokens])
    archive.add_endpoint("text_windows", text_windows, [text])
    archive.add_endpoint("get_metadata", get_metadata, [])
    return archive


def _check_fit(rater: keras.Model, tokenizer: Tokenizer, sequence_length: int) -> None:
    if len(rater.inputs) != 1 or len(rater.inputs[0].shape) != 2:
        raise ConfigurationError(
            "An exported text rater takes {'tokens': int32 [B, S]} and nothing else; this one takes"
            f" {[tensor.name for tensor in rater.inputs]}."
        )
    width = rater.inputs[0].shape[1]
    if width not in (None, sequence_length):
        raise ConfigurationError(
            f"The rater takes windows of {width} tokens, but sequence_length is {sequence_length}:"
            " export it with the length it was built for."
        )
    for layer in rater.layers:
        positions = getattr(layer, "sequence_length", None)  # of a position embedding
        if positions is not None and positions < sequence_length:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {positions} positions, but sequence_length"
                f" is {sequence_length}: export it with the length it was built for."
            )
        reads_tokens = isinstance(layer, keras.layers.Embedding) and layer.input is rater.inputs[0]
        if reads_tokens and layer.input_dim < tokenizer.vocabulary_size:
            raise ConfigurationError(
                f"The rater's layer '{layer.name}' knows {layer.input_dim} token ids, but the"
                f" {tokenizer.name} tokenizer has {tokenizer.vocabulary_size}: use the tokenizer"
                " that the rater was meta-trained with."
            )
