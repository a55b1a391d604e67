"""What an annotation asks for, as far as it can be decided for certain."""

import collections.abc
from collections.abc import Callable
import inspect
import numbers
import os
import types
import typing
from typing import Any

from gin import config as gin_config

# A list will do for all of these, and a tuple.
MANY = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.MutableSequence,
    collections.abc.Set,
)


def hints_of(function: Callable) -> dict[str, Any]:
    """Annotations of a function's arguments and "return"; nothing where they cannot be resolved.

    Of a class, the arguments of its constructor; what it returns is the class.
    """
    of_class = inspect.isclass(function)
    try:
        construct = gin_config._find_class_construction_fn(function) if of_class else function
        found = typing.get_type_hints(construct)
    except Exception:  # whatever evaluating somebody's annotations may raise
        found = {}
    return {**found, "return": function} if of_class else found


def members_of(wanted) -> tuple:
    """Members of a union; of anything else, itself."""
    if typing.get_origin(wanted) in (typing.Union, types.UnionType):
        return tuple(part for member in typing.get_args(wanted) for part in members_of(member))
    if isinstance(wanted, typing.NewType):
        return members_of(wanted.__supertype__)
    return (wanted,)


def decides(kind) -> bool:
    """Whether it can be told what fits: an ordinary class."""
    return isinstance(kind, type) and kind is not object and kind is not Any


def is_protocol(kind) -> bool:
    return bool(getattr(kind, "_is_protocol", False)) and kind is not typing.Protocol


def methods(protocol: type) -> set[str]:
    """Names of the methods that a protocol asks for."""
    return {
        name
        for base in protocol.__mro__
        if is_protocol(base)
        for name, member in vars(base).items()
        if inspect.isfunction(member) and name not in ("__init__", "__subclasshook__")
    }


def may_be(result, wanted) -> bool:
    """Whether what a function is said to return may be what is wanted: False only if surely not."""
    results, members = members_of(result), members_of(wanted)
    return any(_may_be(one, member) for one in results for member in members)


def _may_be(result, wanted) -> bool:
    kinds = []
    for annotation in (result, wanted):
        if annotation is None:
            annotation = types.NoneType
        kinds.append(typing.get_origin(annotation) or annotation)
    given, kind = kinds
    if not all(map(decides, kinds)):
        return True
    if kind is collections.abc.Callable:
        return given is kind or _is_callable_class(given) and not _is_built(given, wanted)
    if is_protocol(given):
        return kind not in (bool, int, float, str, types.NoneType)
    if is_protocol(kind):
        return all(_defines(given, name) for name in methods(kind))
    if kind is float and issubclass(given, numbers.Real):
        return given is not bool
    try:
        return issubclass(given, kind) or issubclass(kind, given)
    except TypeError:
        return True


def _defines(kind: type, name: str) -> bool:
    return any(name in vars(base) for base in kind.__mro__)


def _is_callable_class(kind: type) -> bool:
    return _defines(kind, "__call__") or kind in (type, types.FunctionType)


def _is_built(given: type, wanted) -> bool:
    """Whether `given` is what a call of `wanted` makes of nothing, and not what makes it."""
    arguments = typing.get_args(wanted)
    if len(arguments) != 2 or arguments[0] != []:
        return False
    return any(decides(one) and issubclass(given, one) for one in members_of(arguments[1]))


# --------------------------------------------------------------------------------------- in words

_WORDS = {
    bool: "True or False",
    int: "a whole number",
    float: "a number",
    str: "text in quotes",
    type(None): "None",
    None: "None",
}


def described(wanted) -> str:
    """What an annotation asks for, in words of gin files."""
    members = members_of(wanted)
    if len(members) > 1:
        if {int, float} <= set(members):
            members = [member for member in members if member is not int]
        if any(isinstance(one, type) and issubclass(one, os.PathLike) for one in members):
            members = [member for member in members if member is not str]
        words = [described(member) for member in members]
        words = [word for number, word in enumerate(words) if word not in words[:number]]
        return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
    wanted = members[0]
    origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
    if origin is typing.Literal:
        choices = [*map(repr, arguments)]
        return " or ".join([", ".join(choices[:-1]), choices[-1]] if choices[1:] else choices)
    kind = origin or wanted
    if kind in _WORDS:
        return _WORDS[kind]
    if not isinstance(kind, type):
        return str(kind)
    if issubclass(kind, os.PathLike):
        return "a path in quotes"
    if issubclass(kind, collections.abc.Mapping):
        return "a dict {name: value}"
    if kind in MANY:
        each = [one for one in arguments if one is not Ellipsis]
        return f"a list [...], each {described(each[0])}" if len(set(each)) == 1 else "a list"
    if kind is collections.abc.Callable:
        return "a function (@name, without brackets)"
    return f"{kind.__name__} (@name(), with brackets)"
