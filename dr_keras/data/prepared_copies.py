"""A prepared corpus copied to a local disk: whole files, the manifest last."""

from collections.abc import Mapping
import hashlib
import os
import shutil

import tensorflow as tf

from dr_keras.data.formats.own_outputs import MANIFEST
from dr_keras.data.prepared_manifest import TOKENIZER_FOLDER, files_of, read_manifest
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.system import locks, whole_files
from dr_keras.system.progress import Progress

_CHUNK = 1 << 22


def local_copy(path: str, local_dir: str, manifest: Mapping) -> str:
    """Copies a prepared corpus, shard by shard; what was copied whole before is left as it is.

    Args:
      path: of the corpus, local or where `tf.io.gfile` reaches.
      local_dir: folder on a local disk that holds the copy and nothing else; made if missing.
      manifest: of the corpus.

    Returns:
      `local_dir`.

    Raises:
      ConfigurationError: `local_dir` is not local, or holds another corpus.
      DataError: a file is missing or is not what the manifest says, or the disk is too small.
      CheckpointError: another process copies to this folder.
    """
    if whole_files.is_remote(local_dir):
        raise ConfigurationError(
            f"prepared_data.local_dir is {local_dir}: name a folder on a local disk."
        )
    if os.path.abspath(local_dir) == os.path.abspath(path):
        return local_dir
    done = os.path.exists(os.path.join(local_dir, MANIFEST))
    if done and read_manifest(local_dir) != manifest:
        raise ConfigurationError(
            f"prepared_data.local_dir: {local_dir} holds another corpus than {path}: name"
            " another folder, or remove that one."
        )
    wanted = [file for file in files_of(manifest) if not _is_there(local_dir, file)]
    if done and not wanted:
        return local_dir
    os.makedirs(local_dir, exist_ok=True)
    with locks.alone(local_dir, "a copy of a prepared corpus", ConfigurationError):
        wanted = [file for file in wanted if not _is_there(local_dir, file)]
        for folder, _, _ in os.walk(local_dir):
            whole_files.remove_unfinished(folder)
        size = sum(file["bytes"] for file in wanted)
        free = shutil.disk_usage(local_dir).free
        if free < size:
            raise DataError(
                f"prepared_data.local_dir: {local_dir} has room for {free / 1e9:,.1f} GB, and"
                f" {size / 1e9:,.1f} GB of {path} are to be copied: name a larger disk."
            )
        shown = Progress(f"copying {path}", max(1, size // 1_000_000), "MB")
        copied = 0
        for file in wanted:
            _copy(path, local_dir, file)
            copied += file["bytes"]
            shown.update(copied // 1_000_000)
        shown.close()
        _copy_assets(path, local_dir)
        content = _read(os.path.join(path, MANIFEST))
        whole_files.write_bytes(os.path.join(local_dir, MANIFEST), content)
    return local_dir


def _is_there(folder: str, file: Mapping) -> bool:
    """Whether a file was copied: it has its name only once it is whole."""
    try:
        return os.stat(os.path.join(folder, file["file"])).st_size == file["bytes"]
    except FileNotFoundError:
        return False


def _copy(path: str, local_dir: str, file: Mapping) -> None:
    origin, target = (os.path.join(folder, file["file"]) for folder in (path, local_dir))
    digest, size = hashlib.sha256(), 0
    try:
        with whole_files.opened(origin, "rb") as source, whole_files.replacing(target) as temporary:
            with open(temporary, "wb") as copy:
                while block := source.read(_CHUNK):
                    digest.update(block)
                    size += len(block)
                    copy.write(block)
            if size != file["bytes"] or digest.hexdigest() != file["sha256"]:
                raise DataError(
                    f"{origin} is not what was prepared ({size:,} bytes, the manifest says"
                    f" {file['bytes']:,}): it was cut short or changed; prepare the corpus anew."
                )
    except (tf.errors.NotFoundError, FileNotFoundError):
        raise DataError(f"{origin} is missing: prepare the corpus anew.") from None


def _copy_assets(path: str, local_dir: str) -> None:
    """The files of the tokenizer, whose own SHA-256 are checked when it is made."""
    folder = os.path.join(path, TOKENIZER_FOLDER)
    if not tf.io.gfile.isdir(folder):
        return
    for name in tf.io.gfile.listdir(folder):
        name = name.rstrip("/")
        content = _read(os.path.join(folder, name))
        whole_files.write_bytes(os.path.join(local_dir, TOKENIZER_FOLDER, name), content)


def _read(path: str) -> bytes:
    with whole_files.opened(path, "rb") as file:
        return file.read()
