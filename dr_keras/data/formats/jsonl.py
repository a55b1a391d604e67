"""JSON Lines: one JSON object a line, its text under one field. Cut into ranges of bytes."""

from collections.abc import Iterator, Mapping, Sequence
import dataclasses
import json
import os
import shlex

from dr_keras.data.conversations import check_conversation, conversation_text
from dr_keras.data.corpora.base import Corpus, LeftOut, Malformed, check_at_least, id_in, is_one_of
from dr_keras.data.documents import Document, decode, is_unicode, make_document
from dr_keras.data.formats.base import LineFormat, Record, parsed, register
from dr_keras.data.formats.kinds import bare
from dr_keras.data.formats.labels import labelled
from dr_keras.data.formats.levels import Levels, check_levels, known_level
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import read_lines, stem
from dr_keras.data.formats.records import file_corpus
import gin

_ABSENT = object()
_REMEDY = "set jsonl_corpus.text_field"
_DECOMPRESS = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "zstd": "zstd -dc"}
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@gin.configurable
def jsonl_corpus(
    path: Paths,
    text_field: str = "text",
    id_field: str | None = "id",
    source_field: str | None = "source",
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_line_bytes: int = 8 << 20,
    max_documents: int | None = None,
    group_field: str | None = None,
    only: Mapping[str, str | int | float | bool | Sequence] | None = None,
    level_field: str | None = None,
    levels: Levels | None = None,
    label_fields: Sequence[str] | None = None,
    conversation: Mapping | None = None,
) -> Corpus:
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
      group_field: the field (string or integer) whose value documents share that must lie in one
        part, such as the page that they are versions of; lines without it are in no group.
      only: field -> the value, or the list of values, that a line must have there, such as
        {'kind': 'clean'}; others are left out and counted.
      level_field: the field that says how bad a text is known to be, such as an error rate; for
        evaluation only. Lines without it are of unknown level.
      levels: the values that mean clean and as bad as can be, in this order ((100, 0) of a score of
        which more is better), None for 0 and 1; or value -> level, {'clean': 0.0, 'raw': 1.0}.
      label_fields: fields by which a choice is audited, such as ['language', 'licence']; for
        evaluation only. Texts, numbers and truth values count, all else is not known.
      conversation: @conversation(), which says under which fields prompts and responses are: they
        are then read in place of `text_field`, and models learn the responses alone.

    Raises:
      DataError: a path names nothing (at once); a line is malformed (when read).
    """
    if levels is not None and not isinstance(levels, Mapping):
        levels = list(levels)  # as it is read again where jobs wrote down how a corpus was read
    return file_corpus("jsonl", **locals())


class Jsonl(LineFormat):
    """JSON Lines."""

    name = "jsonl"
    suffixes = (".jsonl", ".ndjson", ".jsonlines", ".jl", ".json")
    text_argument = "text_field"
    group_argument = "group_field"
    label_argument = "label_fields"
    corpus = staticmethod(jsonl_corpus)

    def begins(self, content):
        start = content.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if start.startswith(b"["):
            return start[1:].lstrip().startswith(b"{")
        # an object, and none of the many other things that begin with a brace
        inner = start[1:].lstrip()
        return start.startswith(b"{") and (not inner or inner[:1] in (b'"', b"}"))

    def refused(self, path, named, content, compression):
        refused = super().refused(path, named, content, compression)
        if refused is None and (not named or bare(path)[0].endswith(".json")):
            if reason := _not_lines(content):
                return reason, _to_lines(path, reason, compression)
        return refused

    def check(self, fields):
        check_at_least("jsonl_corpus.max_line_bytes", fields["max_line_bytes"])
        if fields["levels"] is not None:
            check_levels("jsonl_corpus.levels", fields["levels"])
        if fields.get("conversation") is not None:
            check_conversation("jsonl_corpus.conversation", fields["conversation"])

    def read(self, part, fields, whole) -> Iterator[Record | Malformed | None]:
        source = fields["source"] or stem(part.path)
        limit = fields["max_line_bytes"]
        for _, line in read_lines(part.path, limit, part.start, part.end):
            if line is None:
                yield Malformed("line too long", f"more than max_line_bytes = {limit}")
            elif not line.strip():
                yield None  # no record: files often end in a blank line
            else:
                yield parsed(_document, line, fields, source, whole=line if whole else None)


def _document(line: bytes, fields: dict, default_source: str) -> Document:
    id_field = fields["id_field"]
    try:
        record = json.loads(decode(line))
    except UnicodeDecodeError as error:
        raise Malformed("invalid UTF-8", f"byte {error.start + 1} of the line") from error
    except (ValueError, RecursionError) as error:
        raise Malformed("not JSON", str(error)) from error
    if not isinstance(record, dict):
        raise Malformed("not a JSON object", f"it is a {type(record).__name__}")
    for field, wanted in (fields.get("only") or {}).items():
        if not is_one_of(_value(record, field), wanted):
            raise LeftOut(f"{field!r} is not {wanted!r}")
    text, turns = _text(record, fields)
    identity = id_in(_known(record, id_field), id_field)
    source = _value(record, fields["source_field"])
    if not isinstance(source, str) or not source:
        source = default_source
    group_field = fields["group_field"]
    group = id_in(_known(record, group_field), group_field) or ""
    if not all(map(is_unicode, (text, source, identity or "", group))):
        raise Malformed("invalid Unicode", "a surrogate without its partner")
    document = make_document(text, source, identity, group)
    document = labelled(document, fields.get("label_fields"), lambda name: _known(record, name))
    if turns is not None:
        document = dataclasses.replace(document, turns=turns)
    return _with_level(document, record, fields) if fields["level_field"] else document


def _text(record: dict, fields: dict) -> tuple[str, tuple[int, ...] | None]:
    """The text of a record, and its turns where it is a conversation."""
    if fields.get("conversation") is not None:
        return conversation_text(record, fields["conversation"], _known)
    text_field = fields["text_field"]
    text = _value(record, text_field)
    if text is _ABSENT:
        present = ", ".join(map(repr, list(record)[:10])) or "none"
        raise Malformed(f"no field {text_field!r}", f"its fields: {present}", _REMEDY)
    if not isinstance(text, str):
        detail = f"it is a {type(text).__name__}"
        raise Malformed(f"field {text_field!r} is not a string", detail, _REMEDY)
    return text, None


def _with_level(document: Document, record: dict, fields: dict) -> Document:
    field = fields["level_field"]
    try:
        level, damage = known_level(_known(record, field), fields["levels"] or (0, 1))
    except ValueError as error:
        raise Malformed(f"field {field!r} is no number", str(error)) from error
    return dataclasses.replace(document, level=level, damage=damage)


def _value(record: dict, field: str | None) -> object:
    """The value under a key, or under a path of keys such as "data.text", or `_ABSENT`.

    A key that is written like the path comes first.
    """
    if not field:
        return _ABSENT
    if field in record:
        return record[field]
    value: object = record
    for key in field.split("."):
        if not isinstance(value, dict) or key not in value:
            return _ABSENT
        value = value[key]
    return value


def _known(record: dict, field: str | None) -> object:
    """`_value`, None where there is none."""
    value = _value(record, field)
    return None if value is _ABSENT else value


def _not_lines(content: bytes) -> str:
    """What JSON is that does not have one object a line, or ""."""
    start = content.removeprefix(_BYTE_ORDER_MARK).lstrip()
    if start.startswith(b"["):
        return "one JSON array, which is no JSON lines"
    line, _, rest = start.partition(b"\n")
    if not rest.strip() or not start.startswith(b"{"):
        return ""
    text = start.decode("utf-8", "replace")
    try:
        json.loads(line)
        return ""
    except (ValueError, RecursionError):
        pass
    try:
        _, end = json.JSONDecoder().raw_decode(text)
    except json.JSONDecodeError as error:
        end = error.pos
    except RecursionError:
        return ""
    # what is read on beyond the first line is an object of several
    return "one JSON object over several lines" if text.find("\n") < end else ""


def _to_lines(path: str, reason: str, compression: str) -> str:
    name = shlex.quote(os.path.basename(path))
    jq = f"jq -c '{'.[]' if 'array' in reason else '.'}'"
    command = f"{_DECOMPRESS[compression]} {name} | {jq}" if compression else f"{jq} {name}"
    return f"write one object a line, as `{command} > lines.jsonl` does"


register(Jsonl())
