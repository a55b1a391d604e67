"""Strict gin configuration: parsing, the packaged gin files, and the record a run keeps of it.

A gin file is found by its path, or by its name in the folder of the gin files that come with
dr_keras (`experiments/...`). `include` lines are looked up in the folder of the file that was asked
for, then among the packaged files, then in the working directory. Modules named by `import` lines
are found in the same folder and in the working directory as well.

Contract on disk, in a run directory:
  parsed_config.gin              every binding of the files and the command line; what makes two runs
                                 the same run
  operative_config-<step>.gin    the values in use when training started or resumed at that step,
                                 defaults included
"""

import contextlib
import difflib
import importlib
import inspect
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gin
from gin import config as gin_config
from gin import config_parser

from dr_keras.errors import ConfigurationError

PARSED_CONFIG = "parsed_config.gin"

# Long enough that every binding of a recorded configuration is one line.
_ONE_LINE = 1_000_000


# ---------------------------------------------------------------------------- packaged folders


def packaged_folder(name: str) -> Path:
    """The folder `gin` or `savedmodels` that comes with dr_keras.

    A wheel carries it inside the package; in a checkout, and in an editable install of one, it lies
    at the top.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / f"packaged_{name}", package.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigurationError(
        f"this installation of dr_keras in {package} has no folder {name!r}. Install it again."
    )


def packaged_gin_files() -> list[str]:
    """Names of the packaged gin files, relative to their folder, sorted."""
    folder = packaged_folder("gin")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.gin"))


# ---------------------------------------------------------------------------- reading files


def _is_remote(path: str) -> bool:
    return "://" in path


def _exists(path: str) -> bool:
    if not _is_remote(path):
        return os.path.isfile(path)
    import tensorflow as tf

    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def _open_remote(path: str):
    import tensorflow as tf

    return tf.io.gfile.GFile(path)


def _register_with_gin() -> None:
    """Lets plain `gin.parse_config_file` find remote files and the packaged ones, too."""
    gin_config.register_file_reader(_open_remote, lambda path: _is_remote(path) and _exists(path))
    with contextlib.suppress(ConfigurationError):
        gin.add_config_file_search_path(str(packaged_folder("gin")))


_register_with_gin()


@contextlib.contextmanager
def _search_path(folders: Sequence[str]) -> Iterator[None]:
    """gin's search path, for as long as one file is parsed.

    gin itself can only append to the path, so that a folder of an earlier file would stay on it.
    """
    before = list(gin_config._LOCATION_PREFIXES)
    gin_config._LOCATION_PREFIXES[:] = folders
    # gin also looks for each name as a Python package and logs an error where there is none.
    reader_log = logging.getLogger()
    quiet = _NoGinReaderMessages()
    reader_log.addFilter(quiet)
    handlers = list(reader_log.handlers)
    for handler in handlers:
        handler.addFilter(quiet)
    try:
        yield
    finally:
        gin_config._LOCATION_PREFIXES[:] = before
        reader_log.removeFilter(quiet)
        for handler in handlers:
            handler.removeFilter(quiet)


class _NoGinReaderMessages(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.pathname.endswith(os.path.join("gin", "resource_reader.py"))


class _Origin(NamedTuple):
    file: str | None
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}" if self.file else f"--gin_param number {self.line}"
