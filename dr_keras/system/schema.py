"""Forms that values from JSON must have: types, ranges, nesting; said once, checked in one place.

    check(found, record({"length": whole(1), "names": list_of(NAME)}))

raises a `Mismatch` that says which part has another form, what it is, and what it should be.
"""

from collections.abc import Callable, Iterable, Mapping
import dataclasses
import json
import re
from typing import Any

_SHOWN = 40
_LARGEST = 2**63 - 1
_MISSING = object()


@dataclasses.dataclass(frozen=True)
class Form:
    """What a value must be.

    Attributes:
      expected: in words.
      accepts: whether the value itself is such, its parts left aside.
      parts: of a value that is accepted: (how the part is called, part, its form).
    """

    expected: str
    accepts: Callable[[Any], bool]
    parts: Callable[[Any], Iterable[tuple[str, Any, "Form"]]] = lambda value: ()


class Mismatch(ValueError):
    """A value has another form; its text says where, what was found, and what should be there."""


def check(value, form: Form, where: str = "") -> None:
    """Raises Mismatch unless `value` has the form."""
    if not form.accepts(value):
        name = where.lstrip(".") or "the whole"
        if value is _MISSING:
            raise Mismatch(f"lacks {name}")
        raise Mismatch(f"has {describe(value)} as {name}, which should be {form.expected}")
    for name, part, inner in form.parts(value):
        check(part, inner, where + name)


def describe(value) -> str:
    """A value of JSON in a few words, for messages; printable whatever is in it."""
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object with {len(value)} keys"
    return _short(json.dumps(value))


def strict_json(text: str | bytes):
    """Reads JSON (UTF-8) that gives no key twice.

    Raises:
      ValueError: it is not such, or nests too deeply to be read.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
        return json.loads(text, object_pairs_hook=_without_repeats)
    except RecursionError:
        raise ValueError("its brackets nest too deeply") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {_short(repr(key))} is there twice")
            seen.add(key)
    return found


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_inside(path: str) -> bool:
    # Neither a NUL, which ends names, nor half of a character, which no name can hold.
    plain = not any(ord(letter) < 32 or "\ud800" <= letter <= "\udfff" for letter in path)
    return plain and not any(part in ("", ".", "..") for part in path.split("/"))


def _text(expected: str, accepts: Callable[[str], Any]) -> Form:
    return Form(expected, lambda value: isinstance(value, str) and bool(accepts(value)))


ANY = Form("anything", lambda value: value is not _MISSING)
BOOLEAN = Form("true or false", lambda value: isinstance(value, bool))
TEXT = _text("a string", lambda value: True)
NAME = _text("a string that is not empty", len)
OBJECT = Form("an object", lambda value: isinstance(value, dict))
FLOAT = Form(
    "a finite number of 32 bits",
    lambda value: (_is_whole(value) or isinstance(value, float)) and abs(value) < 3.4e38,
)
SHA256 = _text("a SHA-256 of 64 hexadecimal digits", re.compile("[0-9a-f]{64}").fullmatch)
FILE_NAME = _text(
    "the name of a file, without a folder", lambda name: _is_inside(name) and "/" not in name
)
FILE_PATH = _text("a path below the folder, such as 'variables/variables.index'", _is_inside)


def whole(least: int = 0, most: int = _LARGEST) -> Form:
    ends = f"of at least {least}" if most == _LARGEST else f"from {least} to {most}"
    return Form(f"a whole number {ends}", lambda value: _is_whole(value) and least <= value <= most)


def one_of(*values: str) -> Form:
    return _text(f"one of {', '.join(map(repr, values))}", lambda value: value in values)


def or_null(form: Form) -> Form:
    return Form(
        f"{form.expected}, or null",
        lambda value: value is None or form.accepts(value),
        lambda value: () if value is None else form.parts(value),
    )


def optional(form: Form) -> Form:
    """Of a key that may be left out."""
    return Form(
        f"{form.expected}, or left out",
        lambda value: value is _MISSING or form.accepts(value),
        lambda value: () if value is _MISSING else form.parts(value),
    )


def list_of(item: Form, least: int = 0) -> Form:
    some = f"of {least} or more, each " if least else "of which each is "
    return Form(
        f"a list {some}{item.expected}",
        lambda value: isinstance(value, list) and len(value) >= least,
        lambda value: ((f"[{place}]", part, item) for place, part in enumerate(value)),
    )


def mapping(item: Form, keys: Form = TEXT, least: int = 0) -> Form:
    """An object with any keys, such as files by name."""

    def parts(value):
        for key, part in value.items():
            name = f"[{_short(ascii(key))}]"
            yield f"{name} (the name)", key, keys
            yield name, part, item

    some = "an object" if not least else f"an object of at least {least}"
    return Form(some, lambda value: isinstance(value, dict) and len(value) >= least, parts)


def record(fields: Mapping[str, Form], others: Form = ANY) -> Form:
    """An object that has certain keys, and perhaps others of one form."""

    def parts(value):
        for key, form in fields.items():
            yield f".{key}", value.get(key, _MISSING), form
        for key in value.keys() - fields.keys():
            yield f"[{_short(ascii(key))}]", value[key], others

    return Form("an object", lambda value: isinstance(value, dict), parts)


def exactly(fields: Mapping[str, Form]) -> Form:
    """An object that has these keys and no others."""
    return record(fields, others=Form("left out", lambda value: False))


def by_key(key: str, forms: Mapping[str, Form]) -> Form:
    """An object whose string under `key` says which of the forms it has; any where it is none."""

    def parts(value):
        yield f".{key}", value.get(key, _MISSING), NAME
        yield "", value, forms.get(value[key], ANY)

    return Form("an object", lambda value: isinstance(value, dict), parts)
