"""Strict gin configuration.

`parse` makes the bindings of gin files and of the command line, and refuses what gin would let
pass: a macro that nothing uses, one that has no value, includes in a circle, a value that does not
fit the annotation of its argument (`dr_keras.config.bound_values`). Every refusal is a
`ConfigurationError` with the file, the line and the nearest valid name.

A gin file is named by its path or by its name among those that come with dr_keras
(`experiments/...`). Its `include` lines are looked up in its own folder, then among the packaged
files, then in the working directory; modules named by its `import` lines, in its own folder and in
the working directory too.

A run directory keeps a record of its configuration:

    <base_dir>/parsed_config.gin            every binding of the gin files and the command line:
                                            what makes two runs the same run
    <base_dir>/operative_config-<step>.gin  all values in use when the run started or resumed at
                                            that step, defaults included
"""

from collections.abc import Sequence
import importlib
import inspect
import os
import pkgutil
import re
import tokenize

import dr_keras
from dr_keras.config import gin_files as files
from dr_keras.config.bound_values import CONSTANT, MACRO, check_bound_values
from dr_keras.config.gin_files import Binding, Origin, nearest
from dr_keras.config.moved_names import moved
from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.system import whole_files
from dr_keras.system.extras import ADVICE, STUDY
import gin
from gin import config as gin_config

PARSED_CONFIG = "parsed_config.gin"

# Long enough that gin puts every binding on one line.
_ONE_LINE = 100_000
_MOST_DIFFERENCES_SHOWN = 12
_LONGEST_VALUE_SHOWN = 80
# How gin begins its message about a name it does not know.
_UNKNOWN = "No configurable matching"

files.register_with_gin()


def parse(
    gin_files: str | Sequence[str] = (), gin_params: str | Sequence[str] = (), complete: bool = True
) -> None:
    """Makes the bindings of `gin_files`, then of `gin_params`, in place of all earlier ones.

    Args:
      gin_files: paths, or names among the packaged files; later ones win.
      gin_params: bindings as text, `"name.argument = value"`; they win over the files.
      complete: whether every macro must have a value and a use and every value must fit, and the
        configuration is then finalised (locked). False is for a fragment that others include.

    Raises:
      ConfigurationError: anything that is wrong with the configuration.
    """
    arguments = _as_list(gin_files), _as_list(gin_params), complete
    try:
        _parse(*arguments)
    except ConfigurationError as error:
        if _UNKNOWN not in str(error):
            raise
        # The name may be of a module that nobody imported so far. Importing all of them takes a
        # second or two, which is why it is not done every time.
        absent = import_configurables()
        try:
            _parse(*arguments)
        except ConfigurationError as again:
            if absent.isdisjoint(STUDY) or _UNKNOWN not in str(again):
                raise
            raise ConfigurationError(
                f"{again} It may be one that needs {', '.join(sorted(absent & set(STUDY)))}, which"
                f" cannot be imported here: {ADVICE}."
            ) from again


def _parse(gin_files: list[str], gin_params: list[str], complete: bool) -> None:
    gin.clear_config()
    bindings: list[Binding] = []
    for name in gin_files:
        path = files.find(name)
        folders = files.include_folders(path)
        bindings += files.scan(path, folders)
        files.make_importable(path)
        with files.search_path(folders):
            _make_bindings(lambda path=path: gin.parse_config_file(path), path)
    for number, text in enumerate(gin_params, 1):
        origin = Origin(None, number)
        _make_bindings(lambda text=text: gin.parse_config(text), str(origin), text)
        bindings += files.scan_text(text, origin)
    if complete:
        origins = _origins(bindings)
        _require_complete(origins)
        check_bound_values(gin_config._CONFIG, origins, _shown_key)
        _make_bindings(gin.finalize, "the configuration as a whole")


def import_configurables() -> set[str]:
    """Imports every module of dr_keras, so that gin knows every name that a file may use.

    Returns the libraries for want of which a module was left out.

    `parse` calls this where a name is unknown. Entry points are left out, and what is made of
    Beam or datatrove, which gin has no part in: importing those takes seconds, and is optional.
    """
    entry_points = "dr_keras.__main__", "dr_keras.commands"
    others = "dr_keras.corpus_jobs.beam", "dr_keras.pipelines.datatrove_filter"
    return _import_below(dr_keras, without=(*entry_points, *others))


