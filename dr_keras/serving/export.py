"""A rater as a SavedModel that any TensorFlow program can load, without dr_keras.

`<directory>/<version>/` holds `saved_model.pb`, `variables/`, `rater.json` (see `serving.folder`),
under `assets.extra/` the files that the kind of rater brings (a tokenizer's vocabulary) and, where
tensorflow-serving-api is installed, warm-up requests for TensorFlow Serving.
It is written under a temporary name and renamed, so a version that can be seen is whole.

A rater whose graph has operations beyond core TensorFlow (a subword tokenizer's) loads as a whole
only where these are registered. `assets.extra/core/1/` is then a second SavedModel with the
signatures that do without, for programs and servers that lack them.

What depends on the kind of data lies in one file for each kind (`text`, `examples`, `images`,
`sources`):

  - a subclass of `signatures.RaterKind` with what is exported, and the signatures registered with
    it; an exporter makes it and hands it to `write_artefact`;
  - a subclass of `serving.loading.LoadedRater`, which says how Python values become inputs of these
    signatures, and a line in `serving.loading.LOADED_KINDS`, by which `load_rater` finds it.

Made here, of every kind, are

    get_metadata    (nothing)           -> metadata, a JSON string
    serve_metadata  request string [B]  -> metadata [B], for TensorFlow Serving, which takes no
                                           request without inputs; what it says does not matter

Each kind of data has an exporter here. That of a run is bound by gin as EXPORTER and called as

    exporter(rater, examples, scores, directory, metadata) -> path of the version

    rater: Keras model with the weights to ship.
    examples: an ExampleSet, the reference sample.
    scores: float32 [N], the rater's scores of it.
    directory: root of the versions.
    metadata: JSON-able, joins `rater.json`.
    reference_loss: a ReferenceLoss, by keyword, where the rater reads "reference_loss".

To export another kind of data, write one with a `RaterKind` of its own (`serving.signatures`).
"""

import importlib.util
import json
import logging
import os
import uuid

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.models.rater_scores import ReferenceLoss, state_read
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import folder, operations, windows
from dr_keras.serving.examples import ExampleKind
from dr_keras.serving.images import ImageKind
from dr_keras.serving.signatures import RaterKind, References, Signature
from dr_keras.serving.sources import SourceKind
from dr_keras.serving.text import TextKind
from dr_keras.system import locks
import gin

# Servers are given a folder of versions, hence the 1.
CORE_COPY = os.path.join(folder.ASSETS, "core", "1")
# The name that servers look for.
WARMUP = os.path.join(folder.ASSETS, "tf_serving_warmup_requests")
# Seconds that another export may take to rename its version.
_WAIT = 60.0

# What a run hands its exporter.
_NOT_BOUND = ["rater", "examples", "scores", "directory", "metadata", "reference_loss"]

_logger = logging.getLogger(__name__)


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
    reference_loss: ReferenceLoss | None = None,
) -> str:
    """Writes `<directory>/<version>/`, with the signatures that `serving.text` lists.

    Args:
      rater: {"tokens": int32 [B, S]} -> scores [B] or, by token, [B, S]. One that takes any number
        of tokens up to S (`text_rater` does) spares the cost of padding.
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
      reference_loss: of a rater that reads "reference_loss": the frozen language model, which goes
        into the artefact, and its loss. Its logits, [chunk, S, vocabulary], are held at once.

    Returns:
      The path of the version.

    Raises:
      ConfigurationError: rater, tokenizer and sequence length do not fit together, or the rater
        reads what only meta-training knows.
      ArtefactError: the version exists already.
    """
    kind = TextKind(rater, tokenizer, sequence_length, example_feature, chunk, reference_loss)
    return write_artefact(kind, directory, reference, document_reference, metadata, version)


