"""The folder of an exported rater: what it says about itself, and whether its files are those.

`rater.json` lies beside `saved_model.pb`. The same facts are a constant inside the graph (signature
`get_metadata`), for servers that see nothing but the SavedModel. `rater.json` also lists the files
with their sizes and checksums and is written last, so that a directory that was cut short or
damaged is recognised.

Nothing here opens what is not a plain file, follows a folder that `rater.json` does not name, or
holds more of a file than a piece in memory: a folder that somebody else made may hold anything.
"""

from collections.abc import Iterable, Mapping
import errno
import hashlib
import importlib.metadata
import json
import os
import platform
import stat

import numpy as np
import tensorflow as tf

import dr_keras
from dr_keras.data.formats.kinds import SPECIAL
from dr_keras.data.formats.reading import local_path, names_in, sha256
from dr_keras.errors import ArtefactError, DataError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.system import schema

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
# Of the name of a version, leading zeros included; Python refuses to read numbers of thousands.
_MOST_DIGITS = 100
FILE, FOLDER, NOTHING, LOOSE_LINK = "a file", "a folder", "nothing", "a link to nothing"
GRAPH = "saved_model.pb"
# What TensorFlow opens by itself, below a folder with a graph.
_READ_BY_TENSORFLOW = ("saved_model.", "fingerprint.pb", "variables/variables.", "debug/saved_")
_FOLDERS = ("", "variables", "debug")
_KINDS = {stat.S_IFREG: FILE, stat.S_IFDIR: FOLDER, **SPECIAL}
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
    than that) and `example_feature`; `per_token` is true where it scores tokens, and left out
    elsewhere, as `features` is where a rater reads nothing of an inner model.

    Args:
      rater_kind: see `signatures.RaterKind`.
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
    for weight in (weight for model in rater_kind.models for weight in model.get_weights()):
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
    files = sizes(directory, but=FILE_NAME)
    stored = {**metadata, "files": files, "sha256": checksums(directory, files)}
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
    if what_is(path) == NOTHING:
        inside = os.path.join(directory, "export")
        hint = f" There is {inside}: name that." if tf.io.gfile.isdir(inside) else ""
        raise ArtefactError(
            f"{directory} is not an exported rater: it has no {FILE_NAME}. Name the folder that"
            " export_rater wrote (<run>/export, or one version in it); if this is one, its copy was"
            f" cut short.{hint}"
        )
    try:
        metadata = schema.strict_json(read_small(path, _MOST_BYTES))
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
    check_sizes(directory, metadata["files"])
    unsummed = set(filter(has_sum, metadata["files"])) ^ metadata["sha256"].keys()
    if unsummed:
        raise ArtefactError(
            f"{os.path.join(directory, FILE_NAME)} has of {min(unsummed)} only the size or only the"
            " checksum: copy or export the rater again."
        )
    check_sums(directory, metadata["sha256"])


def facts_only(metadata: dict) -> dict:
    """What the graph holds of it, too: all but what is known of files."""
    return {key: value for key, value in metadata.items() if key not in ("files", "sha256")}


# ------------------------------------------------------------------------------------- its files


def what_is(path: str) -> str:
    """What lies at a path, links followed: FILE, FOLDER, NOTHING or, in words, something else.

    Nothing is opened, so a pipe that nobody writes to is no reason to wait.
    """
    local = local_path(path)
    if local is None:
        if tf.io.gfile.isdir(path):
            return FOLDER
        return FILE if tf.io.gfile.exists(path) else NOTHING
    try:
        return _KINDS.get(stat.S_IFMT(os.stat(local).st_mode), "no file")
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        return LOOSE_LINK if os.path.islink(local) else NOTHING


def read_small(path: str, most: int) -> bytes:
    """The content of a plain file of at most `most` bytes.

    Raises:
      ArtefactError: it is something else, or larger.
    """
    found = what_is(path)
    if found != FILE:
        raise ArtefactError(f"{path} is {found}, and should be a file: copy the rater again.")
    size = int(tf.io.gfile.stat(path).length)
    if size > most:
        raise ArtefactError(
            f"{path} has {size:,} bytes, and {most:,} are the most that it may have: copy or export"
            " the rater again."
        )
    with tf.io.gfile.GFile(path, "rb") as file:
        return file.read(size)


def check_sizes(directory: str, expected: dict[str, int]) -> None:
    """Raises ArtefactError unless the files are there, whole, and all that TensorFlow will read."""
    for name, size in expected.items():
        path = os.path.join(directory, name)
        found = what_is(path)
        wrong = ""
        if found == NOTHING:
            wrong = f"only part of a rater: the file {name} is missing"
        elif found != FILE:
            wrong = f"no whole rater: {name} is {found}, and should be a file"
        elif (length := int(tf.io.gfile.stat(path).length)) != size:
            wrong = f"only part of a rater: {name} has {length} bytes and should have {size}"
        if wrong:
            raise ArtefactError(f"{directory} is {wrong}. Copy or export it again.")
    if GRAPH not in expected:
        raise ArtefactError(f"{directory} is no rater: the file {GRAPH} is missing.")
    for folder in graph_folders(expected):
        _refuse_others(directory, folder, expected)


def graph_folders(names: Iterable[str]) -> list[str]:
    """The folders that hold a graph, of all files of a rater; "" is the rater's own."""
    return sorted(os.path.dirname(name) for name in names if os.path.basename(name) == GRAPH)


def _refuse_others(directory: str, folder: str, expected: dict[str, int]) -> None:
    for inner in _FOLDERS:
        place = os.path.join(directory, folder, inner)
        if what_is(place) != FOLDER:
            continue
        for entry in names_in(place):
            below = os.path.join(inner, entry)
            name = os.path.join(folder, below)
            if name in expected or name == "rater.json":
                continue
            found = what_is(os.path.join(directory, name))
            is_read = below.startswith(_READ_BY_TENSORFLOW)
            if is_read or found not in (FILE, FOLDER, LOOSE_LINK, NOTHING):
                raise ArtefactError(
                    f"{directory} has {found} named {name!r} that its rater.json does not list:"
                    " remove it, or copy the rater again."
                )


def check_sums(directory: str, expected: dict[str, str]) -> None:
    """Raises ArtefactError where a file that is there has another content than it should."""
    for name, checksum in expected.items():
        if sha256(os.path.join(directory, name)) != checksum:
            raise ArtefactError(
                f"{directory} is damaged: the content of {name} is not what was written. Copy or"
                " export the rater again."
            )


def has_sum(name: str) -> bool:
    """Whether a file's checksum is stored: not the variables', which TensorFlow checks itself."""
    return "variables" not in name.split("/")


def checksums(directory: str, names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of the files that have one."""
    return {name: sha256(os.path.join(directory, name)) for name in names if has_sum(name)}


def sizes(directory: str, but: str) -> dict[str, int]:
    """Bytes of all files below a folder that was just written, by path, without the file `but`."""
    found = {}
    for folder, _, names in tf.io.gfile.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, directory).replace(os.sep, "/")
            if relative != but:
                found[relative] = int(tf.io.gfile.stat(path).length)
    return dict(sorted(found.items()))


# ------------------------------------------------------------------------ the versions of a rater


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
