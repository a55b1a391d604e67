"""JSON Lines: one JSON object a line, its text under one field."""

import collections
from collections.abc import Iterator
import functools
import json

from dr_keras.data.corpora import base, files
from dr_keras.data.documents import Document, make_document
from dr_keras.data.formats.kinds import TEXT_SETTINGS
from dr_keras.errors import ConfigurationError
import gin

_ABSENT = object()
_REMEDY = f"set {TEXT_SETTINGS['jsonl']}"


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
    """A corpus of JSON Lines files, compressed (.gz, .bz2, .zst) or not.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      text_field: the field that holds the text, a string; "data.text" is the field "text" of the
        object under "data", and likewise for the others.
      id_field: the field of the id (string or integer; 12.0 is 12); lines without it, or None, get
        the hash of source and text.
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
    paths = files.find_files(path, "jsonl")
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
    malformed = base.Malformed(on_malformed, skipped, "jsonl")
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
    text = field_value(record, text_field)
    if text is _ABSENT:
        present = ", ".join(map(repr, list(record)[:10])) or "none"
        return malformed(f"no field {text_field!r}", place, f"its fields: {present}", _REMEDY)
    if not isinstance(text, str):
        detail = f"it is a {type(text).__name__}"
        return malformed(f"field {text_field!r} is not a string", place, detail, _REMEDY)
    identity = field_value(record, id_field) if id_field else None
    try:
        identity = base.identity_text(None if identity is _ABSENT else identity)
    except ValueError as error:
        return malformed(f"field {id_field!r} is no string or integer", place, str(error))
    source = field_value(record, source_field) if source_field else None
    if not isinstance(source, str) or not source:
        source = default_source
    if not all(map(base.is_unicode, (text, source, identity or ""))):
        return malformed("invalid Unicode", place, "a surrogate without its partner")
    return make_document(text, source, identity)


def field_value(record: dict, field: str) -> object:
    """Returns the value under a key, or under a path of keys such as "data.text", or `_ABSENT`.

    A key that is written like the path comes first.
    """
    if field in record:
        return record[field]
    value: object = record
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value
