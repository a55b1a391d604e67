"""Prepared corpora: windows on disk, of which no more is in memory than is asked for.

`dr-keras prepare` makes them of any corpus; `prepared_manifest` says what they are.
"""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
import logging
import os

import numpy as np

from dr_keras.data.array_files import ArrayFile
from dr_keras.data.columns import Column, Joined, Runs
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.parquet_columns import ParquetColumn
from dr_keras.data.prepared_copies import local_copy
from dr_keras.data.prepared_manifest import OWN_TEST, TOKENIZER_FOLDER, files_of, read_manifest
from dr_keras.data.splits import PARTS
from dr_keras.data.targets import HELD_OUT
from dr_keras.data.tokenizers import PAD_ID, Tokenizer, tokenizer_from_config
from dr_keras.data.windows import render_tokens
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.system.progress import Progress
from dr_keras.system.whole_files import is_remote
import gin

_CHUNK = 1 << 22

_logger = logging.getLogger(__name__)


@gin.configurable
def prepared_data(
    path: str = gin.REQUIRED,
    tokenizer: Tokenizer | None = None,
    sequence_length: int | None = None,
    verify: bool = False,
    local_dir: str | None = None,
) -> Parts:
    """The train, outer, validation and test examples of a prepared corpus, read where they lie.

    They are the examples that `text_data` makes of the same corpus in memory, in the same order.

    Args:
      path: folder that `dr-keras prepare` has written.
      tokenizer: what the run's models and artefact are made for; None for the corpus's own. It must
        be the one that made the tokens.
      sequence_length: tokens in an example; None for the corpus's own. It must be that.
      verify: whether all files are read once and compared with the SHA-256 in the manifest. Sizes
        are compared always.
      local_dir: folder on a local disk into which a corpus is copied first, shard by shard; needed
        where `path` is not on a local disk. What is there already is not copied again.

    Returns:
      The parts, with `tokens` int32 [N, sequence_length] and the labels `level` and `damage`; of
      packed windows also `documents`.

    Raises:
      ConfigurationError: another tokenizer or sequence length than the corpus was prepared with.
      DataError: the preparation did not finish, or files are missing, cut short, changed or of a
        later version of dr_keras.
    """
    path = os.fspath(path)
    manifest = read_manifest(path)
    _check_settings(path, manifest, tokenizer, sequence_length)
    if local_dir is not None:
        path = local_copy(path, os.fspath(local_dir), manifest)
    elif is_remote(path):
        raise ConfigurationError(
            f"{path} is not on a local disk, and rows of its files are read one by one: set"
            " prepared_data.local_dir to a folder on a local disk, into which it is copied once"
            f" ({_size(manifest) / 1e9:,.1f} GB)."
        )
    path = os.path.abspath(path)
    _check_files(path, manifest)
    if verify:
        verify_files(path, manifest)
    own = tokenizer or _own_tokenizer(path, manifest)
    read = functools.partial(_examples, path, manifest, own)
    own_test = read(OWN_TEST) if OWN_TEST in manifest["parts"] else None
    for note in manifest["notes"]:
        _logger.warning("%s", note)
    parts = {part: read(part) for part in PARTS}
    for part, examples in parts.items():
        if not len(examples):
            raise DataError(
                f"The prepared corpus {path} has no examples in the part '{part}': prepare more"
                " documents, or with a larger share for it (split_fractions)."
            )
    return dataclasses.replace(
        Parts.of(parts, disjoint=True),
        target=manifest["target"],
        own_test=own_test if own_test else None,
        notes=tuple(manifest["notes"]),
    )


def _examples(path: str, manifest: Mapping, tokenizer: Tokenizer, part: str) -> ExampleSet:
    """One part, lazily."""
    about = manifest["parts"][part]
    shards = about["shards"]
    length, dtype = manifest["made"]["sequence_length"], np.dtype(manifest["dtype"])
    of_target = manifest["target"] is not None and part in HELD_OUT
    weights = manifest.get("target_weights") if of_target else manifest["weights"]
    sources = {name: counts["rows"] for name, counts in about["sources"].items()}

    def tokens() -> Column | np.ndarray:
        if not shards:
            return np.zeros([0, length], np.int32)
        files = [
            ArrayFile(
                os.path.join(path, shard["tokens"]["file"]),
                (shard["rows"], length),
                dtype,
                shard["tokens"]["sha256"],
            )
            for shard in shards
        ]
        found = Joined(files, np.int32)
        found.bounds = (PAD_ID, manifest["vocabulary_size"] - 1)
        found.known_nonzero = about["tokens"]
        return found

    def column(name: str, dtype, known: Mapping[str, int] | None = None) -> Column | np.ndarray:
        if not shards:
            return np.zeros([0], dtype)
        files = [
            ParquetColumn(
                os.path.join(path, shard["rows_file"]["file"]),
                name,
                shard["rows"],
                dtype,
                shard["rows_file"]["sha256"],
            )
            for shard in shards
        ]
        return Joined(files, dtype, known)

    labels = {"level": column("level", np.float32), "damage": column("damage", object)}
    if manifest["made"]["packing"]:
        labels["documents"] = column("documents", np.int64)
    return ExampleSet(
        features={"tokens": tokens()},
        ids=column("id", object),
        sources=column("source", object, sources),
        corpora=Runs(*zip(*about["corpora"])) if about["corpora"] else np.zeros([0], object),
        labels=labels,
        weights=None if weights is None else dict(weights),
        render=functools.partial(render_tokens, tokenizer),
        end_id=tokenizer.end_id,
        name="own test" if part == OWN_TEST else part,
    )


