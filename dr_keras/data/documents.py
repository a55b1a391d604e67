"""Documents: the unit that corpora yield, that the split is decided on, and that ids point back to.

A document is known by two things. Its `id` is for people and files: the user's own id, else a hash
of source and text. Its `key` is for the split: a hash of the normalised content alone, so the same
text lies in the same part of a corpus whatever it is called and wherever it was found.
"""

import dataclasses
import hashlib
import re
import unicodedata
from collections.abc import Iterable

from dr_keras.errors import DataError

_WHITESPACE = re.compile(r"\s+")


@dataclasses.dataclass(frozen=True, slots=True)
class Document:
    """One document, or a passage cut from one.

    Attributes:
      id: unique within a corpus.
      text: the text as found; never normalised.
      source: the name of where it comes from, for reports (a file, a domain, a package).
      key: hex SHA-256 of the normalised content of the *document*; a passage inherits the key of
        the document it was cut from and so lies in the same part.
      count: how often the document occurs in the corpus.
      level: damage in [0, 1], 0.0 known to be clean, None unknown. For evaluation only.
      damage: the kind of damage, "clean", or None for unknown. For evaluation only.
      corpus: name of the corpus, which the weights of a mixture refer to.
    """

    id: str
    text: str
    source: str
    key: str
    count: int = 1
    level: float | None = None
    damage: str | None = None
    corpus: str = ""


def normalise(text: str) -> str:
    """Returns `text` in NFKC with each run of white space as one space and none at the ends."""
    if not text.isascii():  # NFKC leaves ASCII alone, and most text is ASCII
        text = unicodedata.normalize("NFKC", text)
    return _WHITESPACE.sub(" ", text).strip()


def _sha256(text: str) -> "hashlib._Hash":
    # surrogatepass: a lone surrogate is not valid Unicode but must not make hashing fail.
    return hashlib.sha256(text.encode("utf-8", "surrogatepass"))


def content_key(text: str) -> str:
    """Returns the hex SHA-256 (64 digits) of the normalised text."""
    return _sha256(normalise(text)).hexdigest()


def document_id(source: str, text: str) -> str:
    """Returns the id (24 hex digits) of a document that brings none of its own."""
    return _sha256(source + "\0" + normalise(text)).hexdigest()[:24]


def make_document(text: str, source: str, id: str | None = None) -> Document:
    """Builds a document from raw text; without an `id` it gets the hash of source and text."""
    return Document(
        id=document_id(source, text) if id is None else id,
        text=text,
        source=source,
        key=content_key(text),
    )


def merge_duplicates(documents: Iterable[Document]) -> list[Document]:
    """Merges exact duplicates (after normalisation); the first one stays, with the summed count.

    Passages of one document share its key, so duplicates are those that agree in key and content.

    Args:
      documents: any iterable; order is kept.

    Returns:
      Documents with distinct ids.

    Raises:
      DataError: two documents have one id and different content.
    """
    merged: dict[tuple[str, str], Document] = {}
    content_of_id: dict[str, tuple[str, str]] = {}
    for document in documents:
        content = (document.key, content_key(document.text))
        if content_of_id.setdefault(document.id, content) != content:
            raise DataError(
                f"two documents have the id {document.id!r} but different content "
                f"(source {document.source!r}); make the ids unique, or read the corpus without "
                "its id field, and ids are made from the content"
            )
        first = merged.get(content)
        if first is not None:
            document = dataclasses.replace(first, count=first.count + document.count)
        merged[content] = document
    return list(merged.values())


def fingerprint(documents: Iterable[Document]) -> str:
    """Returns a hex SHA-256 of a set of documents that does not depend on their order.

    It covers id, text, source, corpus and count: what training sees. Level and kind are known for
    evaluation only and stay out.
    """
    digests = sorted(
        _sha256(repr((d.id, d.text, d.source, d.corpus, d.count))).digest() for d in documents
    )
    return hashlib.sha256(b"".join(digests)).hexdigest()
