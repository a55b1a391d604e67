"""Whether a value fits an annotation, as far as the annotation can decide it.

The values are those of gin files: literals, and references, which a subclass of `Fitting` looks
into. What is not decided for certain fits: a class that converts what it is given, a type variable,
a name that cannot be resolved. Two conversions are made, where nothing else can be meant:

    a number without a fraction (64.0, 1e6) for a whole number    64
    text for a whole number of bytes, see `byte_sizes`            '64MB' is 64000000
"""

import collections.abc
import enum
import numbers
import os
import types
import typing
from typing import Any

from dr_keras.config.annotations import MANY, decides, described, is_protocol, members_of, methods
from dr_keras.config.byte_sizes import parse_bytes

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
        self.path, self.written = "", None


class Fitting:
    """Fits values to annotations.

    Args:
      byte_sizes: whether whole numbers may be written as sizes.
    """

    def __init__(self, byte_sizes: bool = False):
        self._byte_sizes = byte_sizes

    def look(self, value, wanted, converting: bool):
        """What `fit` answers for a value that stands for another one; NotImplemented for others."""
        return NotImplemented

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
