"""Plain text files: one document a file, or one a paragraph."""

import collections
from collections.abc import Iterator, Sequence
import functools
import os

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document, make_document
from dr_keras.data.formats import names
from dr_keras.errors import ConfigurationError
import gin


@gin.configurable
def text_corpus(
    path: files.Paths,
    split_on_blank_lines: bool = False,
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_document_bytes: int = 64 << 20,
    max_documents: int | None = None,
    suffixes: Sequence[str] = names.TEXT,
) -> base.Corpus:
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
    base.check_choice("text_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    if max_document_bytes < 1:
        raise ConfigurationError(
            f"text_corpus.max_document_bytes must be at least 1, not {max_document_bytes}"
        )
    paths = files.find_files(path, "text", tuple(suffixes))
    limits = (split_on_blank_lines, max_document_bytes)
    read = functools.partial(_read, paths, source, on_malformed, *limits)
    settings = {"kind": "text", "paths": paths, "split_on_blank_lines": split_on_blank_lines}
    return base.Corpus(name or files.default_name(path), read, settings, max_documents)


def _read(
    paths: list[str],
    source: str | None,
    on_malformed: str,
    split_on_blank_lines: bool,
    max_document_bytes: int,
    skipped: collections.Counter,
) -> Iterator[Document]:
    malformed = base.Malformed(on_malformed, skipped, "text")
    for path in paths:
        folder = os.path.basename(os.path.dirname(os.path.abspath(path)))
        for start, raw in _documents(path, split_on_blank_lines, max_document_bytes):
            place = f"{path}, line {start}"
            if raw is None:
                detail = f"more than max_document_bytes = {max_document_bytes}"
                malformed("document too long", place, detail)
                continue
            try:
                text = base.decode(raw)
            except UnicodeDecodeError as error:
                line = start + raw.count(b"\n", 0, error.start)
                malformed("invalid UTF-8", f"{path}, line {line}", str(error))
                continue
            raw.clear()  # before what is done with the document: it may be a large one
            yield make_document(text, source or folder or files.stem(path))


def _documents(
    path: str, split_on_blank_lines: bool, max_bytes: int
) -> Iterator[tuple[int, bytearray | None]]:
    """Yields (number of the first line, content), or None for content that has too many bytes."""
    start, content, length = 1, bytearray(), 0
    for number, line in files.read_lines(path, max_bytes):
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
