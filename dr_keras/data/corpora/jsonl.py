"""JSON Lines: one JSON object a line, its text under one field."""

import collections
import functools
import json
from collections.abc import Iterator

import gin

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document, make_document
from dr_keras.errors import ConfigurationError

SUFFIXES = (".jsonl", ".ndjson")


@gin.configurable
def jsonl_corpus(
    path: files.Paths,
    text_field: str = "text",
    id_field: str | None = "id",
    source_field: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_line_bytes: int = 8 << 20,
    max_documents: int | None = None,
) -> base.Corpus:
    """A corpus of JSON Lines files, compressed (.gz) or not.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      text_field: the field that holds the text, a string.
      id_field: the field of the id (string or integer); lines without it, or None, get the hash
        of source and text.
      source_field: the field of the source; lines without it, or None, get `source`.
      source: source of lines that name none; None for the name of the file.
      name: name of the corpus; None for the name of the first path.
      on_malformed: "stop" at a malformed line with its file and number, or "skip" and count it.
      max_line_bytes: a longer line is malformed; it is not read into memory.
      max_documents: stop after so many.

    Raises:
      DataError: a path names nothing (at once); a line is malformed (when read).
    """
    base.check_choice("jsonl_corpus.on_malformed", on_malformed, base.ON_MALFORMED)
    if max_line_bytes < 1:
        raise ConfigurationError(
            f"jsonl_corpus.max_line_bytes must be at least 1, not {max_line_bytes}"
        )
    paths = files.find_files(path, SUFFIXES)
    fields = (text_field, id_field, source_field)
    read = functools.partial(_read, paths, fields, source, on_malformed, max_line_bytes)
    settings = {"kind": "jsonl", "paths": paths, "text_field": text_field}
    return base.Corpus(name or files.default_name(path), read, settings, max_documents)


def _read(
    paths: list[str],
    fields: tuple[str, str | None, str | None],
    source: str | None,
    on_malformed: str,
    max_line_bytes: int,
    skipped: collections.Counter,
) -> Iterator[Document]:
    malformed = base.Malformed(on_malformed, skipped)
    for path in paths:
        default_source = source or files.stem(path)
        for number, line in files.read_lines(path, max_line_bytes):
            place = f"{path}, line {number}"
            if line is None:
                detail = f"more than max_line_bytes = {max_line_bytes}"
                malformed("line too long", place, detail)
                continue
            if not line.strip():
                continue  # a blank line is no record: files often end in one
            try:
                record = json.loads(base.decode(line))
            except UnicodeDecodeError as error:
                malformed("invalid UTF-8", place, f"byte {error.start + 1} of the line")
                continue
            except (ValueError, RecursionError) as error:
                malformed("not JSON", place, str(error))
                continue
            document = read_document(record, fields, default_source, place, malformed)
            if document is not None:
                yield document


def read_document(
    record: object,
    fields: tuple[str, str | None, str | None],
    default_source: str,
    place: str,
    malformed: base.Malformed,
) -> Document | None:
    text_field, id_field, source_field = fields
    if not isinstance(record, dict):
        return malformed("not a JSON object", place, f"it is a {type(record).__name__}")
    if text_field not in record:
        present = ", ".join(map(repr, list(record)[:10])) or "none"
        return malformed(f"no field {text_field!r}", place, f"its fields: {present}")
    text = record[text_field]
    if not isinstance(text, str):
        detail = f"it is a {type(text).__name__}"
        return malformed(f"field {text_field!r} is not a string", place, detail)
    identity = record.get(id_field) if id_field else None
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        detail = f"it is a {type(identity).__name__}"
        return malformed(f"field {id_field!r} is no string or integer", place, detail)
    source = record.get(source_field) if source_field else None
    if not isinstance(source, str) or not source:
        source = default_source
    identity = None if identity in (None, "") else str(identity)
    if not base.is_unicode(text + source + (identity or "")):
        return malformed("invalid Unicode", place, "a surrogate without its partner")
    return make_document(text, source, identity)
