"""Records of files, whatever their format: as a corpus, and one by one for jobs on files.

What cannot be read comes as a `Malformed`, and reading goes on; damage to a file as
such stops the job, because nobody knows what is lost.
"""

import collections
from collections.abc import Iterator
import inspect
import logging
from typing import Any

from dr_keras.data.corpora.base import ON_MALFORMED, Corpus, LeftOut, Malformed, check_choice
from dr_keras.data.documents import Document
from dr_keras.data.formats.base import FORMATS, Format, Part, Record
from dr_keras.data.formats.labels import check_labels
from dr_keras.data.formats.listing import Paths, default_name, find_files
from dr_keras.errors import ConfigurationError
import gin

_logger = logging.getLogger(__name__)

_UNUSED = ("path", "name", "max_documents", "only")  # where files are read whole


def file_corpus(
    kind: str,
    path: Paths,
    name: str | None,
    max_documents: int | None,
    suffixes: tuple[str, ...] | None = None,
    **fields: Any,
) -> Corpus:
    """The corpus of the files that `path` names.

    Args:
      kind: name of a format.
      path, name, max_documents: as the corpora of all formats have them.
      suffixes: how the names of its files end; None: as the format says.
      fields: see `Format.read`.

    Raises:
      ConfigurationError: a field is out of its range.
      DataError: a path names nothing (at once); a file is damaged or a record malformed (when
        read).
    """
    format = FORMATS[kind]
    _check(format, fields)
    paths = find_files(path, kind, suffixes)

    group = fields.get(format.group_argument)

    def read(skipped: collections.Counter) -> Iterator[Document]:
        grouped = False
        for each in paths:
            for item in read_records(format, Part(each), fields, whole=False):
                if isinstance(item, Malformed):
                    skipped[item.reason] += 1
                elif item is not None:
                    grouped = grouped or bool(item.document.group)
                    yield item.document
        if group and not grouped:
            setting, called = format.setting(format.group_argument), name or default_name(path)
            _logger.warning(
                "no %s of the corpus %r has the group %r (%s): every document is by itself",
                format.unit, called, group, setting,
            )  # fmt: skip

    known = (format.text_argument, format.group_argument, "only")
    said = {argument: fields[argument] for argument in known if fields.get(argument) is not None}
    settings = {"kind": kind, "paths": paths, **said}
    return Corpus(name or default_name(path), read, settings, max_documents)


def read_records(
    format: Format, part: Part, fields: dict[str, Any], whole: bool = True
) -> Iterator[Record | Malformed | None]:
    """Yields one thing for every line, record or row of a part, in order; None for a blank line.

    Args:
      format, part, fields, whole: see `Format.read`.

    Raises:
      DataError: the file is damaged, or lacks the column of the text; a record is malformed, where
        `on_malformed` is "stop".
    """
    stops = fields["on_malformed"] == "stop"
    for number, item in enumerate(format.read(part, fields, whole), 1):
        if stops and isinstance(item, Malformed) and not isinstance(item, LeftOut):
            place = item.place or f"{format.unit} {format.before(part) + number}"
            raise item.error(f"{part.path}, {place}", format.setting("on_malformed"))
        if isinstance(item, Record) and (not item.document.text or item.document.text.isspace()):
            yield Malformed("empty text", f"id {item.document.id}")
        else:
            yield item


def fields_of(kind: str) -> dict[str, Any]:
    """The arguments that say where text, id and source are: what gin binds for such a corpus
    (`jsonl_corpus.text_field`, ...), else its defaults; but `on_malformed` is "skip" if unbound,
    because files get a list of what could not be read.

    Raises:
      ConfigurationError: a setting is out of its range, or makes no sense here.
    """
    bound = gin.get_bindings(f"{kind}_corpus")
    for setting in ("max_documents", "only"):
        if bound.pop(setting, None) is not None:
            raise ConfigurationError(
                f"{kind}_corpus.{setting} is set, but files are filtered whole: leave it out, or"
                f" filter the corpus with `filter_corpus.corpus = @{kind}_corpus()` instead of"
                " --input."
            )
    for unused in _UNUSED:
        bound.pop(unused, None)
    values = {**default_fields(kind), **bound}
    _check(FORMATS[kind], values)
    return values


def default_fields(kind: str) -> dict[str, Any]:
    """What `fields_of` says where gin binds nothing."""
    parameters = inspect.signature(FORMATS[kind].corpus).parameters.values()
    values = {p.name: p.default for p in parameters if p.default is not p.empty}
    values["on_malformed"] = "skip"  # what cannot be read is listed
    return {name: value for name, value in values.items() if name not in _UNUSED}


def identifying(fields: dict[str, Any]) -> dict[str, Any]:
    """The fields by which scores and unfinished jobs are known: neither what is done about
    malformed records nor which documents belong together, nor labels, changes a text."""
    return {
        name: value
        for name, value in fields.items()
        if name != "on_malformed"
        and not name.startswith(("group_", "label_"))
        and not (name == "conversation" and value is None)  # as jobs that know no such setting
    }


def _check(format: Format, fields: dict[str, Any]) -> None:
    check_choice(format.setting("on_malformed"), fields["on_malformed"], ON_MALFORMED)
    if format.label_argument:
        check_labels(format.setting(format.label_argument), fields.get(format.label_argument))
    format.check(fields)
