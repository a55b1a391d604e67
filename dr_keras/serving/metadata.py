"""What an exported rater says about itself: `rater.json` beside `saved_model.pb`.

The same facts are a constant inside the graph (signature `get_metadata`), for servers that see
nothing but the SavedModel. `rater.json` also lists the files with their sizes and checksums and is
written last, so that a directory that was cut short or damaged is recognised.
"""

import hashlib
import importlib.metadata
import json
import os
import platform

import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.errors import ArtefactError, DataError
from dr_keras.filtering.reference import ReferenceDistribution

FORMAT = "dr_keras rater"
SCHEMA_VERSION = 2
FILE_NAME = "rater.json"
# Files that are none of TensorFlow's, and of these the tokenizer's.
ASSETS = "assets.extra"
TOKENIZER_FOLDER = "tokenizer"
# How a rater is asked, which changes nothing in what it answers.
_NOT_IDENTITY = ("example_feature",)
_KEYS = (
    "kind",
    "fingerprint",
    "requires",
    "reference",
    "document_reference",
    "versions",
    "training",
    "files",
    "sha256",
)


def describe(
    rater_kind,
    reference: ReferenceDistribution,
    document_reference: ReferenceDistribution | None,
    training: dict,
) -> dict:
    """The metadata of a rater about to be exported, JSON-able.

    Keys: `format`, `schema_version`, `kind`, `fingerprint` (SHA-256 of weights and of what the kind
    says of itself), `parameters`, `requires` (modules to import before loading), `reference` and
    `document_reference` (quantiles and sample size of the scores of windows and of whole documents,
    the latter None where there is no difference), `versions`, and `training`: what the exporter
    knows, such as meta-step, gin config and data fingerprint. A kind adds its own; text has
    `tokenizer` (its config), `sequence_length`, `variable_length` (whether windows may be shorter
    than that) and `example_feature`.

    Args:
      rater_kind: see `artefact.RaterKind`.
      reference: of windows.
      document_reference: of documents, or None.
      training: JSON-able.

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
    facts = rater_kind.facts()
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "kind": rater_kind.kind,
        "fingerprint": _fingerprint(rater_kind, facts),
        **facts,
        "parameters": int(rater_kind.rater.count_params()),
        "requires": list(rater_kind.requires),
        "reference": reference.to_dict(),
        "document_reference": document_reference.to_dict() if document_reference else None,
        "versions": _versions(rater_kind.requires),
        "training": training,
    }


def _fingerprint(rater_kind, facts: dict) -> str:
    digest = hashlib.sha256()
    facts = {key: value for key, value in facts.items() if key not in _NOT_IDENTITY}
    described = json.dumps([rater_kind.kind, facts], sort_keys=True)
    digest.update(f"{described}\n".encode())
    for weight in rater_kind.rater.get_weights():
        digest.update(f"{weight.dtype} {weight.shape}\n".encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def _versions(modules: list[str]) -> dict[str, str]:
    versions = {"dr_keras": dr_keras.__version__, "python": platform.python_version()}
    for module in ("tensorflow", "keras", *modules):
        versions[module] = importlib.metadata.version(module.replace("_", "-"))
    return versions


def write(directory: str, metadata: dict) -> None:
    """Writes `rater.json`, with sizes and checksums of all files that are there already."""
    stored = {**metadata, "files": _sizes(directory), "sha256": _checksums(directory)}
    with tf.io.gfile.GFile(os.path.join(directory, FILE_NAME), "w") as file:
        file.write(json.dumps(stored, indent=1))


def read(directory: str) -> dict:
    """Reads `rater.json` and checks that the directory is whole.

    Raises:
      ArtefactError: not an exported rater, or a part of one, or of a newer dr_keras.
    """
    path = os.path.join(directory, FILE_NAME)
    if not tf.io.gfile.exists(path):
        inside = os.path.join(directory, "export")
        hint = f" There is {inside}: name that." if tf.io.gfile.isdir(inside) else ""
        raise ArtefactError(
            f"{directory} is not an exported rater: it has no {FILE_NAME}. Name the folder that"
            " export_rater wrote (<run>/export, or one version in it); if this is one, its copy was"
            f" cut short.{hint}"
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
    found = metadata.get("schema_version")
    if found != SCHEMA_VERSION:
        newer = isinstance(found, int) and found > SCHEMA_VERSION
        raise ArtefactError(
            f"{path} has schema version {found}, and this dr_keras ({dr_keras.__version__}) reads"
            f" {SCHEMA_VERSION}: "
            + ("install a newer one." if newer else "export the rater again with this one.")
        )
    missing = [key for key in _KEYS if key not in metadata]
    if missing:
        raise ArtefactError(f"{path} lacks {', '.join(missing)}: copy or export the rater again.")
    _check_sizes(directory, metadata["files"])
    _check_sums(directory, metadata["sha256"])
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


def facts_only(metadata: dict) -> dict:
    """What the graph holds of it, too: all but what is known of files."""
    return {key: value for key, value in metadata.items() if key not in ("files", "sha256")}


def _check_sums(directory: str, expected: dict[str, str]) -> None:
    found = _checksums(directory)
    for name, checksum in expected.items():
        if found.get(name) != checksum:
            raise ArtefactError(
                f"{directory} is damaged: the content of {name} is not what was written. Copy or"
                " export the rater again."
            )


def _checksums(directory: str) -> dict[str, str]:
    """SHA-256 of all files but the variables, which TensorFlow checks when it reads them."""
    sums = {}
    for name in _sizes(directory):
        if "variables" not in name.split("/"):
            with tf.io.gfile.GFile(os.path.join(directory, name), "rb") as file:
                sums[name] = hashlib.sha256(file.read()).hexdigest()
    return sums


def _sizes(directory: str) -> dict[str, int]:
    sizes = {}
    for folder, _, names in tf.io.gfile.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory).replace(os.sep, "/")
            if relative != FILE_NAME:
                sizes[relative] = int(tf.io.gfile.stat(path).length)
    return dict(sorted(sizes.items()))