@gin.configurable(allowlist=["tokenizer"])
def export_text(
    rater: keras.Model,
    examples: ExampleSet,
    scores: np.ndarray,
    directory: str,
    metadata: dict,
    tokenizer: Tokenizer = gin.REQUIRED,
    reference_loss: ReferenceLoss | None = None,
) -> str:
    """Exports a rater of token windows; `tokenizer` is the one that made the tokens.

    A rater that reads "reference_loss" where the examples have such a column is exported as one of
    `tokens` and `reference_loss`, without text.
    """
    if "reference_loss" in examples.features and "reference_loss" in state_read(rater):
        return export_examples(rater, examples, scores, directory, metadata)
    return export_rater(
        rater,
        tokenizer,
        int(examples.features["tokens"].shape[1]),
        directory,
        ReferenceDistribution.from_scores(scores),
        metadata,
        document_reference=ReferenceDistribution.from_scores(document_scores(examples, scores)),
        reference_loss=reference_loss,
    )


def document_scores(examples: ExampleSet, scores: np.ndarray) -> np.ndarray:
    """Mean score of each document's windows, weighed by their real tokens."""
    owners, index = np.unique(document_ids(examples), return_inverse=True)
    lengths = np.count_nonzero(examples.features["tokens"], axis=1)
    means, _ = windows.document_means(scores, lengths, index, len(owners))
    return means


@gin.configurable(denylist=_NOT_BOUND)
def export_examples(
    rater: keras.Model,
    examples: ExampleSet,
    scores: np.ndarray,
    directory: str,
    metadata: dict,
    reference_loss: ReferenceLoss | None = None,
) -> str:
    """Exports a rater of named features: tables, or whatever has no kind of its own."""
    kind = ExampleKind(rater, examples, reference_loss)
    reference = ReferenceDistribution.from_scores(scores)
    return write_artefact(kind, directory, reference, metadata=metadata)


@gin.configurable(denylist=_NOT_BOUND)
def export_images(
    rater: keras.Model,
    examples: ExampleSet,
    scores: np.ndarray,
    directory: str,
    metadata: dict,
    reference_loss: ReferenceLoss | None = None,
) -> str:
    """Exports a rater of images, for uint8 and for floats."""
    kind = ImageKind(rater, examples, reference_loss)
    reference = ReferenceDistribution.from_scores(scores)
    return write_artefact(kind, directory, reference, metadata=metadata)


@gin.configurable(denylist=_NOT_BOUND[:-1])
def export_sources(
    rater: keras.Model, examples: ExampleSet, scores: np.ndarray, directory: str, metadata: dict
) -> str:
    """Exports a rater of sources, which takes their names."""
    reference = ReferenceDistribution.from_scores(scores)
    return write_artefact(SourceKind(rater), directory, reference, metadata=metadata)


# ------------------------------------------------------------------------------ of every kind


def write_artefact(
    rater_kind: RaterKind,
    directory: str | os.PathLike,
    reference: ReferenceDistribution,
    document_reference: ReferenceDistribution | None = None,
    metadata: dict | None = None,
    version: int | None = None,
) -> str:
    """Writes `<directory>/<version>/`.

    Args:
      rater_kind: the rater, its signatures and its files.
      directory: root of the versions, made where it is missing.
      reference: distribution of the scores of windows (or images).
      document_reference: distribution of the scores of documents; None uses `reference`.
      metadata: what else is worth knowing (meta-step, gin config, data fingerprint), JSON-able.
      version: a positive integer; None takes the next one.

    Returns:
      The path of the version.

    Raises:
      ArtefactError: the version exists already, or the directory cannot be made.
      ConfigurationError: the version is not a positive integer.
      DataError: `metadata` holds something that JSON cannot.
    """
    directory = os.fspath(directory)
    if version is not None and (int(version) != version or version < 1):
        raise ConfigurationError(f"version is {version!r}: servers read positive integers only.")
    facts = folder.describe(rater_kind, reference, document_reference, metadata or {})
    try:
        tf.io.gfile.makedirs(directory)
    except tf.errors.OpError as error:
        raise ArtefactError(
            f"{directory} cannot be made ({error.message}): name another directory."
        ) from error
    _free_path(directory, version)  # raises before the work where it is taken
    references = References(reference, document_reference or reference)
    # servers look at integer names only
    temporary = os.path.join(directory, f"tmp-{uuid.uuid4().hex[:12]}")
    try:
        signatures = rater_kind.signatures(references)
        _save(temporary, signatures | _of_metadata(facts), rater_kind.trackables)
        if rater_kind.requires:
            core = {name: one for name, one in signatures.items() if one.core}
            _save(os.path.join(temporary, CORE_COPY), core, [])
        for name, source in rater_kind.assets.items():
            target = os.path.join(temporary, folder.ASSETS, name)
            tf.io.gfile.makedirs(os.path.dirname(target))
            tf.io.gfile.copy(source, target)
        _write_warmup(temporary, signatures)
        folder.write(temporary, facts)
        _warn_of_foreign_operations(temporary, rater_kind.requires)
        # Of two exports at a time both get a version, the one that is done first the lower.
        with locks.alone(directory, "an export", ArtefactError, wait=_WAIT):
            final = _free_path(directory, version)
            tf.io.gfile.rename(temporary, final)
    finally:
        if tf.io.gfile.exists(temporary):
            tf.io.gfile.rmtree(temporary)
    return final


