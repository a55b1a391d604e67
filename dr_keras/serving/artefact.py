"""A rater as a SavedModel that any TensorFlow program can load, without dr_keras.

`<directory>/<version>/` holds `saved_model.pb`, `variables/`, `rater.json` (see
`serving.metadata`), under `assets.extra/` the files that the kind of rater brings (a tokenizer's
vocabulary) and, where tensorflow-serving-api is installed, warm-up requests for TensorFlow Serving.
It is written under a temporary name and renamed, so a version that can be seen is whole.

A rater whose graph has operations beyond core TensorFlow (a subword tokenizer's) loads as a whole
only where these are registered. `assets.extra/core/1/` is then a second SavedModel with the
signatures that do without, for programs and servers that lack them.

What depends on the kind of data lies in one file for each kind (`text`, `examples`, `images`):

  - a subclass of `signatures.RaterKind` with what is exported, and the signatures registered with
    it; an exporter in `serving.export` makes it and hands it to `write_artefact`;
  - a subclass of `serving.loaded.LoadedRater`, which says how Python values become inputs of these
    signatures, and a line in `serving.loading.LOADED_KINDS`, by which `load_rater` finds it.

Made here, of every kind, are

    get_metadata    (nothing)           -> metadata, a JSON string
    serve_metadata  request string [B]  -> metadata [B], for TensorFlow Serving, which takes no
                                           request without inputs; what it says does not matter
"""

import importlib.util
import json
import logging
import os
import uuid

import keras
import tensorflow as tf

from dr_keras.data.formats.reading import names_in
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import folder, operations
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving.signatures import RaterKind, References, Signature
from dr_keras.system import locks

# Servers are given a folder of versions, hence the 1.
CORE_COPY = os.path.join(metadata_file.ASSETS, "core", "1")
# The name that servers look for.
WARMUP = os.path.join(metadata_file.ASSETS, "tf_serving_warmup_requests")
# Of the name of a version, leading zeros included; Python refuses to read numbers of thousands.
_MOST_DIGITS = 100
# Seconds that another export may take to rename its version.
_WAIT = 60.0

_logger = logging.getLogger(__name__)


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
    facts = metadata_file.describe(rater_kind, reference, document_reference, metadata or {})
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
            target = os.path.join(temporary, metadata_file.ASSETS, name)
            tf.io.gfile.makedirs(os.path.dirname(target))
            tf.io.gfile.copy(source, target)
        _write_warmup(temporary, signatures)
        metadata_file.write(temporary, facts)
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
    graphs = folder.graph_folders(folder.sizes(directory, but=metadata_file.FILE_NAME))
    for _, shown in operations.foreign(directory, graphs, modules):
        _logger.warning(
            "The graph of this rater has operations that load_rater refuses unless told (%s): load"
            " it with load_rater(path, trusted=True), on the command line with --trust_rater.",
            shown,
        )


def _free_path(directory: str, version: int | None) -> str:
    """Path of a version that does not exist; None takes the next one."""
    if version is None:
        version = max(versions(directory), default=0) + 1
    path = os.path.join(directory, str(int(version)))
    if tf.io.gfile.exists(path):
        raise ArtefactError(f"{path} exists already: choose another version, or remove it first.")
    return path


def versions(directory: str | os.PathLike) -> list[int]:
    """The versions below a directory, ascending; none where it does not exist.

    A number counts as taken whatever has it as its name: a folder, a file, `0007`.
    """
    return [number for number, _ in version_names(directory)]


def version_names(directory: str | os.PathLike) -> list[tuple[int, str]]:
    """Numbers of versions and the names that stand for them, ascending.

    Of two names for one number, such as 1 and 0001, the plain one comes last. Numbers beyond 64
    bits, which servers do not read either, are no versions.
    """
    directory = os.fspath(directory)
    if not tf.io.gfile.isdir(directory):
        return []
    names = names_in(directory)
    numbers = [n for n in names if n.isascii() and n.isdigit() and len(n) <= _MOST_DIGITS]
    found = [(int(name), name) for name in numbers if int(name) < 2**63]
    return sorted(found, key=lambda version: (version[0], -len(version[1])))


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
