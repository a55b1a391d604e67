"""Records that are serialized `tf.train.Example`s, whatever the files are that hold them."""

import abc
from collections.abc import Iterator
from typing import Any

from google.protobuf.message import DecodeError
import tensorflow as tf

from dr_keras.data.corpora.base import Malformed, decoded_document
from dr_keras.data.documents import Document
from dr_keras.data.formats.base import Format, Part, Record, parsed
from dr_keras.data.formats.labels import labelled
from dr_keras.data.formats.reading import stem
from dr_keras.data.formats.writing import Output

_ROLES = ("feature", "id_feature", "source_feature", "group_feature")


class ExampleFormat(Format):
    """A format of serialized tf.train.Examples, which are its whole records."""

    unit = "record"
    text_argument = "feature"
    group_argument = "group_feature"
    label_argument = "label_features"

    @abc.abstractmethod
    def stored(self, part: Part, fields: dict[str, Any]) -> Iterator[bytes]:
        """The records of a part; DataError where the file is damaged."""

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        source, corpus = fields["source"] or stem(part.path), f"{self.name}_corpus"
        for record in self.stored(part, fields):
            yield parsed(
                example_document, record, fields, source, corpus, whole=record if whole else None
            )


class ExampleOutput(Output):
    """Serialized tf.train.Examples, which a library's writer takes.

    Args:
      final, temporary: see `Output`.

    Attributes:
      writer: has `write`; a subclass opens it at `path`.
    """

    writer: Any

    def write(self, whole: bytes) -> None:
        self.writer.write(whole)
        self.records += 1

    def close(self) -> None:
        self.writer.close()


def example_document(
    record: bytes, fields: dict[str, Any], default_source: str, corpus: str
) -> Document:
    """The document in a record.

    Args:
      record: a serialized tf.train.Example.
      fields: the arguments of the corpus, as `Format.read` has them.
      default_source: of records that name none.
      corpus: what gin calls the corpus, for messages.

    Raises:
      Malformed: it is none, or its features do not fit.
    """
    remedy = f"set {corpus}.feature"
    try:
        found = tf.train.Example.FromString(record).features.feature
    except DecodeError as error:
        raise Malformed("not a tf.train.Example") from error
    values = []
    for argument in _ROLES:
        name = fields[argument]
        kind = found[name].WhichOneof("kind") if name and name in found else None
        values.append(list(getattr(found[name], kind).value) if kind else [])
    texts, ids, sources, groups = values
    if not texts:
        present = ", ".join(sorted(map(repr, found))[:10]) or "none"
        reason = f"no feature {fields['feature']!r}"
        raise Malformed(reason, f"its features: {present}", remedy)
    if len(texts) > 1 or not isinstance(texts[0], bytes):
        detail = f"{len(texts)} x {type(texts[0]).__name__}"
        reason = f"feature {fields['feature']!r} is not one byte string"
        raise Malformed(reason, detail, remedy)
    if len(ids) > 1 or (ids and isinstance(ids[0], float)):
        id_feature = fields["id_feature"]
        raise Malformed(f"feature {id_feature!r} is not one byte string or integer")
    if len(groups) > 1 or (groups and isinstance(groups[0], float)):
        group_feature = fields["group_feature"]
        raise Malformed(f"feature {group_feature!r} is not one byte string or integer")
    named = len(sources) == 1 and isinstance(sources[0], bytes) and sources[0]
    identity, group = (found[0] if found else None for found in (ids, groups))
    document = decoded_document(texts[0], identity, named or default_source, group)
    return labelled(document, fields.get("label_features"), lambda name: _single(found, name))


def _single(found, name: str) -> object:
    """The only value of a feature; None where there is none, or several."""
    kind = found[name].WhichOneof("kind") if name in found else None
    values = getattr(found[name], kind).value if kind else ()
    return values[0] if len(values) == 1 else None
