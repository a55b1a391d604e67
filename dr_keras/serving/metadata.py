"""What an exported rater says about itself: `rater.json` beside `saved_model.pb`.

The same facts are a constant inside the graph (signature `get_metadata`), for servers that see
nothing but the SavedModel. `rater.json` also lists the files and their sizes and is written last,
so a directory that was cut short is recognised.
"""

import hashlib
import importlib.metadata
import json
import os
import platform

import keras
import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ArtefactError, DataError
from dr_keras.filtering.reference import ReferenceDistribution

FORMAT = "dr_keras rater"
SCHEMA_VERSION = 1
FILE_NAME = "rater.json"
TOKENIZER_DIRECTORY = os.path.join("assets.extra", "tokenizer")


def describe(
    rater: keras.Model,
    tokenizer: Tokenizer,
    sequence_length: int,
    reference: ReferenceDistribution,
    document_reference: ReferenceDistribution | None,
    training: dict,
) -> dict:
    """The metadata of a rater about to be exported, JSON-able.

    Keys: `format`, `schema_version`, `fingerprint` (SHA-256 of weights, tokenizer and sequence
    length), `tokenizer` (its config), `sequence_length`, `variable_length` (whether windows may be
    shorter than that), `parameters`, `requires` (modules to import before loading), `reference`
    and `document_reference` (quantiles of the scores of windows and of whole documents, or None),
    `versions`, and `training`: what the exporter knows, such as meta-step, gin config and data
    fingerprint.

    Raises:
      DataError: `training` holds something that JSON cannot.
    """
    try:
        training = json.loads(json.dumps(training))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The metadata given to export_rater cannot be written as JSON ({error}): use strings,"
            " numbers, lists and dicts."
        ) from error
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "fingerprint": _fingerprint(rater, tokenizer, sequence_length),
        "tokenizer": tokenizer.config(),
        "sequence_length": sequence_length,
        "variable_length": rater.inputs[0].shape[1] is None,
        "parameters": int(rater.count_params()),
        "requires": ["tensorflow_text"] if tokenizer.needs_tensorflow_text else [],
        "reference": reference.to_dict(),
        "document_reference": document_reference.to_dict() if document_reference else None,
        "versions": _versions(tokenizer),
        "training": training,
    }


def _fingerprint(rater: keras.Model, tokenizer: Tokenizer, sequence_length: int) -> str:
    digest = hashlib.sha256()
    config = json.dumps(tokenizer.config(), sort_keys=True)
    digest.update(f"{rater.name} {sequence_length} {config}\n".encode())
    for weight in rater.get_weights():
        digest.update(f"{weight.dtype} {weight.shape}\n".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _versions(tokenizer: Tokenizer) -> dict[str, str]:
    versions = {
        "dr_keras": dr_keras.__version__,
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }
    if tokenizer.needs_tensorflow_text:
        versions["tensorflow_text"] = importlib.metadata.version("tensorflow-text")
    return versions


def write(directory: str, metadata: dict) -> None:
    """Writes `rater.json`, with the sizes of all files that are there already."""
    stored = {**metadata, "files": _sizes(directory)}
    with tf.io.gfile.GFile(os.path.join(directory, FILE_NAME), "w") as file:
        file.write(json.dumps(stored, indent=1))


def read(directory: str) -> dict:
    """Reads `rater.json` and checks that the directory is whole.

    Raises:
      ArtefactError: not an exported rater, or a part of one, or of a newer dr_keras.
    """
    path = os.path.join(directory, FILE_NAME)
    if not tf.io.gfile.exists(path):
        raise ArtefactError(
            f"{directory} is not an exported rater: it has no {FILE_NAME}. Name the folder that"
            " export_rater wrote (<run>/export, or one version in it); if this is one, its copy was"
            " cut short."
        )
    try:
        with tf.io.gfile.GFile(path, "r") as file:
            metadata = json.loads(file.read())
    except (ValueError, tf.errors.OpError) as error:
        raise ArtefactError(
            f"{path} cannot be read ({error}): the copy is damaged; copy or export the rater again."
        ) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ArtefactError(f"{path} does not describe a dr_keras rater: name another directory.")
    if metadata.get("schema_version", 0) > SCHEMA_VERSION:
        raise ArtefactError(
            f"{path} has schema version {metadata['schema_version']}, and this dr_keras"
            f" ({dr_keras.__version__}) reads up to {SCHEMA_VERSION}: install a newer one."
        )
    _check_sizes(directory, metadata.get("files", {}))
    return metadata


def _check_sizes(directory: str, expected: dict[str, int]) -> None:
    found = _sizes(directory)
    for name, size in expected.items():
        if name not in found:
            raise ArtefactError(
                f"{directory} is only part of a rater: the file {name} is missing. Copy or export"
                " it again."
            )
        if found[name] != size:
            raise ArtefactError(
                f"{directory} is only part of a rater: {name} has {found[name]} bytes and should"
                f" have {size}. Copy or export it again."
            )


def _sizes(directory: str) -> dict[str, int]:
    sizes = {}
    for folder, _, names in tf.io.gfile.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory).replace(os.sep, "/")
            if relative != FILE_NAME:
                sizes[relative] = int(tf.io.gfile.stat(path).length)
    return dict(sorted(sizes.items()))
