"""What a file is: the one place that decides it, from its name and its first bytes."""

import dataclasses
import os
import shlex
import stat

from dr_keras.data.formats import compression as compressions
from dr_keras.data.formats import first_bytes, names, reading
from dr_keras.errors import DataError

# Kind -> where gin says which of a record's fields is the text.
TEXT_SETTINGS = {
    "jsonl": "jsonl_corpus.text_field",
    "parquet": "parquet_corpus.text_column",
    "tfrecord": "tfrecord_corpus.feature",
}

# What is neither file nor folder, in words.
SPECIAL = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}

_HEAD = 1 << 16
_SAY_WHAT = (
    "name it .jsonl, .parquet, .tfrecord or .txt, whichever it is (.gz, .bz2 or .zst may follow),"
    " or say it in gin, as in text_corpus.path = '...' or jsonl_corpus.path = '...'"
)
_DECOMPRESS = {"gzip": "gzip -dc", "bz2": "bzip2 -dc", "zstd": "zstd -dc"}


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


def what_is(path: str, text_suffixes: tuple[str, ...] = names.TEXT) -> FileKind:
    """Returns what a file is. Only a name makes it text: what nothing is known about is not read.

    Args:
      path: a file.
      text_suffixes: how the names of text files end.

    Raises:
      DataError: the file cannot be read, or is something else than its name says.
    """
    if reason := irregular(path):
        return FileKind(None, "", reason, "name a file")
    named = names.kind_by_name(path, text_suffixes)
    if refused := names.unsupported(path, named):
        return FileKind(None, "", *refused)
    reading.check_name(path)
    stored = reading.head(path, _HEAD)
    compression = _compression(path, stored)
    content = _content(path, stored, compression)
    seen, description = first_bytes.kind_by_content(content)
    if named == "text" and first_bytes.is_text(content):
        seen, description = None, ""  # text may begin with any letters
    if named and (description or seen not in (None, named)):
        raise DataError(
            f"{reading.shown(path)}: named as {named}, but it is {description or seen}; rename it,"
            " or fetch it again"
        )
    kind = named or seen
    if kind is None:
        return FileKind(None, compression, _unknown(content, description), _SAY_WHAT)
    if reason := _compressed_otherwise(kind, compression):
        return FileKind(None, compression, reason, "decompress it first")
    if kind == "jsonl" and (not named or names.bare(path)[0].endswith(".json")):
        reason = first_bytes.not_lines(content)
        if reason:
            return FileKind(None, compression, reason, _to_lines(path, reason, compression))
    return FileKind(kind, compression)


def refusal(path: str, found: FileKind) -> DataError:
    """The error about a file that is not read."""
    return DataError(f"{reading.shown(path)}: it is {found.reason}; {found.remedy}")


def tfrecord_compression(path: str) -> str:
    """Returns the compression of a TFRecord file; a length may look like that of other data."""
    return _compression(path, reading.head(path, compressions.HEAD_BYTES))


def _compression(path: str, stored: bytes) -> str:
    return "" if first_bytes.is_tfrecord(stored) else compressions.compression_of(path, stored)


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


def _content(path: str, stored: bytes, compression: str) -> bytes:
    """The first bytes once decompressed; none where that fails: reading will say why."""
    if not compression:
        return stored
    try:
        return next(reading.read_chunks(path, size=_HEAD), b"")
    except DataError:
        return b""


def _compressed_otherwise(kind: str, compression: str) -> str:
    if kind == "parquet" and compression:
        return f"a Parquet file inside {compression}, which is not read"
    if kind == "tfrecord" and compression not in ("", "gzip", "zlib"):
        return f"a TFRecord file compressed by {compression}; only gzip and zlib are read"
    if kind in ("jsonl", "text") and compression == "zlib":
        return "compressed by zlib, which is read in TFRecord files only"
    return ""


def _to_lines(path: str, reason: str, compression: str) -> str:
    name = shlex.quote(os.path.basename(path))
    jq = f"jq -c '{'.[]' if 'array' in reason else '.'}'"
    command = f"{_DECOMPRESS[compression]} {name} | {jq}" if compression else f"{jq} {name}"
    return f"write one object a line, as `{command} > lines.jsonl` does"


def _unknown(content: bytes, description: str) -> str:
    if description:
        return f"{description}, which is not read"
    if not content:
        return "empty, and its name says no format"
    if not first_bytes.is_text(content):
        return "binary data of a format that neither its name nor its first bytes tell"
    return f"of a format that its name does not tell (it begins with {content[:20]!r})"
