"""Writing files through `tf.io.gfile`, compressed or not, and outputs that are whole or absent."""

import bz2
import gzip
import io
import json
import os
from typing import Any
import uuid

import pyarrow
import tensorflow as tf


class GFileWriter(io.RawIOBase):
    """A new file of `tf.io.gfile` as what other libraries expect of a Python file, to write to."""

    def __init__(self, path: str):
        super().__init__()
        self._file = tf.io.gfile.GFile(path, "wb")
        self._file.write(b"")  # makes the file, which GFile otherwise puts off
        self._written = 0

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        data = bytes(data)
        self._file.write(data)
        self._written += len(data)
        return len(data)

    def tell(self) -> int:
        return self._written

    def close(self) -> None:
        if self.closed:
            return
        try:
            self._file.close()
        finally:  # else it is closed, and fails, once more when it is collected
            super().close()


def compressed_writer(raw: Any, compression: str) -> Any:
    """Returns a file whose `write` compresses into `raw`; the same writes give the same bytes.

    Args:
      raw: a binary file, to be closed after what is returned (which may be `raw`).
      compression: one of `reading.READABLE`.
    """
    if compression == "gzip":  # no time and no name, which would differ
        return gzip.GzipFile("", "wb", fileobj=raw, mtime=0)
    if compression == "bz2":
        return bz2.BZ2File(raw, "wb")
    if compression == "zstd":
        return pyarrow.CompressedOutputStream(pyarrow.PythonFile(raw, "w"), "zstd")
    return raw


class Output:
    """A file that is being written.

    Args:
      final: what it is to be called.
      temporary: the folder it lies in until then, on the same file system.
    """

    def __init__(self, final: str, temporary: str):
        self.final = final
        self.records = 0
        self.path = os.path.join(temporary, f"{uuid.uuid4().hex[:12]}-{os.path.basename(final)}")

    def write(self, whole) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def publish(self) -> dict:
        """Renames the closed file; returns its facts."""
        size = int(tf.io.gfile.stat(self.path).length)
        tf.io.gfile.rename(self.path, self.final, overwrite=True)
        return {"records": self.records, "bytes": size}


class Packed(Output):
    """Bytes one after the other, compressed by one of `reading.READABLE`.

    Args:
      final, temporary, compression: see `Output` and `compressed_writer`.
      end: what follows the last of them.
      apart: whether each is compressed by itself, so that it can be read without the others.
    """

    def __init__(
        self,
        final: str,
        temporary: str,
        compression: str = "",
        end: bytes = b"",
        apart: bool = False,
    ):
        super().__init__(final, temporary)
        self._apart = compression if apart else ""
        self._raw = GFileWriter(self.path)
        self._file = compressed_writer(self._raw, "" if apart else compression)
        self._end = end

    def write(self, whole: bytes) -> None:
        if self._apart:
            packed = io.BytesIO()
            with compressed_writer(packed, self._apart) as file:
                file.write(whole)
            whole = packed.getvalue()
        self._file.write(whole)
        self.records += 1

    def close(self) -> None:
        end, self._end = self._end, b""
        if end:
            self._file.write(end)
        if self._file is not self._raw:
            self._file.close()
        self._raw.close()


class Lines(Packed):
    """Lines of bytes."""

    def write(self, whole: bytes) -> None:
        super().write(whole + b"\n")

    def write_json(self, record: dict) -> None:
        self.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "replace"))
