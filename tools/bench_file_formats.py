#!/usr/bin/env python3
"""Measures how fast files of each format are read, and kept records written.

    tools/bench_file_formats.py --megabytes 8 --repeats 3

One JSON line a case: megabytes of the file, and megabytes of text a CPU second (median) of going
over its records as `filter-corpus` does, with their documents, and of writing every second one.
The text is the prose of the Python installation, over and over. A format whose library is not
installed is named and left out. Web pages are the texts as paragraphs between a menu and a footer.
"""

import argparse
import html
import io
import itertools
import json
import os
from pathlib import Path
import statistics
import sys
import tarfile
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.corpora.embedded import embedded_corpus
from dr_keras.data.documents import Document, utf8_size
from dr_keras.data.formats.base import FORMATS, Part, Record
from dr_keras.data.formats.records import default_fields, read_records
from dr_keras.data.formats.writing import compressed_writer
from dr_keras.errors import ConfigurationError

PAGE = (
    "<html><head><title>{}</title></head><body><nav><a href='/'>Home</a></nav><main>{}</main>"
    "<footer>Imprint</footer></body></html>"
)


def row(document: Document) -> dict[str, str]:
    return {"id": document.id, "source": document.source, "text": document.text}


def example(document: Document) -> bytes:
    features = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))
        for name, value in row(document).items()
    }
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def jsonl(path, documents):
    Path(path).write_text("".join(json.dumps(row(document)) + "\n" for document in documents))


def parquet(path, documents):
    pyarrow.parquet.write_table(pa.Table.from_pylist(list(map(row, documents))), path)


def arrow(path, documents):
    table = pa.Table.from_pylist(list(map(row, documents)))
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=1000)


def tfrecord(path, documents):
    with tf.io.TFRecordWriter(path) as writer:
        for document in documents:
            writer.write(example(document))


def array_record(path, documents):
    from array_record.python.array_record_module import ArrayRecordWriter

    writer = ArrayRecordWriter(path, "group_size:1")
    for document in documents:
        writer.write(example(document))
    writer.close()


def webdataset(path, documents):
    with tarfile.open(path, "w") as tar:
        for number, document in enumerate(documents):
            info = tarfile.TarInfo(f"{number:08d}.txt")
            info.size = len(document.text.encode())
            tar.addfile(info, io.BytesIO(document.text.encode()))


def warc(path, documents):
    with open(path, "wb") as file:
        for document in documents:
            if path.endswith(".wet"):
                kind, about, block = "conversion", "", document.text.encode()
            else:
                paragraphs = html.escape(document.text).split("\n\n")
                page = PAGE.format(document.id, "".join(f"<p>{each}</p>" for each in paragraphs))
                block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page.encode()
                kind, about = "response", "Content-Type: application/http\r\n"
            head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <{document.id}>\r\n{about}"
            file.write(f"{head}Content-Length: {len(block)}\r\n\r\n".encode() + block + b"\r\n\r\n")


WRITERS = {
    ".jsonl": jsonl, ".parquet": parquet, ".arrow": arrow, ".tfrecord": tfrecord,
    ".array_record": array_record, ".tar": webdataset, ".wet": warc, ".warc": warc,
}  # fmt: skip
CASES = (
    ("jsonl", ".jsonl", "", {}), ("jsonl", ".jsonl", "gzip", {}), ("parquet", ".parquet", "", {}),
    ("arrow", ".arrow", "", {}), ("tfrecord", ".tfrecord", "", {}),
    ("array_record", ".array_record", "", {}), ("webdataset", ".tar", "", {}),
    ("webdataset", ".tar", "gzip", {}), ("warc", ".wet", "", {}), ("warc", ".wet", "gzip", {}),
    ("warc", ".warc", "", {"extract": "whole"}), ("warc", ".warc", "", {"extract": "resiliparse"}),
    ("warc", ".warc", "", {"extract": "trafilatura"}),
)  # fmt: skip


def pack(path: str, compression: str) -> str:
    """Compresses a file; returns the name of the other."""
    if not compression:
        return path
    with open(f"{path}.gz", "wb") as raw, compressed_writer(raw, compression) as file:
        file.write(Path(path).read_bytes())
    return f"{path}.gz"


def measure(kind: str, path: str, settings: dict, folder: str) -> tuple[float, float]:
    """CPU seconds of reading all records, and of writing every second one."""
    fields = {**default_fields(kind), **settings}
    begun = time.process_time()
    records = [r for r in read_records(FORMATS[kind], Part(path), fields) if isinstance(r, Record)]
    read = time.process_time()
    output = FORMATS[kind].output(os.path.join(folder, "kept"), folder, path, fields)
    for record in records[::2]:
        output.write(record.whole)
    output.close()
    return read - begun, time.process_time() - read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=8)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    documents, size = [], 0
    prose = list(embedded_corpus().documents())
    for number, document in enumerate(itertools.cycle(prose)):
        if size >= arguments.megabytes * 1e6:
            break
        documents.append(Document(f"d{number}", document.text, document.source, document.key))
        size += utf8_size(document.text)
    with tempfile.TemporaryDirectory() as folder:
        for kind, suffix, compression, settings in CASES:
            path = os.path.join(folder, f"made{suffix}")
            try:
                WRITERS[suffix](path, documents)
                path = pack(path, compression)
                times = [measure(kind, path, settings, folder) for _ in range(arguments.repeats)]
            except (ImportError, ConfigurationError) as error:
                print(json.dumps({"format": kind, **settings, "left_out": str(error)}), flush=True)
                continue
            reading, writing = (statistics.median(each) for each in zip(*times))
            about = {
                "format": kind, "file": suffix + ".gz" * bool(compression), **settings,
                "file_megabytes": round(os.path.getsize(path) / 1e6, 2),
                "read_megabytes_a_second": round(size / 1e6 / reading, 1),
                "kept_megabytes_a_second": round(size / 2e6 / writing, 1),
            }  # fmt: skip
            print(json.dumps(about), flush=True)


if __name__ == "__main__":
    main()
