"""What a corpus is, and how any corpus treats empty, malformed and absent input.

A corpus is a name and a function that reads documents. To add one, write a function that yields
`make_document(text, source, id)` and return `Corpus(name, read)` from a gin-configurable function.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Mapping
import dataclasses
import math
from typing import Any

from dr_keras.data.documents import Document, decode, make_document
from dr_keras.errors import ConfigurationError, DataError

ON_MALFORMED = ("stop", "skip")

Reader = Callable[[collections.Counter], Iterator[Document]]


class Corpus:
    """Documents under a name, read afresh, in the same order, on every pass.

    Attributes:
      name: what weights of mixtures and reports call it.
      skipped: reason -> how many records the last pass left out.
      weights: corpus name -> share of the examples drawn, or None: as they come (see mixtures).
    """

    def __init__(
        self,
        name: str,
        read: Reader,
        settings: dict[str, Any] | None = None,
        max_documents: int | None = None,
        weights: Mapping[str, float] | None = None,
    ):
        """Args:
        name: not empty.
        read: called with a counter of skipped records, yields documents.
        settings: JSON-able facts for `describe`.
        max_documents: stop after so many; None for all.
        weights: see the class.
        """
        if not name:
            raise ConfigurationError("a corpus needs a name that is not empty")
        if max_documents is not None:
            check_at_least(f"max_documents of corpus {name!r}", max_documents)
        self.name = name
        self.weights = weights
        self.skipped: collections.Counter[str] = collections.Counter()
        self._read = read
        self._settings = dict(settings or {})
        self._max_documents = max_documents

    def documents(self) -> Iterator[Document]:
        """Yields the documents with `corpus` set; empty texts are skipped and counted.

        Raises:
          DataError: a record is malformed, or the corpus turns out to hold no document.
        """
        self.skipped = collections.Counter()
        number = 0
        for document in self._read(self.skipped):
            if not document.text or document.text.isspace():
                self.skipped["empty text"] += 1
                continue
            number += 1
            yield dataclasses.replace(document, corpus=document.corpus or self.name)
            if number == self._max_documents:
                return
        if not number:
            raise DataError(f"corpus {self.name!r} holds no documents{self._where()}")

    def describe(self) -> dict[str, Any]:
        """Returns JSON-able facts: name, settings, what the last pass skipped."""
        return {"name": self.name, **self._settings, "skipped": dict(self.skipped)}

    def _where(self) -> str:
        paths = self._settings.get("paths")
        place = f": nothing to read in {_shortened(paths)}" if paths else ""
        reasons = ", ".join(f"{count} x {reason}" for reason, count in self.skipped.items())
        return f"{place} (skipped: {reasons})" if reasons else place


def _shortened(paths: list[str]) -> str:
    more = f" and {len(paths) - 3} more" if len(paths) > 3 else ""
    return ", ".join(paths[:3]) + more


def check_choice(setting: str, value: Any, choices: Iterable[Any]) -> None:
    """Raises ConfigurationError unless the value of a setting is one of the choices."""
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise ConfigurationError(f"{setting} must be one of {listed}, not {value!r}")


def check_at_least(setting: str, value: float, least: float = 1) -> None:
    """Raises ConfigurationError unless the value of a setting is as large as it must be."""
    if not value >= least:
        raise ConfigurationError(f"{setting} must be at least {least}, not {value}")


class Malformed(Exception):
    """A record that cannot be used: raised where that is found, and told of or counted by readers.

    Attributes:
      reason: short and countable.
      detail: the rest.
      remedy: what to do.
      place: where in its file it is, if its number does not say so.
    """

    def __init__(self, reason: str, detail: str = "", remedy: str = "mend it", place: str = ""):
        super().__init__(reason, detail, remedy, place)
        self.reason, self.detail, self.remedy, self.place = reason, detail, remedy, place

    def error(self, place: str, setting: str) -> DataError:
        """The error where one such record is too many: its place, and what gin calls the choice."""
        detail = f" ({self.detail})" if self.detail else ""
        return DataError(
            f"{place}: {self.reason}{detail}; {self.remedy}, or leave such records out with"
            f' {setting}="skip"'
        )


class LeftOut(Malformed):
    """A record that the user's settings leave out: counted, whatever is done about others."""


def decoded_document(
    text: bytes,
    identity: bytes | int | float | None,
    source: bytes | str,
    group: bytes | int | float | None = None,
) -> Document:
    """Builds a document from fields as binary formats hold them, or raises `Malformed`."""
    try:
        identity = decode(identity) if isinstance(identity, bytes) else identity
        source = decode(source) if isinstance(source, bytes) else source
        group = decode(group) if isinstance(group, bytes) else group
        text = decode(text)
    except UnicodeDecodeError as error:
        raise Malformed("invalid UTF-8", str(error)) from error
    try:
        identity = identity_text(identity)
    except ValueError as error:
        raise Malformed("the id is no string or integer", str(error)) from error
    try:
        group = group_text(group)
    except ValueError as error:
        raise Malformed("the group is no string or integer", str(error)) from error
    return make_document(text, source, identity, group)


def identity_text(value: Any) -> str | None:
    """Returns an id as a string, or None for a value that is none: null, NaN or "".

    Integers with gaps are floats to pandas; such ids are integers again, up to 2**53, beyond which
    two of them may have become one.

    Raises:
      ValueError: it can be no id; says why.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and value.is_integer():
        if abs(value) > 2**53:
            raise ValueError(f"it is {value!r}, too large for a float to tell integers apart")
        return str(int(value))
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"it is a {type(value).__name__}")
    return str(value)


def id_in(value: Any, field: str | None) -> str | None:
    """`identity_text` of what a record has in a field; Malformed where that can be none."""
    try:
        return identity_text(value)
    except ValueError as error:
        raise Malformed(f"field {field!r} is no string or integer", str(error)) from error


def group_text(value: Any) -> str:
    """Returns the name of a group as a string, "" for a value that is none; see `identity_text`."""
    return identity_text(value) or ""


def is_one_of(value: Any, wanted: Any) -> bool:
    """Whether a field has the value that is wanted, or one of several; true is not 1."""
    several = wanted if isinstance(wanted, list | tuple) else [wanted]
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in several)
