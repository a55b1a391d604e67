"""Values that gin binds, held against the annotations of what they are bound to.

gin hands on whatever a file says, and what comes of it shows much later, if at all. Here every
binding is looked at once the configuration is complete, before any work: one mechanism for all
configurables, a user's own too. `fitting` says what fits and what is converted.
"""

from collections.abc import Callable, Mapping
import difflib
import inspect
import typing
from typing import Any

from dr_keras.config.fitting import (
    MANY,
    Fitting,
    Misfit,
    decides,
    described,
    hints_of,
    is_protocol,
    may_be,
    members_of,
    reference_fits,
)
from dr_keras.config.gin_files import Origin
from dr_keras.errors import ConfigurationError
import gin
from gin import config as gin_config

MACRO = "gin.macro"
CONSTANT = "gin.constant"
_MOST_NAMES = 5
_EXAMPLES = {bool: "True", int: "64", float: "0.5"}

Key = tuple[str, str, str]  # scope, complete selector, argument; of a macro: name, MACRO, "value"


def suitable_references(wanted) -> list[str]:
    """References to configurables that surely give what a class, protocol or function type asks."""
    kind = typing.get_origin(wanted) or wanted
    is_function = kind is Callable and len(typing.get_args(wanted)) == 2
    target = typing.get_args(wanted)[1] if is_function else wanted
    kind = typing.get_origin(target) or target
    if not decides(kind) or kind.__module__ == "builtins" or kind is Callable:
        return []
    found = []
    for selector, configurable in gin_config._REGISTRY.items():
        result = hints_of(configurable.wrapped).get("return", Any)
        result = typing.get_origin(result) or result
        if not decides(result) or selector.startswith("gin."):
            continue
        if is_protocol(kind):
            fits = result is kind or (
                not is_protocol(result) and result.__module__ != "builtins" and may_be(result, kind)
            )
        else:
            fits = result.__module__ != "builtins" and issubclass(result, kind)
        if fits:
            name = gin_config._REGISTRY.minimal_selector(selector)
            found.append(f"@{name}" if is_function else f"@{name}()")
    return sorted(found)


def check_bound_values(
    config: dict, origins: Mapping[Key, Origin], name_of: Callable[[str, str, str], str]
) -> None:
    """Converts what is safe to convert, in place, and refuses what does not fit.

    A value is converted where it is written: that of a macro too, if it then fits all its uses.

    Args:
      config: gin's, (scope, selector) -> {argument: value}; every macro has a value.
      origins: where each binding was made.
      name_of: a key as users write it.

    Raises:
      ConfigurationError: values that do not fit, all of them.
    """
    for last in (False, True):
        check = _Check(config)
        for key, wanted, default in _annotated(config):
            check.binding(key, wanted, default)
        if check.problems or last or not check.converted:
            break
        for (scope, selector, argument), value in check.converted.items():
            config[scope, selector][argument] = value
    if check.problems:
        raise ConfigurationError("\n".join(messages(check.problems, origins, name_of)))


def _annotated(config: dict):
    """(key, annotation, default) of every binding whose argument has an annotation."""
    for (scope, selector), arguments in list(config.items()):
        if selector.startswith("gin."):
            continue
        function = gin_config._REGISTRY[selector].wrapped
        hints = hints_of(function)
        try:
            parameters = inspect.signature(function).parameters
        except (TypeError, ValueError):  # of functions that are not Python's
            continue
        others = [one for one in parameters.values() if one.kind is one.VAR_KEYWORD]
        for argument in arguments:
            for parameter in [parameters[argument]] if argument in parameters else others:
                if parameter.name in hints:
                    key = scope, selector, argument
                    yield key, hints[parameter.name], parameter.default


class _Check(Fitting):
    """Fits bindings one after the other.

    Attributes:
      problems: (key of the binding with the value, its misfit, key of the binding that uses it).
      converted: key -> the value that it should have.
    """

    def __init__(self, config: dict):
        super().__init__()
        self._config = config
        self.problems: list[tuple[Key, Misfit, Key]] = []
        self.converted: dict[Key, Any] = {}
        self._open: list[Key] = []  # the binding looked at, and macros that it leads to

    def binding(self, key: Key, wanted, default) -> None:
        scope, selector, argument = key
        value = self._config[scope, selector][argument]
        if not isinstance(value, gin_config.ConfigurableReference) and value is default:
            return  # `size: int = None` has it so
        self._byte_sizes = argument == "bytes" or argument.endswith("_bytes")
        self._open = [key]
        try:
            self._written(key, value, wanted, True)
        except Misfit as error:
            self.problems.append((error.written or key, error, key))

    def _written(self, key: Key, value, wanted, converting: bool) -> None:
        found = self.fit(value, wanted, converting)
        if not _same(found, value):
            self.converted[key] = found

    def look(self, value, wanted, converting: bool):
        if not isinstance(value, gin_config.ConfigurableReference):
            return NotImplemented
        if value.configurable.selector == CONSTANT:
            constant = value.scoped_configurable_fn()
            if constant is not gin.REQUIRED:
                self.fit(constant, wanted, converting=False)
            return value
        if value.configurable.selector == MACRO:
            key = (*value.config_key, "value")
            if key in self._open:
                raise Misfit(value, wanted, why=f"%{key[0]} stands for itself")
            self._open.append(key)
            try:
                self._written(key, self._config[value.config_key]["value"], wanted, converting)
            except Misfit as error:
                error.written = error.written or key
                raise
            finally:
                self._open.pop()
            return value
        return super().look(value, wanted, converting)