def _own_tokenizer(path: str, manifest: Mapping) -> Tokenizer:
    try:
        return tokenizer_from_config(manifest["tokenizer"], os.path.join(path, TOKENIZER_FOLDER))
    except (ArtefactError, LookupError, TypeError) as error:
        raise DataError(
            f"The tokenizer of the prepared corpus {path} cannot be made ({error}): copy the folder"
            " again, or prepare the corpus anew."
        ) from error


def _check_settings(
    path: str, manifest: Mapping, tokenizer: Tokenizer | None, length: int | None
) -> None:
    """Raises ConfigurationError where models are made for other windows."""
    own = manifest["made"]["sequence_length"]
    if length is not None and length != own:
        raise ConfigurationError(
            f"The corpus {path} was prepared in windows of {own} tokens, and this configuration is"
            f" for {length}: set SEQUENCE_LENGTH = {own} (where there is no such macro,"
            f" prepared_data.sequence_length = {own}), or prepare it with"
            f" prepare_corpus.sequence_length = {length}."
        )
    if tokenizer is not None and tokenizer.config() != manifest["tokenizer"]:
        raise ConfigurationError(
            f"The corpus {path} was prepared with the tokenizer {_told(manifest['tokenizer'])}, and"
            f" this configuration has {_told(tokenizer.config())}: the same ids would mean other"
            f" text. Set {_lines(path, manifest)}, or prepare it with the other tokenizer."
        )


def _told(config: Mapping) -> str:
    """A tokenizer in a few words."""
    files = [value["file"] for value in config.values() if isinstance(value, dict)]
    shown = f"{config.get('kind', '?')} {' '.join(map(str, files))}".strip()
    return shown if len(shown) < 200 else f"{shown[:200]}..."


def _lines(path: str, manifest: Mapping) -> str:
    """The bindings that fit a prepared corpus."""
    kind = manifest["tokenizer"].get("kind")
    if kind == "byte":
        return "TOKENIZER = @byte_tokenizer() and VOCABULARY_SIZE = 258 (include 'data/bytes.gin')"
    argument = {"sentencepiece": "proto", "wordpiece": "vocabulary"}.get(str(kind))
    if argument is None:
        return "the tokenizer that it was prepared with"
    file = manifest["tokenizer"].get(argument, {}).get("file", "")
    place = os.path.join(path, TOKENIZER_FOLDER, str(file))
    return (
        f"TOKENIZER = @{kind}_tokenizer(), {kind}_tokenizer.{argument} = {place!r} and"
        f" VOCABULARY_SIZE = {manifest['vocabulary_size']}"
    )


def _size(manifest: Mapping) -> int:
    return sum(file["bytes"] for file in files_of(manifest))


def _check_files(path: str, manifest: Mapping) -> None:
    """Raises DataError where a file is missing or has another size than the manifest says."""
    for file in files_of(manifest):
        place = os.path.join(path, file["file"])
        try:
            size = os.stat(place).st_size
        except FileNotFoundError:
            raise DataError(
                f"{place} is missing: copy the prepared corpus again, whole, or prepare it anew."
            ) from None
        if size != file["bytes"] or not os.path.isfile(place):
            raise DataError(
                f"{place} has {size:,} bytes, and the manifest says {file['bytes']:,}: it was cut"
                " short or changed; copy the prepared corpus again, or prepare it anew."
            )


def verify_files(path: str, manifest: Mapping) -> None:
    """Reads every file of a prepared corpus.

    Raises:
      DataError: one holds something else than was written.
    """
    files = files_of(manifest)
    size = _size(manifest)
    shown = Progress("verifying", max(1, size // _CHUNK), "blocks of 4 MB")
    done = 0
    for file in files:
        place, digest = os.path.join(path, file["file"]), hashlib.sha256()
        with open(place, "rb") as opened:
            while block := opened.read(_CHUNK):
                digest.update(block)
                done += len(block)
                shown.update(min(done, size) // _CHUNK)
        if digest.hexdigest() != file["sha256"]:
            raise DataError(
                f"{place} holds something else than was prepared (its SHA-256 differs): copy the"
                " prepared corpus again, or prepare it anew."
            )
    shown.close()
