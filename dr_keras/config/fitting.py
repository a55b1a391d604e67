"""Whether a value fits an annotation, as far as the annotation can decide it.

The values are those of gin files: literals, and references to configurables, whose annotations say
what they give. What is not decided for certain fits: a class that converts what it is given, a type
variable, a name that cannot be resolved. Two conversions are made, where nothing else can be meant:

    a number without a fraction (64.0, 1e6) for a whole number    64
    text for a whole number of bytes, see `parse_bytes`           '64MB' is 64000000
"""

import collections.abc
from collections.abc import Callable
import enum
import fractions
import inspect
import numbers
import os
import re
import types
import typing
from typing import Any

from gin import config as gin_config

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", re.IGNORECASE)
_POWERS = "kmgt"


def parse_bytes(text: str) -> int:
    """The number of bytes that `text` says: '64MB' is 64,000,000, '64MiB' is 67,108,864.

    A number and a unit, in capitals or not: B, kB, MB, GB, TB (powers of 1,000), KiB, MiB, GiB, TiB
    (powers of 1,024), with or without a space between them.

    Raises:
      ValueError: `text` is something else, or no whole number of bytes.
    """
    found = _SIZE.fullmatch(text)
    if found is None or (found[3] and not found[2]):
        raise ValueError(f"{text!r} is no size: write a number and a unit, such as '64MB'")
    power = _POWERS.index(found[2].lower()) + 1 if found[2] else 0
    size = fractions.Fraction(found[1]) * (1024 if found[3] else 1000) ** power
    if size.denominator != 1:
        raise ValueError(f"{text!r} is {float(size):g} bytes, which is no whole number")
    return int(size)


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
    members = [*members_of(wanted)]
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


# A function makes these of a literal often enough, whatever it says.
_CONVERTED = (os.PathLike, enum.Enum, numbers.Number)
_ARRAYS = ("ndarray", "Tensor", "generic", "DType")


class Misfit(Exception):
    """A value that does not fit.

    Attributes:
      value: the part that does not fit, and what is wanted there.
      why: what else there is to say.
      path: where in the value as a whole, such as "[1]".
      written: what the value is part of, where that is known; set by who looks into references.
    """

    def __init__(self, value, wanted, why: str = ""):
        super().__init__(f"{value!r} is not {described(wanted)}")
        self.value, self.wanted, self.why = value, wanted, why
        self.path = ""
        self.written: tuple | None = None


class Fitting:
    """Fits values to annotations.

    Args:
      byte_sizes: whether whole numbers may be written as sizes.
    """

    def __init__(self, byte_sizes: bool = False):
        self._byte_sizes = byte_sizes

    def look(self, value, wanted, converting: bool):
        """What `fit` answers for a value that stands for another one; NotImplemented for others."""
        if not isinstance(value, gin_config.ConfigurableReference):
            return NotImplemented
        if not any(reference_fits(value, member) for member in members_of(wanted)):
            raise Misfit(value, wanted)
        return value

    def fit(self, value, wanted, converting: bool = True):
        """The value as `wanted` has it, converted where that is safe.

        Raises:
          Misfit: it does not fit.
        """
        found = self.look(value, wanted, converting)
        if found is not NotImplemented:
            return found
        members = members_of(wanted)
        if len(members) == 1:
            return self._one(value, members[0], converting)
        misfits = []
        for convert in (False, True)[: 1 + converting]:  # what fits as it is comes first
            for member in members:
                try:
                    return self.fit(value, member, convert)
                except Misfit as error:
                    misfits.append(error)
        deepest = max(misfits, key=lambda error: (error.written is not None, len(error.path)))
        if deepest.path or deepest.written:
            raise deepest
        why = next((error.why for error in misfits if error.why), "")
        raise Misfit(value, wanted, why=why)

    def _one(self, value, wanted, converting: bool):
        origin, arguments = typing.get_origin(wanted), typing.get_args(wanted)
        if origin is typing.Literal:
            fits = any(value == choice and type(value) is type(choice) for choice in arguments)
            return _checked(value, wanted, fits)
        kind = origin or wanted
        if kind in (None, types.NoneType):
            return _checked(value, wanted, value is None)
        if not decides(kind):
            return value
        if kind in (bool, int, float):
            return self._number(value, kind, converting)
        if issubclass(kind, collections.abc.Mapping):
            return self._mapping(value, wanted, arguments, converting)
        if kind in MANY:
            return self._many(value, wanted, kind, arguments, converting)
        if kind is collections.abc.Callable:
            return _checked(value, wanted, value is None or callable(value))
        if issubclass(kind, type):
            return _checked(value, wanted, not is_literal(value))
        return _checked(value, wanted, fits_class(value, kind))

    def _number(self, value, kind: type, converting: bool):
        is_truth = isinstance(value, bool)
        if kind is bool:
            whole = isinstance(value, int)
            return _checked(value, kind, is_truth or (whole and value in (0, 1)))
        if kind is float:
            return _checked(value, kind, isinstance(value, numbers.Real) and not is_truth)
        if isinstance(value, str) and self._byte_sizes and converting:
            try:
                return parse_bytes(value)
            except ValueError as error:
                raise Misfit(value, kind, why=str(error)) from error
        if converting and isinstance(value, float) and value.is_integer():
            return int(value)
        return _checked(value, kind, isinstance(value, numbers.Integral) and not is_truth)

    def _many(self, value, wanted, kind, arguments: tuple, converting: bool):
        if isinstance(value, str) and not arguments:
            return value  # a text is a sequence, of nobody knows what
        if not isinstance(value, (list, tuple)):
            return _checked(value, wanted, isinstance(value, kind) and not is_literal(value))
        each = [*arguments]
        if kind is not tuple or (len(each) == 2 and each[1] is Ellipsis) or not each:
            each = [each[0] if each else Any] * len(value)
        elif each == [()]:
            each = []
        if len(each) != len(value):
            raise Misfit(value, wanted)
        return type(value)(
            [self._part(part, one, f"[{number}]", converting)
             for number, (part, one) in enumerate(zip(value, each))]
        )  # fmt: skip

    def _mapping(self, value, wanted, arguments: tuple, converting: bool):
        if not isinstance(value, collections.abc.Mapping):
            raise Misfit(value, wanted)
        if len(arguments) != 2:
            return value
        names, values = arguments
        return {
            self._part(name, names, "", converting): self._part(
                part, values, f"[{name!r}]", converting
            )
            for name, part in value.items()
        }

    def _part(self, value, wanted, place: str, converting: bool):
        try:
            return self.fit(value, wanted, converting)
        except Misfit as error:
            if error.written is None:
                error.path = place + error.path
            raise


def _checked(value, wanted, fits: bool):
    if not fits:
        raise Misfit(value, wanted)
    return value


def is_literal(value) -> bool:
    """Whether gin files can write the value out."""
    plain = (str, bytes, bool, int, float, complex, list, tuple, dict, set, type(None))
    return type(value) in plain


def fits_class(value, kind: type) -> bool:
    """Whether the value may be given where an instance of `kind` is wanted.

    None may, but for text: it stands for what somebody else brings.
    """
    if value is None:
        return kind is not str
    if is_protocol(kind):
        return not is_literal(value) or all(hasattr(value, name) for name in methods(kind))
    if isinstance(value, kind):
        return True
    is_text = isinstance(value, (str, bytes))
    if issubclass(kind, os.PathLike):
        return is_text
    converted = issubclass(kind, _CONVERTED) or any(
        base.__name__ in _ARRAYS for base in kind.__mro__
    )
    return converted