def _same(found, value) -> bool:
    """Whether nothing was converted; 64 and 64.0 are equal and not the same."""
    return repr(found) == repr(value)


def messages(problems, origins, name_of) -> list[str]:
    """One line for each value that does not fit, whatever the number of its uses."""
    together: dict[tuple, tuple[Misfit, list[Key]]] = {}
    for key, misfit, user in problems:
        # a use that may also go without is not another demand
        same = (key, misfit.path, described(misfit.wanted).removesuffix(" or None"))
        together.setdefault(same, (misfit, []))[1].append(user)
    lines = []
    for (key, path, _), (misfit, users) in together.items():
        name = name_of(*key)
        at = f"{origins[key]}: " if key in origins else ""
        used = "" if users == [key] else f" in {', '.join(name_of(*user) for user in users)}"
        reason = f" ({misfit.why})" if misfit.why else ""
        lines.append(
            f"{at}{name}{path} = {misfit.value!r} is {_kind(misfit.value)}, but must be"
            f" {described(misfit.wanted)}{used}{reason}.{_remedy(misfit)}"
        )
    return lines


def _kind(value) -> str:
    """What a value of a gin file is."""
    if isinstance(value, gin_config.ConfigurableReference):
        if value.configurable.selector in (MACRO, CONSTANT):
            return "a macro"
        return "what the function returns" if value.evaluate else "the function itself"
    if isinstance(value, float):
        return "a number" if value.is_integer() else "a fraction"
    for kind, words in (
        (bool, "a truth value"),
        (int, "a whole number"),
        (str, "text"),
        ((list, tuple), "a list"),
        (Mapping, "a dict"),
    ):
        if isinstance(value, kind):
            return words
    return "nothing" if value is None else f"of type {type(value).__name__}"


def _remedy(misfit: Misfit) -> str:
    """ " Write ...", where it is known what."""
    value, members = misfit.value, members_of(misfit.wanted)
    for member in members:
        if (typing.get_origin(member) or member) in MANY and _fits([value], member):
            return f" Write [{value!r}]."
    if isinstance(value, gin_config.ConfigurableReference):
        return _remedy_for_reference(value, members)
    number = _number_in(value) if isinstance(value, str) else None
    if number is not None and {int, float} & {*members}:
        return f" Write {number!r} without quotes."
    if value in ("True", "False", "None") and {bool, type(None)} & {*members}:
        return f" Write {value} without quotes."
    if str in members and isinstance(value, (int, float)):
        return f" Write {str(value)!r}."
    names = [name for member in members for name in suitable_references(member)]
    plain = {name.strip("@()"): name for name in names}
    for close in difflib.get_close_matches(str(value).strip("@()"), [*plain], n=1):
        return f" Write {plain[close]}."
    examples = names or [_EXAMPLES[member] for member in members if member in _EXAMPLES][:1]
    more = ", ..." if len(examples) > _MOST_NAMES else ""
    return f" Write for example {', '.join(examples[:_MOST_NAMES])}{more}." if examples else ""


def _fits(value, wanted) -> bool:
    try:
        Fitting().fit(value, wanted)
    except Misfit:
        return False
    return True


def _remedy_for_reference(value, members: tuple) -> str:
    other = gin_config.ConfigurableReference(value.scoped_selector, not value.evaluate)
    if any(reference_fits(other, member) for member in members):
        if value.evaluate:
            return f" Leave the brackets away: {other!r}."
        return f" Its brackets are missing: {other!r}."
    result = hints_of(value.configurable.wrapped).get("return", Any)
    returned = f" It returns {described(result).split(' (')[0]}." if result is not Any else ""
    names = [name for member in members for name in suitable_references(member)][:_MOST_NAMES]
    return returned + (f" Write for example {', '.join(names)}." if names else "")


def _number_in(text: str) -> int | float | None:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None