def _import_below(package, without: tuple[str, ...]) -> set[str]:
    absent = set()
    for module in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
        if module.name in without:
            continue
        try:
            found = importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # of an optional dependency
            library = (error.name or "").partition(".")[0]
            if library == "dr_keras":
                raise
            absent.add(library)
            continue
        if module.ispkg:
            absent |= _import_below(found, without)
    return absent


def _as_list(value: str | Sequence[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value or ())


# ------------------------------------------------------------------- gin's errors, made readable


def _make_bindings(action, where: str, text: str = "") -> None:
    """Runs `action`, one of gin's, and turns what it raises into a ConfigurationError."""
    shown = f" ({text.strip()})" if text else ""
    try:
        action()
    except DrKerasError:
        raise
    except (SyntaxError, tokenize.TokenError) as error:
        raise files.syntax_error(error, where) from error
    except ImportError as error:
        place, message = _place_and_message(str(error), where + shown)
        raise ConfigurationError(
            f"{place}: cannot import: {message}. The module must lie beside the gin file, in the "
            "working directory, or be installed."
        ) from error
    except (ValueError, KeyError, TypeError, OSError, RuntimeError) as error:
        place, message = _place_and_message(str(error), where + shown)
        raise ConfigurationError(f"{place}: {message}{_suggestion(message)}") from error


def _place_and_message(message: str, where: str) -> tuple[str, str]:
    """gin appends where it was: first the line itself, then the lines that included it."""
    location = re.search(r'\n\s+In file "([^"]+)", line (\d+)', message)
    place = f"{location[1]} line {location[2]}" if location else where
    message = message.split("\n  In ")[0].rstrip()
    # A KeyError shows its message quoted, and gin's note of the place goes behind the quote.
    if message[:1] in "\"'" and message[:1] == message[-1:]:
        message = message[1:-1]
    return place, message


def _suggestion(message: str) -> str:
    """What a name that gin does not know is called now, or the nearest one that it knows."""
    unknown = re.match(r"No configurable matching (?:reference )?'@?([\w./]+)", message)
    if unknown:
        name = unknown[1].rpartition("/")[2].rpartition(".")[2]
        if now := moved(name):
            return now
        known = [one for one, _ in gin_config._REGISTRY.items() if not one.startswith("gin.")]
        return nearest(name, [one.rpartition(".")[2] for one in known])
    unknown = re.match(r"Configurable '([\w./]+)' (?:doesn't|has) .*'(\w+)'", message)
    if unknown:
        if now := moved(f"{unknown[1].rpartition('.')[2]}.{unknown[2]}"):
            return now
        parameters = arguments_of(unknown[1])
        close = nearest(unknown[2], parameters)
        return close or f" It has: {', '.join(parameters)}."
    return ""


def arguments_of(selector: str) -> list[str]:
    """The arguments of a configurable that gin may bind."""
    configurable = gin_config._REGISTRY.get_match(selector.rpartition("/")[2])
    if configurable is None:
        return []
    names = inspect.signature(configurable.wrapped).parameters
    allowed = configurable.allowlist or names
    return [name for name in names if name in allowed and name not in (configurable.denylist or ())]


# --------------------------------------------------------------------------- what gin lets pass


def _origins(bindings: Sequence[Binding]) -> dict[tuple[str, str, str], Origin]:
    """Where each binding was made last, by (scope, complete selector, argument)."""
    origins = {}
    for scope, selector, argument, origin in bindings:
        if argument:
            configurable = gin_config._REGISTRY.get_match(selector)
            key = (scope, configurable.selector if configurable else selector, argument)
        else:
            key = (f"{scope}/{selector}" if scope else selector, MACRO, "value")
        origins[key] = origin
    return origins


def _require_complete(origins: dict[tuple[str, str, str], Origin]) -> None:
    """Refuses macros without a value and macros without a use, all of them in one message.

    A misspelled macro is both: the name that was bound has no use, and the one that was meant
    keeps its old value or has none.
    """
    config = gin_config._CONFIG
    macro_wrapper = gin_config._REGISTRY[MACRO].wrapper
    bound = {scope for scope, selector in config if selector == MACRO}
    used: dict[str, str] = {}
    problems = []
    for (scope, selector), arguments in config.items():
        for argument, value in arguments.items():
            name = _shown_key(scope, selector, argument)
            origin = origins.get((scope, selector, argument))
            at = f"{origin}: " if origin else ""
            for reference in gin_config.iterate_references(value, to=macro_wrapper):
                macro = reference.config_key[0]
                used.setdefault(macro, f"{at}{name}")
            if _is_required_marker(value):
                problems.append(
                    f"{at}{name} must be given a value, in a gin file or with "
                    f"--gin_param '{name} = ...'."
                )
    for macro in sorted(set(used) - bound):
        problems.append(f"{used[macro]} uses %{macro}, which has no value.{nearest(macro, bound)}")
    for macro in sorted(bound - set(used)):
        origin = origins.get((macro, MACRO, "value"))
        at = f"{origin}: " if origin else ""
        others = nearest(macro, set(used) - {macro})
        problems.append(f"{at}{macro} is given a value, and nothing uses it.{others}")
    if problems:
        raise ConfigurationError("\n".join(problems))


def _shown_key(scope: str, selector: str, argument: str) -> str:
    if selector == MACRO:
        return scope
    shortest = gin_config._REGISTRY.minimal_selector(selector)
    return f"{scope}/{shortest}.{argument}" if scope else f"{shortest}.{argument}"


def _is_required_marker(value) -> bool:
    """Whether a bound value is %gin.REQUIRED."""
    return (
        isinstance(value, gin_config.ConfigurableReference)
        and value.configurable.selector == CONSTANT
        and value.scoped_configurable_fn() is gin.REQUIRED
    )


# -------------------------------------------------------------------------- the record of a run


def operative_config() -> str:
    """The values that the configurables called so far had, defaults included, as gin text."""
    return gin.operative_config_str()


def parsed_config() -> str:
    """Every binding that was parsed, one a line, sorted: as gin text, and fit to compare."""
    text = gin.config_str(max_line_length=_ONE_LINE)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "\n".join(line for line in lines if line) + "\n"


def write_operative_config(base_dir: str | os.PathLike, step: int) -> str:
    """Writes `<base_dir>/operative_config-<step>.gin` and returns its path."""
    path = os.path.join(base_dir, f"operative_config-{step}.gin")
    whole_files.write_text(path, operative_config())
    return path


def check_same_config(
    base_dir: str | os.PathLike, text: str | None = None, may_differ: Sequence[str] = ()
) -> None:
    """Records the configuration of a new run, or compares it with the recorded one.

    Args:
      base_dir: the run directory; made if missing.
      text: the configuration; `parsed_config()` when None.
      may_differ: bindings, such as "META_STEPS" or "meta_train.meta_steps", that a resumed run may
        change; the record then takes the new values.

    Raises:
      ConfigurationError: the directory holds a run with other bindings, which are listed.
    """
    text = parsed_config() if text is None else text
    path = os.path.join(base_dir, PARSED_CONFIG)
    if files.exists(path):
        with whole_files.opened(path) as file:
            recorded = file.read()
        known, given = _values(recorded), _values(text)
        names = sorted(set(known) | set(given))
        changed = [name for name in names if known.get(name) != given.get(name)]
        refused = [name for name in changed if name not in may_differ]
        if refused:
            raise ConfigurationError(_difference(base_dir, refused, known, given))
        if not changed:
            return
    whole_files.write_text(path, text)


def _difference(
    base_dir: str | os.PathLike, names: list[str], known: dict[str, str], given: dict[str, str]
) -> str:
    lines = [f"{base_dir} holds a run with another configuration:"]
    for name in names[:_MOST_DIFFERENCES_SHOWN]:
        before, now = (_shown(values.get(name)) for values in (known, given))
        lines.append(f"  {name}: there {before}, now {now}")
    if len(names) > _MOST_DIFFERENCES_SHOWN:
        lines.append(f"  and {len(names) - _MOST_DIFFERENCES_SHOWN} more")
    lines.append(
        "To resume that run give it its own configuration (it is in its "
        f"{PARSED_CONFIG}); to start another, name a new base_dir."
    )
    return "\n".join(lines)


def _shown(value: str | None) -> str:
    if value is None:
        return "not set"
    cut = value[: _LONGEST_VALUE_SHOWN - 3]
    return value if len(value) <= _LONGEST_VALUE_SHOWN else f"{cut}..."


def _values(text: str) -> dict[str, str]:
    """Values by name. Comments and imports do not make a configuration another one."""
    pairs = (line.split(" = ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}
