"""What the name of a file says: its format, its compression, whether it is one of many shards."""

import os
import re

RECORDS = {
    "jsonl": (".jsonl", ".ndjson", ".jsonlines", ".jl", ".json"),
    "parquet": (".parquet", ".pq"),
    "tfrecord": (".tfrecord", ".tfrecords", ".tfrec"),
}
TEXT = (".txt", ".text", ".md", ".rst")
COMPRESSIONS = {
    ".gz": "gzip", ".gzip": "gzip", ".bz2": "bz2", ".zst": "zstd", ".zstd": "zstd", ".zlib": "zlib",
}  # fmt: skip

# "-00000-of-01024" (TensorFlow, Beam), ".part-00001", "_0007", ".part1" (split, Spark, downloads)
_SHARD = re.compile(r"(?:[-_.](?:part|shard|chunk|split)|[-_.])[-_.]?\d+(?:[-_]of[-_]\d+)?$")

_TABLE = (
    "a table of separated values",
    "convert it to JSON lines, as pandas.read_csv(...).to_json(..., orient='records', lines=True)"
    " does",
)
_ARROW = ("an Arrow file", "convert it to Parquet, as datasets.Dataset.to_parquet(...) does")
_MARKUP = ("a document with markup", "take its text out, into JSON lines or .txt files")
_WEB = ("a web archive", "take the text out of its pages, into JSON lines")
_ARCHIVE = ("an archive", "unpack it")
_PACKED = ("compressed in a way that is not read", "decompress it, or use gzip, bz2 or zstd")
_BINARY = ("a binary format that is not read", "convert it to JSON lines or Parquet")
COMPANION = ("no data but a file that goes with data", "name the data instead")
UNSUPPORTED = {
    **dict.fromkeys((".csv", ".tsv"), _TABLE),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), _ARROW),
    **dict.fromkeys((".warc", ".wet", ".wat", ".arc"), _WEB),
    **dict.fromkeys(
        (".pdf", ".docx", ".doc", ".odt", ".rtf", ".epub", ".html", ".htm", ".xhtml", ".xml"),
        _MARKUP,
    ),
    **dict.fromkeys((".zip", ".tar", ".tgz", ".tbz", ".tbz2", ".7z", ".rar"), _ARCHIVE),
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


def bare(path: str) -> tuple[str, str]:
    """Returns (name in lower case without what says shard and compression, that compression).

    "c4-train.json-00000-of-01024.GZ" gives ("c4-train.json", "gzip"); "" for no compression.
    """
    name, compression = os.path.basename(path).lower(), ""
    while True:
        stem, suffix = os.path.splitext(name)
        if suffix in COMPRESSIONS and not compression and stem:
            name, compression = stem, COMPRESSIONS[suffix]
            continue
        shorter = _SHARD.sub("", name)
        if shorter == name or not shorter:
            return name, compression
        name = shorter


def kind_by_name(path: str, text_suffixes: tuple[str, ...] = TEXT) -> str | None:
    """Returns "jsonl", "parquet", "tfrecord", "text", or None for a name that says none of them."""
    name, _ = bare(path)
    for kind, suffixes in (("text", tuple(text_suffixes)), *RECORDS.items()):
        if name.endswith(suffixes):
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
