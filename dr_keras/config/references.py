"""What a gin reference, @name or @name(), may be given for."""

from collections.abc import Callable
import inspect
import typing
from typing import Any

from dr_keras.config.annotations import decides, hints_of, is_protocol, may_be, members_of, methods
from dr_keras.config.fitting import Fitting, Misfit
from gin import config as gin_config


class ReferenceFitting(Fitting):
    """Fits gin's references to configurables, too."""

    def look(self, value, wanted, converting: bool):
        if not isinstance(value, gin_config.ConfigurableReference):
            return NotImplemented
        if not any(reference_fits(value, member) for member in members_of(wanted)):
            raise Misfit(value, wanted)
        return value


def reference_fits(reference, wanted) -> bool:
    """Whether @name or @name() may be given where `wanted`, which is no union, is asked for."""
    function = reference.configurable.wrapped
    result = hints_of(function).get("return", Any)
    if reference.evaluate:
        return may_be(result, wanted)
    kind = typing.get_origin(wanted) or wanted
    if not decides(kind):
        return wanted is not None
    if kind is Callable:
        arguments = typing.get_args(wanted)
        return len(arguments) != 2 or may_be(result, arguments[1])
    if is_protocol(kind):
        if methods(kind) != {"__call__"}:
            return False
        # a class whose instances are what is wanted stands there without its brackets
        return not (inspect.isclass(function) and may_be(function, kind))
    return issubclass(kind, type) or isinstance(reference.configurable.wrapper, kind)


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
