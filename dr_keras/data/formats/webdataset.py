"""WebDataset: tar files whose members that follow each other under one name are a sample, its text
in one of them. Cut at samples where they are not compressed.

The format: https://github.com/webdataset/webdataset, "The WebDataset Format". The name of a member
is the key of its sample, up to the first dot after the last slash, and what it holds:
`images/0007.txt` and `images/0007.cls.json` are "txt" and "cls.json" of the sample `images/0007`.
"""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import json
import re
import tarfile

from dr_keras.data.corpora.base import Corpus, Malformed, check_at_least, id_in
from dr_keras.data.documents import Document, decode, is_unicode, make_document
from dr_keras.data.formats.base import Part, Record, parsed, register
from dr_keras.data.formats.framing import Content, FramedFormat
from dr_keras.data.formats.labels import labelled
from dr_keras.data.formats.listing import Paths
from dr_keras.data.formats.reading import SUFFIXES, file_compression, stem
from dr_keras.data.formats.records import file_corpus
from dr_keras.data.formats.writing import Packed
from dr_keras.errors import DataError
import gin

KEY = "__key__"  # the field that is the sample's key, as the library calls it

_BLOCK = 512
_NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)
_PAX = re.compile(rb"(\d+) ([^=]+)=")
_LONG_NAME, _PAX_OF_NEXT = tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE
_WITHOUT_CONTENT = (
    tarfile.LNKTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
    tarfile.BLKTYPE,
)  # fmt: skip
_LONGEST_HEAD = 1 << 20  # of names that do not fit into a block
_REMEDY = "set webdataset_corpus.text_field"


@gin.configurable
def webdataset_corpus(
    path: Paths,
    text_field: str = "txt",
    id_field: str | None = KEY,
    source_field: str | None = None,
    source: str | None = None,
    name: str | None = None,
    on_malformed: str = "stop",
    max_sample_bytes: int = 64 << 20,
    max_documents: int | None = None,
    group_field: str | None = None,
    label_fields: Sequence[str] | None = None,
) -> Corpus:
    """A corpus of WebDataset's tar files, compressed (.gz, .bz2, .zst) or not.

    Args:
      path: file, glob, directory, or a list of these, local or through `tf.io.gfile`.
      text_field: the member that holds the text, in UTF-8, such as "txt"; "json.text" is the field
        "text" of the object in the member "json", and likewise for the others.
      id_field: the field of the id (string or integer), or "__key__" for the sample's key; samples
        without it, or None, get the hash of source and text.
      source_field: the field of the source; samples without it, or None, get `source`.
      source: source of samples that name none; None for the name of the file.
      name: name of the corpus; None for the name of the first path.
      on_malformed: "stop" at a malformed sample with its file and number, or "skip" and count it.
        Damage to a file itself always stops.
      max_sample_bytes: a longer sample is malformed; it is not read into memory. Where no sample is
        kept whole, members that are not asked for do not count.
      max_documents: stop after so many.
      group_field: the field (string or integer) whose value documents share that must lie in one
        part, such as the page that they are versions of; samples without it are in no group.
      label_fields: fields by which a choice is audited, such as ['json.language']; for evaluation
        only. Texts, numbers and truth values count, all else is not known.

    Raises:
      DataError: a path names nothing (at once); a file is damaged or a sample malformed (when
        read).
    """
    return file_corpus("webdataset", **locals())


