"""What a prepared corpus is on disk, and the manifest that says so.

    <folder>/manifest.json                         written last: its presence means done
    <folder>/tokenizer/<assets>                    files of its tokenizer; none of the bytes
    <folder>/<part>/tokens-00000-of-00003.npy      [rows, S], 0 is padding
    <folder>/<part>/rows-00000-of-00003.parquet    id, source, level, damage and, where documents
                                                   are packed, documents; one row a window
    <folder>/scores/<name>.npy, <name>.json        scores of the train part, see prepared_scores

Parts are train, outer, validation and test; `own_test` where there is a target. All shards of a
part but its last have as many rows. `weights` are those of the corpus, for all of its parts, and
`target_weights` those of the target, for the three that are of it.
"""

from collections.abc import Mapping, Sequence
import hashlib
import json
import os
import re

import numpy as np

from dr_keras.data.formats.own_outputs import MANIFEST, PREPARED, WORK
from dr_keras.data.formats.reading import names_in
from dr_keras.data.splits import PARTS
from dr_keras.errors import DataError
from dr_keras.system import schema, whole_files

FORMAT, VERSION = PREPARED, 1
TOKENIZER_FOLDER = "tokenizer"
OWN_TEST = "own_test"
_TOKENS = re.compile(r"tokens-\d{5}-of-\d{5}\.npy")
_LARGEST_MANIFEST = 1 << 30  # bytes; a shard takes about 400

_FILE = schema.record({"file": schema.FILE_PATH, "bytes": schema.whole(), "sha256": schema.SHA256})
_SHARD = schema.record({"rows": schema.whole(1), "tokens": _FILE, "rows_file": _FILE})
_CORPUS = schema.Form(
    "a pair of a corpus name and its rows",
    lambda value: isinstance(value, list) and len(value) == 2,
    lambda value: (("[0]", value[0], schema.TEXT), ("[1]", value[1], schema.whole())),
)
_COUNTS = schema.record({name: schema.whole() for name in ("rows", "tokens", "documents")})
_PART = schema.record(
    {
        **{name: schema.whole() for name in ("rows", "tokens", "documents")},
        "corpora": schema.list_of(_CORPUS),
        "sources": schema.mapping(_COUNTS),
        "fingerprint": schema.SHA256,
        "shards": schema.list_of(_SHARD),
    }
)
_MANIFEST = schema.record(
    {
        "format": schema.one_of(FORMAT),
        "version": schema.whole(1),
        "made": schema.record(
            {"sequence_length": schema.whole(2), "packing": schema.BOOLEAN}, schema.ANY
        ),
        "tokenizer": schema.OBJECT,
        "vocabulary_size": schema.whole(1),
        "dtype": schema.one_of("uint8", "uint16", "uint32"),
        "name": schema.NAME,
        "weights": schema.or_null(schema.mapping(schema.FLOAT)),
        "target": schema.or_null(schema.NAME),
        "target_weights": schema.optional(schema.or_null(schema.mapping(schema.FLOAT))),
        "notes": schema.list_of(schema.TEXT),
        "parts": schema.record(dict.fromkeys(PARTS, _PART) | {OWN_TEST: schema.optional(_PART)}),
    }
)


def token_dtype(vocabulary_size: int) -> np.dtype:
    """The smallest of uint8, uint16 and uint32 that holds all ids of a vocabulary."""
    return next(
        np.dtype(each)
        for each in (np.uint8, np.uint16, np.uint32)
        if vocabulary_size - 1 <= np.iinfo(each).max
    )


def shard_files(part: str, number: int, of: int) -> tuple[str, str]:
    """Names of a shard's files, tokens and rows, below the folder of the corpus."""
    shard = f"{number:05d}-of-{of:05d}"
    return f"{part}/tokens-{shard}.npy", f"{part}/rows-{shard}.parquet"


def part_fingerprint(corpora: Sequence[Sequence], shards: Sequence[Mapping]) -> str:
    """Hex SHA-256 of a part, from its `corpora` and `shards` as the manifest has them.

    The bytes of the files are canonical, so that nobody needs to read them for this.
    """
    runs = [[str(name), int(rows)] for name, rows in corpora]
    files = [
        [int(shard["rows"]), shard["tokens"]["sha256"], shard["rows_file"]["sha256"]]
        for shard in shards
    ]
    return hashlib.sha256(json.dumps([runs, files]).encode()).hexdigest()


