"""Plain text files: one document a file, or one a paragraph."""

from collections.abc import Iterator, Sequence
import os

from dr_keras.data.corpora.base import Corpus, Malformed, check_at_least
from dr_keras.data.documents import Document, decode, make_document
from dr_keras.data.formats.base import Format, Record, parsed, register
from dr_keras.data.formats.kinds import TEXT
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import read_lines, stem
from dr_keras.data.formats.records import file_corpus
import gin


@gin.configurable
def text_corpus(
    path: Paths,
    split_on_blank_lines: bool = False,
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_document_bytes: int = 64 << 20,
    max_documents: int | None = None,
    suffixes: Sequence[str] = TEXT,
) -> Corpus:
    """A corpus of UTF-8 text files, compressed (.gz, .bz2, .zst) or not.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      split_on_blank_lines: blank lines end a document; otherwise a file is one document.
      source: source of all documents; None for the name of the folder a file lies in.
      name: name of the corpus; None for the name of the first path.
      on_malformed: "stop" at invalid UTF-8 or an overlong document, or "skip" it and count it.
      max_document_bytes: a longer document is malformed; it is not read into memory.
      max_documents: stop after so many.
      suffixes: how the names of the files of a directory end that are text.

    Raises:
      DataError: a path names nothing (at once); a document is malformed (when read).
    """
    return file_corpus("text", **locals())


class Text(Format):
    """Only read as a corpus: a paragraph has no id by which scores would find it again."""

    name = "text"
    suffixes = TEXT
    unit = "line"
    text_argument = "split_on_blank_lines"
    corpus = staticmethod(text_corpus)
    has_records = False

    def check(self, fields):
        check_at_least("text_corpus.max_document_bytes", fields["max_document_bytes"])

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        folder = os.path.basename(os.path.dirname(os.path.abspath(part.path)))
        source = fields["source"] or folder or stem(part.path)
        limit = fields["max_document_bytes"]
        for start, raw in _documents(part.path, fields["split_on_blank_lines"], limit):
            if raw is None:
                detail = f"more than max_document_bytes = {limit}"
                yield Malformed("document too long", detail, place=f"line {start}")
            else:
                yield parsed(_document, raw, start, source)


def _document(raw: bytearray, start: int, source: str) -> Document:
    try:
        text = decode(raw)
    except UnicodeDecodeError as error:
        line = start + raw.count(b"\n", 0, error.start)
        raise Malformed("invalid UTF-8", str(error), place=f"line {line}") from error
    raw.clear()  # before what is done with the document: it may be a large one
    return make_document(text, source)


def _documents(
    path: str, split_on_blank_lines: bool, max_bytes: int
) -> Iterator[tuple[int, bytearray | None]]:
    """Yields (number of the first line, content), or None for content that has too many bytes."""
    start, content, length = 1, bytearray(), 0
    for number, line in read_lines(path, max_bytes):
        if split_on_blank_lines and line is not None and not line.strip():
            if length:
                yield start, _without_last_newline(content)
            start, content, length = number + 1, bytearray(), 0
            continue
        length += max_bytes + 2 if line is None else len(line) + 1
        if length > max_bytes + 1:  # the end of the last line does not count
            content = None
        elif content is not None:
            content += line
            content += b"\n"
    if length or not split_on_blank_lines:  # an empty file is an empty document, and counted
        yield start, _without_last_newline(content)


def _without_last_newline(content: bytearray | None) -> bytearray | None:
    if content:
        del content[-1]
    return content


register(Text())
