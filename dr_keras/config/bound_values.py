"""Values that gin binds, held against the annotations of what they are bound to.

gin hands on whatever a file says, and what comes of it shows much later, if at all. Here every
binding is looked at once the configuration is complete, before any work: one mechanism for all
configurables, a user's own too. `fitting` says what fits and what is converted.
"""

from collections.abc import Callable, Mapping
import inspect
from typing import Any

from dr_keras.config.annotations import hints_of
from dr_keras.config.fitting import Misfit
from dr_keras.config.gin_files import Origin
from dr_keras.config.misfit_messages import CONSTANT, MACRO, Key, messages
from dr_keras.config.references import ReferenceFitting
from dr_keras.errors import ConfigurationError
import gin
from gin import config as gin_config


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


class _Check(ReferenceFitting):
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
