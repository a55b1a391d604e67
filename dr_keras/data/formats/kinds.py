"""What a file is: the one place that decides it, from its name and its first bytes."""

import codecs
import dataclasses
import os
import re
import stat

from dr_keras.data.formats import reading
from dr_keras.data.formats.base import FORMATS
from dr_keras.data.formats.reading import bare
from dr_keras.errors import DataError

TEXT = (".txt", ".text", ".md", ".rst")

# What is neither file nor folder, in words.
SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_HEAD = 1 << 16

_TABLE = (
    "a table of separated values",
    "convert it to JSON lines, as pandas.read_csv(...).to_json(..., orient='records', lines=True)"
    " does",
)
_MARKUP = ("a document with markup", "take its text out, into JSON lines or .txt files")
_WEB = ("a web archive without texts of pages, or of an old form", "name .warc or .wet files")
_ARCHIVE = ("an archive", "unpack it")
_PACKED = ("compressed in a way that is not read", "decompress it, or use gzip, bz2 or zstd")
_BINARY = ("a binary format that is not read", "convert it to JSON lines or Parquet")
COMPANION = ("no data but a file that goes with data", "name the data instead")
UNSUPPORTED = {
    **dict.fromkeys((".csv", ".tsv"), _TABLE),
    **dict.fromkeys((".wat", ".arc"), _WEB),
    **dict.fromkeys(
        (".pdf", ".docx", ".doc", ".odt", ".rtf", ".epub", ".html", ".htm", ".xhtml", ".xml"),
        _MARKUP,
    ),
    **dict.fromkeys((".zip", ".tgz", ".tbz", ".tbz2", ".7z", ".rar"), _ARCHIVE),
    **dict.fromkeys(
        (".xz", ".lzma", ".lz4", ".lz", ".snappy", ".sz", ".br", ".z", ".lzo"), _PACKED
    ),
    **dict.fromkeys(
        (".avro", ".orc", ".h5", ".hdf5", ".npy", ".npz", ".pkl", ".pickle", ".pt", ".safetensors",
         ".sqlite", ".db", ".mds", ".xls", ".xlsx", ".lance", ".index", ".idx"),
        _BINARY,
    ),
    **dict.fromkeys((".crc", ".md5", ".sha1", ".sha256", ".sha512", ".asc", ".sig"), COMPANION),
}  # fmt: skip

