"""What is said about bound values that do not fit: where, what, and how to write it right."""

from collections.abc import Mapping
import difflib
import typing
from typing import Any

from dr_keras.config.annotations import MANY, described, hints_of, members_of
from dr_keras.config.fitting import Misfit
from dr_keras.config.references import ReferenceFitting, reference_fits, suitable_references
from gin import config as gin_config

MACRO = "gin.macro"
CONSTANT = "gin.constant"
_MOST_NAMES = 5
_EXAMPLES = {bool: "True", int: "64", float: "0.5"}

Key = tuple[str, str, str]  # scope, complete selector, argument; of a macro: name, MACRO, "value"


def messages(problems, origins, name_of) -> list[str]:
    """One line for each value that does not fit, whatever the number of its uses."""
    together: dict[tuple, tuple[Misfit, list[Key]]] = {}
    for key, misfit, user in problems:
        same = (key, misfit.path, described(misfit.wanted))
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
        ReferenceFitting().fit(value, wanted)
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
