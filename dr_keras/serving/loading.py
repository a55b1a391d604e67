"""Finding, checking and loading an exported rater."""

import importlib
import os

import tensorflow as tf

from dr_keras.errors import ArtefactError
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving.artefact import versions
from dr_keras.serving.loaded import LoadedRater

# By the `kind` in rater.json: module and class that a rater of the kind is loaded as.
LOADED_KINDS = {"text": ("dr_keras.serving.loaded_text", "LoadedTextRater")}


def load_rater(path: str | os.PathLike) -> LoadedRater:
    """Loads an exported rater.

    Args:
      path: a version (`export/3`), or the root of versions, of which the highest is taken.

    Returns:
      A `LoadedRater` of the kind that was exported, such as `LoadedTextRater`.

    Raises:
      ArtefactError: the directory is missing, holds no rater, or only part of one, or needs what is
        not installed.
    """
    directory = find_version(os.fspath(path))
    metadata = metadata_file.read(directory)
    if metadata["kind"] not in LOADED_KINDS:
        raise ArtefactError(
            f"{directory} holds a rater of {metadata['kind']!r}, and this dr_keras knows"
            f" {', '.join(LOADED_KINDS)}: install a newer one."
        )
    for module in metadata["requires"]:  # registers the operations that the graph uses
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ArtefactError(
                f"{directory} needs the module {module}, which cannot be imported ({error}):"
                f" install {module.replace('_', '-')}."
            ) from error
    try:
        saved_model = tf.saved_model.load(directory)
    except (OSError, tf.errors.OpError, KeyError, ValueError, IndexError) as error:
        raise ArtefactError(
            f"{directory} cannot be loaded as a SavedModel ({error}): the copy is damaged; copy or"
            " export the rater again."
        ) from error
    module, name = LOADED_KINDS[metadata["kind"]]
    return getattr(importlib.import_module(module), name)(directory, saved_model, metadata)


def find_version(path: str) -> str:
    """The directory of a version: `path` itself, or the highest version below it.

    Raises:
      ArtefactError: it is not a directory.
    """
    if not tf.io.gfile.isdir(path):
        raise ArtefactError(f"{path} is not a directory: name the one that export_rater wrote.")
    if tf.io.gfile.exists(os.path.join(path, metadata_file.FILE_NAME)):
        return path
    found = versions(path)
    return os.path.join(path, str(found[-1])) if found else path