def read_manifest(folder: str) -> dict:
    """The manifest of a prepared corpus, its form checked, and that its parts add up.

    Args:
      folder: local, or where `tf.io.gfile` reaches.

    Raises:
      DataError: there is none, it is damaged, or of a later version of dr_keras.
    """
    path = os.path.join(folder, MANIFEST)
    found = _json(path)
    if found is None:
        raise DataError(_missing(folder))
    if not _is_manifest(found):
        raise DataError(
            f"{path} is not the manifest of a prepared corpus: name a folder that dr-keras prepare"
            " has written."
        )
    version = found.get("version")
    if isinstance(version, int) and version > VERSION:
        made_by = found.get("dr_keras")
        raise DataError(
            f"{path} is of version {version}, made by dr_keras {made_by!s:.40}; this dr_keras reads"
            f" up to {VERSION}: install a newer one, or prepare the corpus again with this one."
        )
    try:
        schema.check(found, _MANIFEST)
        for part, about in found["parts"].items():
            _adds_up(part, about)
    except schema.Mismatch as error:
        raise DataError(
            f"{path} {error}: it was changed or damaged; copy the folder again, or prepare the"
            " corpus anew."
        ) from error
    return found


def is_prepared(path: str) -> bool:
    """Whether a path is the folder of a prepared corpus, its manifest being there.

    Raises:
      DataError: it is one, whose preparation did not finish.
    """
    found = _json(os.path.join(os.fspath(path), MANIFEST))
    if found is not None:
        return _is_manifest(found)
    job = _json(os.path.join(os.fspath(path), WORK, "job.json"))
    if (job is not None and _is_manifest(job)) or _has_shards(os.path.join(path, PARTS[0])):
        raise DataError(_missing(os.fspath(path)))
    return False


def _has_shards(folder: str) -> bool:
    """Whether a folder holds token files, as that of a part does, also where a copy lacks more."""
    import tensorflow as tf

    try:
        names = names_in(folder)
    except (OSError, tf.errors.OpError):
        return False
    return any(_TOKENS.fullmatch(name) for name in names)


def files_of(manifest: Mapping) -> list[dict]:
    """What a manifest says of every file of every part."""
    shards = [shard for about in manifest["parts"].values() for shard in about["shards"]]
    return [shard[kind] for shard in shards for kind in ("tokens", "rows_file")]


def _is_manifest(found) -> bool:
    return isinstance(found, dict) and str(found.get("format", "")).startswith(FORMAT)


def _json(path: str):
    """What a JSON file holds; None where there is none or it is no JSON."""
    import tensorflow as tf

    try:
        if whole_files.is_remote(path):
            if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
                return None
        elif not os.path.isfile(path):
            return None
        with whole_files.opened(path, "rb") as file:
            return schema.strict_json(file.read(_LARGEST_MANIFEST))
    except ValueError:
        return None


def _missing(folder: str) -> str:
    return (
        f"{folder} has no manifest.json: its preparation did not finish. The same dr-keras prepare"
        " command with the same --output_dir goes on where it stopped; of a copy, copy the whole"
        " folder again."
    )


def _adds_up(part: str, about: Mapping) -> None:
    """Raises Mismatch where the shards of a part are not what the part says of itself."""
    shards = about["shards"]
    of = len(shards)
    for number, shard in enumerate(shards):
        names = shard_files(part, number, of)
        if (shard["tokens"]["file"], shard["rows_file"]["file"]) != names:
            raise schema.Mismatch(f"names other files than {names[0]} in parts.{part}")
    rows = sum(shard["rows"] for shard in shards)
    by_corpus = sum(count for _, count in about["corpora"])
    if not rows == by_corpus == about["rows"]:
        raise schema.Mismatch(
            f"has {rows:,} rows in the shards of parts.{part}, {by_corpus:,} in its corpora and"
            f" {about['rows']:,} in all"
        )
    if part_fingerprint(about["corpora"], shards) != about["fingerprint"]:
        raise schema.Mismatch(f"has another fingerprint for parts.{part} than its files give")
