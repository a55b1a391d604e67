"""Finding, checking and loading an exported rater."""

import importlib
import os

import tensorflow as tf

from dr_keras.config.gin_files import packaged_folder
from dr_keras.errors import ArtefactError, ConfigurationError
from dr_keras.serving import folder, operations
from dr_keras.serving import metadata as metadata_file
from dr_keras.serving.artefact import version_names, versions
from dr_keras.serving.loaded import LoadedRater

# By the `kind` in rater.json: module and class that a rater of the kind is loaded as.
LOADED_KINDS = {
    "text": ("dr_keras.serving.text", "LoadedTextRater"),
    "examples": ("dr_keras.serving.examples", "LoadedExampleRater"),
    "images": ("dr_keras.serving.images", "LoadedImageRater"),
}


def load_rater(path: str | os.PathLike, trusted: bool = False) -> LoadedRater:
    """Loads an exported rater.

    What it says of itself is checked before anything of it is acted on, and its graph may hold
    only what raters compute with (`serving.operations`): nothing that opens files or runs programs.

    Args:
      path: a version (`export/3`), or the root of versions, of which the highest is taken; or the
        name of a rater that comes with dr_keras, see `shipped_raters`.
      trusted: whether you know who made it, so that its graph may hold any operation and its
        `requires` any module: both can do all that you can do on this machine.

    Returns:
      A `LoadedRater` of the kind that was exported, such as `LoadedTextRater`.

    Raises:
      ArtefactError: the directory is missing, holds no rater, or only part of one, or needs what is
        not installed or not known.
    """
    path = os.fsdecode(path)
    try:
        return _load(find_version(path), trusted)
    except (OSError, UnicodeError, tf.errors.OpError) as error:
        raise ArtefactError(
            f"{ascii(path)[1:-1]} cannot be read ({error}): see to its permissions, or copy the"
            " rater again."
        ) from error


def _load(directory: str, trusted: bool) -> LoadedRater:
    metadata = metadata_file.parse(directory)
    if metadata["kind"] not in LOADED_KINDS:
        raise ArtefactError(
            f"{directory} holds a rater of {metadata['kind']!r}, and this dr_keras knows"
            f" {', '.join(LOADED_KINDS)}: install a newer one."
        )
    module, name = LOADED_KINDS[metadata["kind"]]
    loaded_class = getattr(importlib.import_module(module), name)
    metadata_file.check_facts(directory, metadata, loaded_class.facts)
    if not trusted:
        _check_modules(directory, metadata["requires"])
    metadata_file.check_files(directory, metadata)
    if not trusted:
        graphs = folder.graph_folders(metadata["files"])
        operations.check(directory, graphs, metadata["requires"])
    _import_modules(directory, metadata["requires"])
    try:
        saved_model = tf.saved_model.load(directory)
    except Exception as error:  # whatever TensorFlow makes of a graph that is damaged or made up
        raise ArtefactError(
            f"{directory} cannot be loaded as a SavedModel ({error}): the copy is damaged; copy or"
            " export the rater again."
        ) from error
    rater = loaded_class(directory, saved_model, metadata)
    rater.trusted = trusted
    return rater


def _check_modules(directory: str, modules: list[str]) -> None:
    for module in modules:
        if module not in operations.OF_MODULES:
            raise ArtefactError(
                f"{directory} needs the module {ascii(module)[1:-1]}, and a rater may need"
                f" {', '.join(operations.OF_MODULES)}: importing any other runs what it holds. If"
                " you trust whoever made the rater, load it with load_rater(path, trusted=True), on"
                " the command line with --trust_rater."
            )


def _import_modules(directory: str, modules: list[str]) -> None:
    for module in modules:  # registers the operations that the graph uses
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ArtefactError(
                f"{directory} needs the module {module}, which cannot be imported ({error}):"
                f" install {module.replace('_', '-')}."
            ) from error


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
    if folder.what_is(os.path.join(path, metadata_file.FILE_NAME)) != folder.NOTHING:
        return path
    below = [os.path.join(path, name) for _, name in version_names(path)]
    # The highest first, so that no more are looked at than are needed.
    return next((version for version in reversed(below) if tf.io.gfile.isdir(version)), path)