def _warn_of_foreign_operations(directory: str, modules: list[str]) -> None:
    """Whoever exports learns now what whoever loads would be told."""
    graphs = folder.graph_folders(folder.sizes(directory, but=folder.FILE_NAME))
    for _, shown in operations.foreign(directory, graphs, modules):
        _logger.warning(
            "The graph of this rater has operations that load_rater refuses unless told (%s): load"
            " it with load_rater(path, trusted=True), on the command line with --trust_rater.",
            shown,
        )


def _free_path(directory: str, version: int | None) -> str:
    """Path of a version that does not exist; None takes the next one."""
    if version is None:
        version = max(folder.versions(directory), default=0) + 1
    path = os.path.join(directory, str(int(version)))
    if tf.io.gfile.exists(path):
        raise ArtefactError(f"{path} exists already: choose another version, or remove it first.")
    return path


def _of_metadata(facts: dict) -> dict[str, Signature]:
    text = json.dumps(facts)

    @tf.function(input_signature=[], autograph=False)
    def stored():
        return tf.constant(text)

    request = tf.TensorSpec([None], tf.string, name="request")
    return {
        "get_metadata": Signature(lambda: {"metadata": stored()}, []),
        "serve_metadata": Signature(
            lambda request: {"metadata": tf.fill(tf.shape(request), stored())}, [request]
        ),
    }


def _save(directory: str, signatures: dict[str, Signature], trackables: list) -> None:
    archive = keras.export.ExportArchive()
    # Variables are found in the signatures; a tracked Keras model would be stored a second time.
    for resource in trackables:
        archive.track(resource)
    # Keras makes the first endpoint serving_default
    for name in sorted(signatures, key=lambda name: name != "serving_default"):
        archive.add_endpoint(name, signatures[name].function, list(signatures[name].inputs))
    archive.write_out(directory, verbose=False)


def can_warm_up() -> bool:
    """Whether warm-up requests can be made here."""
    return importlib.util.find_spec("tensorflow_serving") is not None


def _write_warmup(directory: str, signatures: dict[str, Signature]) -> None:
    """Writes what TensorFlow Serving sends through a model before it takes traffic.

    Without it the first requests pay for what TensorFlow does once. The file is a TFRecord of
    `PredictionLog` messages, which belong to the protocol of TensorFlow Serving and come with
    `pip install dr_keras[serving]`; without them the file is left out, and all else is the same.
    """
    requests = {name: one.warmup for name, one in signatures.items() if one.warmup}
    if not can_warm_up() or not requests:
        return
    # an extra, and its import takes a second
    from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

    path = os.path.join(directory, WARMUP)
    tf.io.gfile.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in requests.items():
            request = predict_pb2.PredictRequest()
            # The server does not look at the name here: it has one model at hand.
            request.model_spec.name = "rater"
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            log = prediction_log_pb2.PredictionLog(
                predict_log=prediction_log_pb2.PredictLog(request=request)
            )
            writer.write(log.SerializeToString())