class WebDataset(FramedFormat):
    """Records are samples. A whole record is a sample's members as they are stored."""

    name = "webdataset"
    suffixes = (".tar",)
    unit = "sample"
    text_argument = "text_field"
    group_argument = "group_field"
    label_argument = "label_fields"
    corpus = staticmethod(webdataset_corpus)

    def begins(self, content):
        try:
            tarfile.TarInfo.frombuf(content[:_BLOCK], "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            return False
        return content[257:262] == b"ustar"

    def check(self, fields):
        check_at_least("webdataset_corpus.max_sample_bytes", fields["max_sample_bytes"])

    def read(self, part, fields, whole) -> Iterator[Record | Malformed]:
        source = fields["source"] or stem(part.path)
        limit = fields["max_sample_bytes"]
        roles = [fields[f"{role}_field"] for role in ("text", "id", "source", "group")]
        wanted = [field for field in (*roles, *(fields.get("label_fields") or ())) if field]
        with Content(part.path, part.start) as content:
            samples = _samples(
                content,
                part,
                limit,
                lambda ext: whole or any(_is_of(field, ext) for field in wanted),
            )
            for sample in samples:
                if sample.too_long:
                    detail = f"{sample.key!r} has more than max_sample_bytes = {limit}"
                    yield Malformed("sample too long", detail)
                else:
                    yield parsed(
                        _document, sample, fields, source,
                        whole=b"".join(sample.stored) if whole else None,
                    )  # fmt: skip

    def starts(self, content, path):
        return (sample.start for sample in _samples(content, Part(path), 0, lambda ext: False))

    def output(self, path, temporary, like, fields):
        compression = file_compression(like)
        final = f"{path}.tar{SUFFIXES[compression]}"
        return Packed(final, temporary, compression, end=bytes(2 * _BLOCK))


@dataclasses.dataclass
class _Sample:
    """Members that follow each other under one key.

    Attributes:
      key: of the sample.
      start: offset of its first member.
      members: what it holds -> content; None where that was not asked for.
      stored: the members with their heads, as the file has them, as far as they were asked for.
      too_long: whether there is more of it than may be in memory.
      repeated: what it holds twice, or "".
    """

    key: str
    start: int
    members: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    stored: list[bytes] = dataclasses.field(default_factory=list)
    too_long: bool = False
    repeated: str = ""


def _samples(
    content: Content, part: Part, limit: int, wanted: Callable[[str], bool]
) -> Iterator[_Sample]:
    """The samples of a part.

    Args:
      content: of its file, at its beginning.
      part: for its end, and for messages.
      limit: bytes of a sample that may be in memory.
      wanted: whether a member is read, of what its name says that it holds.

    Raises:
      DataError: the file is cut short or damaged.
    """
    sample: _Sample | None = None
    held = 0
    try:
        for start, name, head, size in _members(content, part):
            found = _NAME.fullmatch(name)
            if found is None or name.startswith("__"):
                content.pass_over(_stored(size))
                continue
            key, ext = found[1], found[2].lower()
            if sample is None or key != sample.key:
                if sample is not None:
                    yield sample
                sample, held = _Sample(key, start), 0
            sample.repeated = ext if ext in sample.members else sample.repeated
            sample.members[ext] = None
            if not wanted(ext):
                content.pass_over(_stored(size))
                continue
            held += len(head) + size
            if sample.too_long or held > limit:
                sample.too_long = True
                sample.members, sample.stored = {}, []
                content.pass_over(_stored(size))
                continue
            stored = content.read(_stored(size))
            sample.members[ext] = stored[:size]
            sample.stored += [head, stored]
    except (EOFError, tarfile.HeaderError, OSError) as error:
        raise DataError(
            f"{part.path}, byte {content.offset}: the file is cut short, damaged, or not a tar file"
            f" ({error}); write or copy it again"
        ) from error
    if sample is not None:
        yield sample


def _stored(size: int) -> int:
    """Bytes that a content of `size` takes in the file."""
    return -(-size // _BLOCK) * _BLOCK


def _members(content: Content, part: Part) -> Iterator[tuple[int, str, bytes, int]]:
    """Yields (offset, name, head, bytes) of the files in a tar file; who takes one reads or passes
    over its content.

    Raises:
      DataError: see `_samples`.
    """
    while part.end is None or content.offset < part.end:
        start, head, name, size = content.offset, b"", "", -1
        while True:
            block = content.read(_BLOCK)
            if not any(block):
                _check_rest(content, part)
                return
            found = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            head += block
            if found.type not in (_LONG_NAME, _PAX_OF_NEXT):
                break
            if found.size > _LONGEST_HEAD:
                raise EOFError("a name in it is longer than 1 MiB")
            extra = content.read(_stored(found.size))
            head += extra
            if found.type == _LONG_NAME:
                name = extra[: found.size].split(b"\0")[0].decode("utf-8", "surrogateescape")
            else:
                name, size = _pax(extra[: found.size], name, size)
        size = found.size if size < 0 else size
        if found.isreg():
            yield start, name or found.name, head, size
        elif found.type not in _WITHOUT_CONTENT:
            content.pass_over(_stored(size))


def _check_rest(content: Content, part: Part) -> None:
    """Raises DataError where more than zeros follows the end of the archive."""
    while line := content.line(_BLOCK):
        if any(line):
            raise DataError(
                f"{part.path}: a second archive, or something else, follows the end of the first at"
                f" byte {content.offset - len(line)}: unpack what was joined, or pack it again"
            )


def _pax(records: bytes, name: str, size: int) -> tuple[str, int]:
    """Name and bytes as an extended head says ("30 path=some/very/long/name\\n"), else as given.

    Raises:
      EOFError: it is damaged.
    """
    place = 0
    while match := _PAX.match(records, place):
        end = place + int(match[1])
        value = records[match.end() : end - 1]
        if end <= match.end() or (match[2] == b"size" and not value.isdigit()):
            raise EOFError("an extended head is no such thing")
        if match[2] == b"path":
            name = value.decode("utf-8", "surrogateescape")
        elif match[2] == b"size":
            size = int(value)
        place = end
    return name, size


def _is_of(field: str, ext: str) -> bool:
    """Whether a member may be needed for a field."""
    return field == ext or field.startswith(f"{ext}.")


def _document(sample: _Sample, fields: dict, default_source: str) -> Document:
    if sample.repeated:
        detail = f"of the sample {sample.key!r}"
        raise Malformed(f"two members {sample.repeated!r}", detail, "name them otherwise")
    text_field, objects = fields["text_field"], {}
    text = _value(sample, text_field, objects)
    if text is None:
        members = ", ".join(map(repr, list(sample.members)[:10]))
        detail = f"the members of {sample.key!r}: {members}"
        raise Malformed(f"no field {text_field!r}", detail, _REMEDY)
    if not isinstance(text, str):
        detail = f"of the sample {sample.key!r}: it is a {type(text).__name__}"
        raise Malformed(f"field {text_field!r} is not a string", detail, _REMEDY)
    identity, group = (
        id_in(_value(sample, field, objects), field)
        for field in (fields["id_field"], fields["group_field"])
    )
    source = _value(sample, fields["source_field"], objects)
    if not isinstance(source, str) or not source:
        source = default_source
    if not all(map(is_unicode, (text, source, identity or "", group or ""))):
        raise Malformed("invalid Unicode", f"in the sample {sample.key!r}")
    document = make_document(text, source, identity, group or "")
    return labelled(
        document, fields.get("label_fields"), lambda name: _value(sample, name, objects)
    )


def _value(sample: _Sample, field: str | None, objects: dict[str, object]) -> object:
    """What a field holds: the text of a member, or a value in a member of JSON; None for nothing.

    `objects` keeps the members that were parsed.
    """
    if not field:
        return None
    if field == KEY:
        return sample.key
    member = sample.members.get(field)
    if member is not None:
        try:
            return decode(member)
        except UnicodeDecodeError as error:
            detail = f"{field!r} of the sample {sample.key!r}: {error}"
            raise Malformed("invalid UTF-8", detail) from error
    keys = field.split(".")
    for count in range(len(keys) - 1, 0, -1):
        ext = ".".join(keys[:count])
        if sample.members.get(ext) is not None:
            value = _parsed(sample, ext, objects)
            for key in keys[count:]:
                value = value.get(key) if isinstance(value, dict) else None
            return value
    return None


def _parsed(sample: _Sample, ext: str, objects: dict[str, object]) -> object:
    if ext not in objects:
        try:
            objects[ext] = json.loads(decode(sample.members[ext] or b""))
        except (ValueError, RecursionError) as error:
            detail = f"{ext!r} of the sample {sample.key!r}: {error}"
            raise Malformed("a member is not JSON", detail) from error
    return objects[ext]


register(WebDataset())
