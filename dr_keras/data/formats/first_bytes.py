"""What data is, as far as its first bytes tell."""

import codecs
import json
import struct

_MAGIC = (  # what a file of another format begins with
    (b"PARE", "encrypted Parquet"),
    (b"ARROW1", "an Arrow file"),
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
    (b"WARC/", "a web archive"),
)


def kind_by_content(content: bytes) -> tuple[str | None, str]:
    """Returns (kind, "") or (None, what else it is), or (None, "") where nothing can be told."""
    if content.startswith(b"PAR1"):
        return "parquet", ""
    if is_tfrecord(content):
        return "tfrecord", ""
    for magic, description in _MAGIC:
        if content.startswith(magic):
            return None, description
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith(b"[") and start[1:].lstrip().startswith(b"{") or _begins_object(start):
        return "jsonl", ""
    return None, ""


def _begins_object(start: bytes) -> bool:
    """Whether data begins as a JSON object does, and is none of the many others with a brace."""
    if not start.startswith(b"{"):
        return False
    inner = start[1:].lstrip()
    return not inner or inner[:1] in (b'"', b"}")


def not_lines(content: bytes) -> str:
    """Returns what JSON is that does not have one object a line, or ""."""
    start = content.removeprefix(b"\xef\xbb\xbf").lstrip()
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


def is_text(content: bytes) -> bool:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(content)  # its end may be cut
    except UnicodeDecodeError:
        return False
    return "\0" not in text


def is_tfrecord(content: bytes) -> bool:
    """Whether data begins with a TFRecord: a length and the masked CRC-32C of these 8 bytes."""
    if len(content) < 12:
        return False
    crc = 0xFFFFFFFF
    for byte in content[:8]:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    return struct.pack("<I", masked) == content[8:12]
