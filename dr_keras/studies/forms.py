"""Forms of JSON documents: which keys an object must have, and what their values are.

A form is NUMBER, COUNT, TEXT, FREE (anything), FIGURE (a number, or null where the object has a
"reason"), a dict of forms (keys that end in "?" are optional, unknown ones are refused), `Each` (an
object with free keys) or `Listed`.
"""

from collections.abc import Mapping, Sequence
import math

from dr_keras.errors import DataError

NUMBER, COUNT, TEXT = "a number", "a whole number, at least 0", "a text"


class _Figure(str):
    """A number that may be null where the object says why."""


class Each:
    """An object whose keys are free and whose values all have one form."""

    def __init__(self, form):
        self.form = form


class Listed(Each):
    """A list whose items all have one form."""


FREE = object()
FIGURE = _Figure(NUMBER)
POINTS = Listed(Listed(NUMBER))


def _is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def check(value, form, where: str) -> None:
    """Raises DataError, naming the place, unless `value` has the form."""
    if isinstance(form, dict) or type(form) is Each:
        if not isinstance(value, Mapping):
            raise DataError(f"results: {where} must be an object, not {value!r:.60}")
        not_text = [key for key in value if not isinstance(key, str)]
        if not_text:
            raise DataError(f"results: {where} has the key {not_text[0]!r}: keys must be texts")
    if isinstance(form, dict):
        known = {key.rstrip("?") for key in form}
        unknown = sorted(set(value) - known)
        if unknown:
            raise DataError(
                f"results: {where} has the unknown key {unknown[0]!r}; known are {sorted(known)}"
            )
        for key, inner in form.items():
            name = key.rstrip("?")
            if name not in value:
                if not key.endswith("?"):
                    raise DataError(f"results: {where} lacks {name!r}")
                continue
            if isinstance(inner, _Figure) and value[name] is None:
                if not value.get("reason"):
                    raise DataError(f"results: {where}.{name} is null and no 'reason' says why")
                continue
            check(value[name], inner, f"{where}.{name}")
    elif isinstance(form, Listed):
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise DataError(f"results: {where} must be a list, not {value!r:.60}")
        for k, item in enumerate(value):
            check(item, form.form, f"{where}[{k}]")
    elif type(form) is Each:
        for key, item in value.items():
            check(item, form.form, f"{where}.{key}")
    elif form is TEXT:
        if not isinstance(value, str):
            raise DataError(f"results: {where} must be {TEXT}, not {value!r:.60}")
    elif form is COUNT:
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise DataError(f"results: {where} must be {COUNT}, not {value!r:.60}")
    elif form is not FREE:
        if not _is_number(value) or not math.isfinite(value):
            raise DataError(f"results: {where} must be a finite number, not {value!r:.60}")