# Beside records, text files of such names are no data.
_COMPANIONS = re.compile(
    r"(readme|licen[cs]e|copying|notice|authors|contributing|changelog|citation|datasheet"
    r"|dataset_?card|data_?card|code_of_conduct"
    r"|checksums?|(md5|sha1|sha256|sha512)sums?)([-_.].*)?"
    r"|.*\.(md|rst)"
)
# What Spark, TensorFlow Datasets, Hugging Face Datasets and dr_keras write beside their records.
_NEVER_DATA = re.compile(
    r"_success|_started.*|_committed.*|_metadata|_common_metadata"
    r"|(dataset_infos?|features|state|dataset_dict|croissant)\.json|(.*\.)?manifest\.json"
)
_MAGIC = (  # what a file of another format begins with
    (b"PARE", "encrypted Parquet"),
    (b"FEA1", "Feather of version 1"),
    (b"Obj\x01", "Avro"),
    (b"%PDF", "a PDF"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\xfd7zXZ\x00", "compressed by xz"),
    (b"\x04\x22\x4d\x18", "compressed by lz4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a rar archive"),
    (b"\x89HDF", "HDF5"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"SQLite format 3", "a SQLite database"),
    (b"\x89PNG", "an image"),
    (b"\xff\xd8\xff", "an image"),
)


@dataclasses.dataclass(frozen=True)
class FileKind:
    """What a file is.

    Attributes:
      kind: "jsonl", "parquet", "tfrecord", "text", or None for what is not read.
      compression: "", "gzip", "bz2", "zstd" or "zlib".
      reason: what it is where that is not read.
      remedy: what to do then.
    """

    kind: str | None
    compression: str = ""
    reason: str = ""
    remedy: str = ""


def what_is(path: str, text_suffixes: tuple[str, ...] = TEXT) -> FileKind:
    """Returns what a file is. Only a name makes it text: what nothing is known about is not read.

    Args:
      path: a file.
      text_suffixes: how the names of text files end.

    Raises:
      DataError: the file cannot be read, or is something else than its name says.
    """
    if reason := irregular(path):
        return FileKind(None, "", reason, "name a file")
    named = kind_by_name(path, text_suffixes)
    if refused := unsupported(path, named):
        return FileKind(None, "", *refused)
    reading.check_name(path)
    stored = reading.head(path, _HEAD)
    plain = any(format.is_plain(stored) for format in FORMATS.values())
    compression = "" if plain else reading.compression_of(path, stored)
    content = _content(path, stored, compression)
    seen, description = _kind_by_content(content)
    if named == "text" and _is_text(content):
        seen, description = None, ""  # text may begin with any letters
    if named and (description or seen not in (None, named)):
        raise DataError(
            f"{reading.shown(path)}: named as {named}, but it is {description or seen}; rename it,"
            " or fetch it again"
        )
    kind = named or seen
    if kind is None:
        return FileKind(None, compression, _unknown(content, description), _say_what())
    refused = FORMATS[kind].refused(path, named is not None, content, compression)
    return FileKind(None, compression, *refused) if refused else FileKind(kind, compression)


def refusal(path: str, found: FileKind) -> DataError:
    """The error about a file that is not read."""
    return DataError(f"{reading.shown(path)}: it is {found.reason}; {found.remedy}")


def irregular(path: str) -> str:
    """Returns what a local path is that must never be opened: a pipe would wait for ever; or ""."""
    local = reading.local_path(path)
    if local is None or "\0" in local:
        return ""
    try:
        mode = os.stat(local).st_mode
    except FileNotFoundError:
        return "a link to nothing" if os.path.islink(local) else ""
    except OSError as error:
        return f"not to be read ({error.strerror})"
    return SPECIAL.get(stat.S_IFMT(mode), "")


def suffixes_of(text_suffixes: tuple[str, ...] = TEXT) -> dict[str, tuple[str, ...]]:
    """Kind -> how the names of its files end; those of text are the user's to choose."""
    found = {format.name: format.suffixes for format in FORMATS.values()}
    return {**found, "text": tuple(text_suffixes)}


def kind_by_name(path: str, text_suffixes: tuple[str, ...] = TEXT) -> str | None:
    """Returns the name of a format, or None for a name that says none of them."""
    name, _ = bare(path)
    suffixes = suffixes_of(text_suffixes)
    for kind in ("text", *suffixes):
        if name.endswith(suffixes[kind]):
            return kind
    return None


def unsupported(path: str, kind: str | None = None) -> tuple[str, str] | None:
    """Returns (what a file is that cannot be read, what to do), if its name says so.

    Args:
      path: a file.
      kind: see `kind_by_name`; what names a kind is refused only if it never is data.
    """
    if _NEVER_DATA.fullmatch(os.path.basename(path).lower()):
        return COMPANION
    return None if kind else UNSUPPORTED.get(os.path.splitext(bare(path)[0])[1])


def is_companion(path: str) -> bool:
    """Whether a file that holds no records goes with those that do: a README, checksums."""
    name = os.path.basename(path).lower()
    return bool(_COMPANIONS.fullmatch(name)) or unsupported(path) == COMPANION


def is_hidden(name: str) -> bool:
    """Whether folders are read without this: names that begin with a dot or an underscore."""
    return name.startswith((".", "_"))


def _content(path: str, stored: bytes, compression: str) -> bytes:
    """The first bytes once decompressed; none where that fails: reading will say why."""
    if not compression:
        return stored
    try:
        return next(reading.read_chunks(path, size=_HEAD), b"")
    except DataError:
        return b""


def _kind_by_content(content: bytes) -> tuple[str | None, str]:
    """Returns (kind, "") or (None, what else it is), or (None, "") where nothing can be told."""
    for format in FORMATS.values():
        if format.begins(content):
            return format.name, ""
    return None, next((what for magic, what in _MAGIC if content.startswith(magic)), "")


def _is_text(content: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content)  # its end may be cut
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def _unknown(content: bytes, description: str) -> str:
    if description:
        return f"{description}, which is not read"
    if not content:
        return "empty, and its name says no format"
    if not _is_text(content):
        return "binary data of a format that neither its name nor its first bytes tell"
    return f"of a format that its name does not tell (it begins with {content[:20]!r})"


def _say_what() -> str:
    records = [format for format in FORMATS.values() if format.name != "text"]
    suffixes = ", ".join(format.suffixes[0] for format in records)
    return (
        f"name it {suffixes} or .txt, whichever it is (.gz, .bz2 or .zst may follow), or say it in"
        " gin, as in text_corpus.path = '...' or jsonl_corpus.path = '...'"
    )
