"""Finding and reading gin files: the packaged ones, the user's, and what these include.

`dr_keras.config.configuration` is the door to this module.
"""

from collections.abc import Iterable, Iterator, Sequence
import contextlib
import difflib
import logging
import os
from pathlib import Path
import re
import sys
import tokenize
from typing import NamedTuple

from dr_keras.errors import ConfigurationError
from dr_keras.system.whole_files import is_remote, opened
import gin
from gin import config as gin_config
from gin import config_parser


def packaged_folder(name: str) -> Path:
    """The folder `gin` or `savedmodels` that comes with dr_keras.

    A wheel carries it inside the package; in a checkout, and in an editable install of one, it lies
    at the top.
    """
    package = Path(__file__).resolve().parents[1]
    for folder in (package / f"packaged_{name}", package.parent / name):
        if folder.is_dir():
            return folder
    raise ConfigurationError(
        f"the dr_keras installed in {package} lacks its folder {name!r}: install it again."
    )


def packaged_gin_files() -> list[str]:
    """Names of the packaged gin files, relative to their folder, sorted."""
    folder = packaged_folder("gin")
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.gin"))


def nearest(name: str, names: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the most similar of `names`, or nothing."""
    close = difflib.get_close_matches(name, sorted(set(names)), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def exists(path: str) -> bool:
    if not is_remote(path):
        return os.path.isfile(path)
    import tensorflow as tf  # Only a remote path is worth the seconds that this takes.

    return tf.io.gfile.exists(path) and not tf.io.gfile.isdir(path)


def register_with_gin() -> None:
    """Lets plain `gin.parse_config_file` find remote files and the packaged ones, too."""
    gin_config.register_file_reader(opened, lambda path: is_remote(path) and exists(path))
    with contextlib.suppress(ConfigurationError):
        gin.add_config_file_search_path(str(packaged_folder("gin")))


def find(name: str) -> str:
    """The path of a gin file that the user named.

    A relative name is looked up in the working directory, then among the packaged files.

    Raises:
      ConfigurationError: it is in none of them; the message has the nearest packaged name.
    """
    if os.path.isabs(name) or is_remote(name):
        if exists(name):
            return name
        raise ConfigurationError(f"there is no gin file {name}.")
    for folder in ("", str(packaged_folder("gin"))):
        path = os.path.join(folder, name)
        if exists(path):
            return os.path.abspath(path)
    raise ConfigurationError(
        f"gin file {name!r} is neither in {os.getcwd()} nor among those that come with dr_keras."
        + nearest(name, packaged_gin_files())
    )


def include_folders(path: str) -> list[str]:
    """Where the `include` lines of the gin file at `path` are looked up, in order."""
    return [os.path.dirname(path), str(packaged_folder("gin")), ""]


def make_importable(path: str) -> None:
    """Lets `import my_module` in a user's gin file find modules beside it.

    The folder goes to the end of `sys.path`, where it can hide no installed module. The packaged
    gin files have no modules beside them.
    """
    folder = os.path.dirname(path)
    if is_remote(path) or Path(path).is_relative_to(packaged_folder("gin")):
        return
    for entry in (folder, os.getcwd()):
        if entry not in sys.path:
            sys.path.append(entry)


@contextlib.contextmanager
def search_path(folders: Sequence[str]) -> Iterator[None]:
    """gin's search path while one file is parsed.

    gin itself can only append to it, so that the folders of an earlier file would stay. It also
    looks for each name as a Python package, and logs an error where there is none.
    """
    before = list(gin_config._LOCATION_PREFIXES)
    gin_config._LOCATION_PREFIXES[:] = folders
    disabled = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(disabled)
        gin_config._LOCATION_PREFIXES[:] = before


class Origin(NamedTuple):
    """Where a binding was made: a line of a file, or the number of a --gin_param."""

    file: str | None
    line: int

    def __str__(self) -> str:
        return f"{self.file} line {self.line}" if self.file else f"--gin_param number {self.line}"


class Binding(NamedTuple):
    """`scope/selector.argument = ...` as written; a macro has no argument."""

    scope: str
    selector: str
    argument: str
    origin: Origin


class _NoReferences(config_parser.ParserDelegate):
    """Reads values without looking up what they refer to."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return None

    def macro(self, macro_name):
        return None


def scan(path: str, folders: Sequence[str], including: tuple[str, ...] = ()) -> list[Binding]:
    """The bindings of a gin file and of what it includes, in order, without making them.

    gin does not keep where a binding comes from, and follows includes in a circle.

    Raises:
      ConfigurationError: syntax error, undecodable file, missing include, or includes in a circle.
    """
    if path in including:
        circle = " -> ".join((*including[including.index(path) :], path))
        raise ConfigurationError(f"gin files include each other in a circle: {circle}.")
    bindings: list[Binding] = []
    try:
        with opened(path) as lines:
            for statement in config_parser.ConfigParser(lines, _NoReferences()):
                if isinstance(statement, config_parser.BindingStatement):
                    origin = Origin(path, statement.location.line_num)
                    bindings.append(
                        Binding(statement.scope, statement.selector, statement.arg_name, origin)
                    )
                elif isinstance(statement, config_parser.IncludeStatement):
                    included = _find_included(statement, path, folders)
                    bindings.extend(scan(included, folders, (*including, path)))
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not a gin file: it is not UTF-8 ({error}).") from error
    except (SyntaxError, tokenize.TokenError) as error:
        raise syntax_error(error, path) from error
    return bindings


def scan_text(text: str, origin: Origin) -> list[Binding]:
    """The bindings in the text of a --gin_param that gin has parsed already."""
    statements = config_parser.ConfigParser(text, _NoReferences())
    return [
        Binding(statement.scope, statement.selector, statement.arg_name, origin)
        for statement in statements
        if isinstance(statement, config_parser.BindingStatement)
    ]


def _find_included(
    statement: config_parser.IncludeStatement, path: str, folders: Sequence[str]
) -> str:
    name = statement.filename
    for folder in [""] if os.path.isabs(name) or is_remote(name) else folders:
        candidate = os.path.join(folder, name)
        if exists(candidate):
            return candidate if is_remote(candidate) else os.path.abspath(candidate)
    raise ConfigurationError(
        f"{path} line {statement.location.line_num}: there is no gin file {name!r} to include."
        + nearest(name, packaged_gin_files())
    )


def syntax_error(error: SyntaxError | tokenize.TokenError, where: str) -> ConfigurationError:
    """The error with its line; `where` names the file, or the --gin_param."""
    if isinstance(error, SyntaxError):
        message, line, text = error.msg, error.lineno, (error.text or "").strip()
    else:
        message, (line, _), text = error.args[0], error.args[1], ""
    # gin shows the internals of Python's parser for a bare word.
    bare_word = re.search(r"Failed to parse token '(.*)'", message)
    if bare_word:
        message = (
            f"{bare_word[1]!r} is not a value. Text is quoted, a function is @name, its result "
            "@name(), a macro %NAME."
        )
    shown = f"\n    {text}" if text else ""
    return ConfigurationError(f"{where} line {line}: not gin syntax: {message}{shown}")
