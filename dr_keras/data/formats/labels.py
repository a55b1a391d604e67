"""Fields that say something of a document, such as its language; for evaluation alone."""

from collections.abc import Callable, Sequence
import dataclasses

from dr_keras.data.documents import Document
from dr_keras.errors import ConfigurationError

# What a set of examples, or an audit, calls by these names already.
RESERVED = (
    "source",
    "script",
    "length",
    "level",
    "damage",
    "documents",
    "count",
    "corpus",
    "group",
)


def check_labels(setting: str, names: Sequence[str] | None) -> None:
    """Raises ConfigurationError where a label would be called as something else is."""
    if isinstance(names, str):
        raise ConfigurationError(
            f"{setting} is {names!r}: give a list of names, as in [{names!r}]."
        )
    taken = [name for name in names or () if name in RESERVED]
    if taken:
        raise ConfigurationError(
            f"{setting} names {taken[0]!r}, which is what {', '.join(RESERVED)} are called already:"
            " rename the field, or leave it out."
        )


def labelled(
    document: Document, names: Sequence[str] | None, value_of: Callable[[str], object]
) -> Document:
    """The document with the labels that `labels_of` finds."""
    labels = labels_of(names, value_of) if names else ()
    return dataclasses.replace(document, labels=labels) if labels else document


def labels_of(
    names: Sequence[str] | None, value_of: Callable[[str], object]
) -> tuple[tuple[str, str], ...]:
    """(name, value as text) of the fields that hold a text, number or truth value."""
    found = []
    for name in names or ():
        value = value_of(name)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        if isinstance(value, str | int | float) and value == value and value != "":
            found.append((name, str(value)))
    return tuple(found)
