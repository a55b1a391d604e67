"""What an exported rater says about itself: `rater.json` beside `saved_model.pb`.

The same facts are a constant inside the graph (signature `get_metadata`), for servers that see
nothing but the SavedModel. `rater.json` also lists the files with their sizes and checksums and is
written last, so that a directory that was cut short or damaged is recognised.
"""

from collections.abc import Mapping
import hashlib
import importlib.metadata
import json
import os
import platform

import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.errors import ArtefactError, DataError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving import folder, schema

FORMAT = "dr_keras rater"
SCHEMA_VERSION = 2
FILE_NAME = "rater.json"
# Files that are none of TensorFlow's, and of these the tokenizer's.
ASSETS = "assets.extra"
TOKENIZER_FOLDER = "tokenizer"
# How a rater is asked, which changes nothing in what it answers.
_NOT_IDENTITY = ("example_feature",)
# Far more than any has; read into memory at once, before anything is known of it.
_MOST_BYTES = 16 << 20
_DISTRIBUTION = schema.record(
    {"quantiles": schema.list_of(schema.FLOAT, least=2), "sample_size": schema.whole()}
)
# What raters of every kind say; a subclass of `loaded.LoadedRater` has what its kind adds.
_FACTS = {
    "kind": schema.NAME,
    "fingerprint": schema.SHA256,
    "parameters": schema.whole(),
    "requires": schema.list_of(schema.NAME),
    "reference": _DISTRIBUTION,
    "document_reference": schema.or_null(_DISTRIBUTION),
    "versions": schema.mapping(schema.TEXT),
    "training": schema.OBJECT,
    "files": schema.mapping(schema.whole(), keys=schema.FILE_PATH, least=1),
    "sha256": schema.mapping(schema.SHA256, keys=schema.FILE_PATH),
}


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
        training = json.loads(described := json.dumps(training))
    except (TypeError, ValueError) as error:
        raise DataError(
            f"The metadata given to export_rater cannot be written as JSON ({error}): use strings,"
            " numbers, lists and dicts."
        ) from error
    if not isinstance(training, dict) or len(described) > _MOST_BYTES // 2:
        raise DataError(
            f"The metadata given to export_rater is {schema.describe(training)} of"
            f" {len(described):,} characters: give a dict of at most {_MOST_BYTES // 2:,}."
        )
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
    sizes = folder.sizes(directory, but=FILE_NAME)
    stored = {**metadata, "files": sizes, "sha256": folder.checksums(directory, sizes)}
    with tf.io.gfile.GFile(os.path.join(directory, FILE_NAME), "w") as file:
        file.write(json.dumps(stored, indent=1))


def read(directory: str) -> dict:
    """Reads `rater.json` and checks that the directory is whole.

    Raises:
      ArtefactError: not an exported rater, or a part of one, or of a newer dr_keras.
    """
    metadata = parse(directory)
    check_files(directory, metadata)
    return metadata


def parse(directory: str) -> dict:
    """Reads `rater.json`; each part that raters of any kind have is of its type and in its range.

    Raises:
      ArtefactError: there is no such file, or it says something else.
    """
    path = os.path.join(directory, FILE_NAME)
    if folder.what_is(path) == folder.NOTHING:
        inside = os.path.join(directory, "export")
        hint = f" There is {inside}: name that." if tf.io.gfile.isdir(inside) else ""
        raise ArtefactError(
            f"{directory} is not an exported rater: it has no {FILE_NAME}. Name the folder that"
            " export_rater wrote (<run>/export, or one version in it); if this is one, its copy was"
            f" cut short.{hint}"
        )
    try:
        metadata = schema.strict_json(folder.read_small(path, _MOST_BYTES))
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise ArtefactError(
            f"{path} cannot be read ({error}): the copy is damaged; copy or export the rater again."
        ) from error
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise ArtefactError(f"{path} does not describe a dr_keras rater: name another directory.")
    found = metadata.get("schema_version")
    if found != SCHEMA_VERSION:
        newer = isinstance(found, int) and found > SCHEMA_VERSION
        raise ArtefactError(
            f"{path} has schema version {schema.describe(found)}, and this dr_keras"
            f" ({dr_keras.__version__}) reads {SCHEMA_VERSION}: "
            + ("install a newer one." if newer else "export the rater again with this one.")
        )
    check_facts(directory, metadata, _FACTS)
    return metadata


def check_facts(directory: str, metadata: dict, facts: Mapping[str, schema.Form]) -> None:
    """Raises ArtefactError unless the metadata has these keys, each in its form."""
    try:
        schema.check(metadata, schema.record(facts))
    except schema.Mismatch as error:
        path = os.path.join(directory, FILE_NAME)
        raise ArtefactError(f"{path} {error}: copy or export the rater again.") from error


def check_files(directory: str, metadata: dict) -> None:
    """Raises ArtefactError unless the files are there as they were written, and no others."""
    folder.check_sizes(directory, metadata["files"])
    unsummed = set(filter(folder.has_sum, metadata["files"])) ^ metadata["sha256"].keys()
    if unsummed:
        raise ArtefactError(
            f"{os.path.join(directory, FILE_NAME)} has of {min(unsummed)} only the size or only the"
            " checksum: copy or export the rater again."
        )
    folder.check_sums(directory, metadata["sha256"])


def facts_only(metadata: dict) -> dict:
    """What the graph holds of it, too: all but what is known of files."""
    return {key: value for key, value in metadata.items() if key not in ("files", "sha256")}
