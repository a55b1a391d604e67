"""Documents: the unit that corpora yield, that the split is decided on, and that ids point back to.

A document is known by two things. Its `id` is for people and files: the user's own id, else a hash
of source and text. Its `key` is for the split: a hash of the normalised content alone, so the same
text lies in the same part of a corpus whatever it is called and wherever it was found. Documents
that belong together (versions of a page, answers to a question) have a `group`, which then decides
the part in place of the content.
"""

from collections.abc import Iterable, Iterator, Sequence
import dataclasses
import hashlib
import re
import unicodedata

from dr_keras.errors import DataError

_ASCII = re.compile(r"[\x00-\x7f]")
# Characters of a text that are in memory a second time while it is hashed or encoded, and as words
# of some 60 bytes each while its white space is folded: few enough to stay in a core's cache.
_CHUNK = 1 << 16


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
      group: what it shares with documents that must lie in its part, such as the page that it is a
        version of; "" for none. Groups of one name are one group in all corpora.
      labels: (name, value) of what else is known of it, such as its language; for the audit of a
        choice and for evaluation only.
      hashed: (a text, the `content_key` of it), or None: spares hashing this document's text anew,
        and is dropped where that text is another one.
      turns: of a conversation, the lengths in characters of its prompts and responses in turn, a
        prompt first (perhaps of length 0): together those of the text. None where the text is all
        to be learned.

    Raises:
      DataError: the text is not as long as its turns.
    """

    id: str
    text: str
    source: str
    key: str
    count: int = 1
    level: float | None = None
    damage: str | None = None
    corpus: str = ""
    group: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    hashed: tuple[str, str] | None = dataclasses.field(default=None, repr=False, compare=False)
    turns: Sequence[int] | None = None

    def __post_init__(self) -> None:
        if self.turns is not None and sum(self.turns) != len(self.text):
            raise DataError(
                f"The conversation {self.id!r} (source {self.source!r}) has {sum(self.turns)}"
                f" characters in its turns and {len(self.text)} in its text: what changes or cuts"
                " texts, such as damaged_corpus, cannot be used on conversations."
            )
        if self.hashed is not None and self.hashed[0] is not self.text:
            object.__setattr__(self, "hashed", None)  # a passage must not keep its document's text

    @property
    def content_key(self) -> str:
        """Hex SHA-256 of this very text, normalised: of a passage not that of its document."""
        return content_key(self.text) if self.hashed is None else self.hashed[1]

    @property
    def split_key(self) -> str:
        """What decides the part: a hash of the group, where there is one, else `key`."""
        return split_key(self.key, self.group)


def split_key(key: str, group: str) -> str:
    """`Document.split_key` of a document with this key and group."""
    return _sha256(f"group\0{group}").hexdigest() if group else key


def _normalised_chunks(text: str) -> Iterator[str]:
    """A text in NFKC with each run of white space as one space and none at the ends.

    It comes piece by piece, so that a large text has no second copy.
    """
    written = spaced = False
    for chunk in _chunks_for_nfkc(text):
        if not chunk.isascii():  # NFKC leaves ASCII alone, and most text is ASCII
            chunk = unicodedata.normalize("NFKC", chunk)
        spaced = spaced or chunk[:1].isspace()
        # `split` takes for white space what \s does in a regular expression, and is two or three
        # times as fast.
        words = " ".join(chunk.split())
        if not words:
            continue
        yield f" {words}" if written and spaced else words
        written, spaced = True, chunk[-1].isspace()


def _chunks_for_nfkc(text: str) -> Iterator[str]:
    """Pieces whose NFKC is the NFKC of the whole: no ASCII character joins the one before it."""
    start = 0
    while found := _ASCII.search(text, start + _CHUNK):
        yield text[start : found.start()]
        start = found.start()
    yield text[start:]


def pieces(text: str) -> Iterator[str]:
    """A text in pieces of bounded length, for what would otherwise copy a large one as a whole."""
    for start in range(0, len(text), _CHUNK):
        yield text[start : start + _CHUNK]


def utf8(text: str | bytes) -> bytes:
    """UTF-8 bytes of a text. Lone surrogates, which UTF-8 cannot hold, become question marks."""
    return text if isinstance(text, bytes) else text.encode("utf-8", "replace")


def utf8_size(text: str) -> int:
    """The number of bytes of `utf8(text)`, for which a large text is not copied."""
    return len(text) if text.isascii() else sum(len(utf8(piece)) for piece in pieces(text))


def is_unicode(text: str) -> bool:
    """Whether the text can be written as UTF-8: JSON can smuggle in lone surrogates."""
    try:
        for piece in () if text.isascii() else pieces(text):
            piece.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def decode(raw: bytes | bytearray) -> str:
    """Decodes UTF-8; a byte order mark is dropped. Raises UnicodeDecodeError."""
    return raw.decode("utf-8-sig" if raw.startswith(b"\xef\xbb\xbf") else "utf-8")


def update_digest(digest: "hashlib._Hash", text: str) -> None:
    """Feeds the UTF-8 bytes of a text to a digest; lone surrogates do no harm."""
    for piece in pieces(text):
        # surrogatepass: a lone surrogate is not valid Unicode but must not make hashing fail.
        digest.update(piece.encode("utf-8", "surrogatepass"))


def _sha256(text: str) -> "hashlib._Hash":
    digest = hashlib.sha256()
    update_digest(digest, text)
    return digest


def _normalised_sha256(*digests: "hashlib._Hash", text: str) -> list[str]:
    for chunk in _normalised_chunks(text):
        encoded = chunk.encode("utf-8", "surrogatepass")
        for digest in digests:
            digest.update(encoded)
    return [digest.hexdigest() for digest in digests]


def content_key(text: str) -> str:
    """Returns the hex SHA-256 (64 digits) of the normalised text."""
    return _normalised_sha256(hashlib.sha256(), text=text)[0]


def document_id(source: str, text: str) -> str:
    """Returns the id (24 hex digits) of a document that brings none of its own."""
    return _normalised_sha256(_sha256(source + "\0"), text=text)[0][:24]


def make_document(text: str, source: str, id: str | None = None, group: str = "") -> Document:
    """Builds a document from raw text; without an `id` it gets the hash of source and text."""
    if id is None:
        digests = hashlib.sha256(), _sha256(source + "\0")
        key, id = _normalised_sha256(*digests, text=text)
        id = id[:24]
    else:
        key = content_key(text)
    return Document(id=id, text=text, source=source, key=key, group=group, hashed=(text, key))


def merge_duplicates(documents: Iterable[Document]) -> list[Document]:
    """Merges exact duplicates (after normalisation); the first one stays, with the summed count.

    Passages of one document share its key, so duplicates are those that agree in key and content.
    One that was found in several groups is of the first of them by name, whatever the order.

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
        content = (document.key, document.content_key)
        if content_of_id.setdefault(document.id, content) != content:
            raise DataError(
                f"two documents have the id {document.id!r} but different content "
                f"(source {document.source!r}); make the ids unique, or read the corpus without "
                "its id field, and ids are made from the content"
            )
        first = merged.get(content)
        if first is not None:
            group = min(filter(None, (first.group, document.group)), default="")
            document = dataclasses.replace(first, count=first.count + document.count, group=group)
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
