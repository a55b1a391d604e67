"""Finding, checking and loading an exported rater."""

import importlib
import os

import tensorflow as tf

from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.gin_files import packaged_folder
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving.artefact import versions
from dr_keras.serving.loaded import LoadedRater

# By the `kind` in rater.json: module and class that a rater of the kind is loaded as.
LOADED_KINDS = {
    "text": ("dr_keras.serving.loaded_text", "LoadedTextRater"),
    "examples": ("dr_keras.serving.loaded_examples", "LoadedExampleRater"),
    "images": ("dr_keras.serving.loaded_examples", "LoadedImageRater"),
}


def load_rater(path: str | os.PathLike) -> LoadedRater:
    """Loads an exported rater.

    Args:
      path: a version (`export/3`), or the root of versions, of which the highest is taken; or the
        name of a rater that comes with dr_keras, see `shipped_raters`.

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


def shipped_raters() -> list[str]:
    """Names of the raters that come with dr_keras, which `load_rater` takes in place of a path."""
    try:
        folder = packaged_folder("savedmodels")
    except ConfigurationError:  # an installation without them
        return []
    return sorted(entry.name for entry in folder.iterdir() if versions(entry))


def find_version(path: str) -> str:
    """The directory of a version: `path` itself, or the highest version below it.

    A name that is no directory may be that of a rater that comes with dr_keras.

    Raises:
      ArtefactError: it is not a directory.
    """
    if not tf.io.gfile.isdir(path):
        shipped = shipped_raters()
        if path not in shipped:
            raise ArtefactError(
                f"{path} is not a directory: name the one that export_rater wrote, or a rater that"
                f" comes with dr_keras ({', '.join(shipped) or 'there is none'})."
            )
        path = os.path.join(packaged_folder("savedmodels"), path)
    if tf.io.gfile.exists(os.path.join(path, metadata_file.FILE_NAME)):
        return path
    found = versions(path)
    return os.path.join(path, str(found[-1])) if found else path
