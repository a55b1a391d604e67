#!/usr/bin/env python3
"""Measures the pieces that preparing a corpus is made of, each alone on one core.

    tools/bench_prepare_stages.py --input made --megabytes 30

One JSON line a stage: MB of text (10**6 bytes of UTF-8) a CPU second, or windows, and bytes that a
MB of text becomes on disk. The text is the start of a corpus of JSON Lines, such as
tools/make_corpus.py makes. Medians of --repeats runs in one process, user and system seconds; every
stage starts from what the one before it made, in memory. docs/scale.md adds them up for a corpus of
800 GB.
"""

import argparse
from collections.abc import Callable
import functools
import hashlib
import json
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time

os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np
import pyarrow
import pyarrow.parquet

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document, merge_duplicates, utf8_size
from dr_keras.data.examples import ExampleSet
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.splits import part_of
from dr_keras.data.tokenizers import Tokenizer, byte_tokenizer
from dr_keras.data.tokenizers.learn import learn_vocabulary
from dr_keras.data.windows import window_documents

_ROWS_IN_A_GROUP = 8192


class Stages:
    """Runs stages and prints what they take."""

    def __init__(self, text_bytes: int, repeats: int):
        self._bytes, self._repeats = text_bytes, repeats

    def __call__(self, name: str, work: Callable, written: int = 0, **facts):
        """What `work()` returns the last time; `written`: bytes it leaves on disk."""
        seconds = []
        for _ in range(self._repeats):
            begin = time.process_time()
            made = work()
            seconds.append(time.process_time() - begin)
        median = statistics.median(seconds)
        line = {
            "stage": name,
            "cpu_seconds": round(median, 3),
            "megabytes_a_cpu_second": round(self._bytes / 1e6 / max(median, 1e-9), 1),
        }
        if facts.get("windows"):
            line["windows_a_cpu_second"] = round(facts["windows"] / max(median, 1e-9))
        if written:
            line["bytes_written_a_byte_of_text"] = round(written / self._bytes, 3)
        print(json.dumps(line | facts), flush=True)
        return made


def start_of(path: str, text_bytes: int) -> tuple[list[bytes], list[str], int]:
    """The first lines of a corpus, their texts, and how many bytes these have."""
    files = sorted(Path(path).glob("*.jsonl")) if Path(path).is_dir() else [Path(path)]
    lines: list[bytes] = []
    texts: list[str] = []
    size = 0
    for file in files:
        with open(file, "rb") as opened:
            for line in opened:
                lines.append(line)
                texts.append(json.loads(line)["text"])
                size += utf8_size(texts[-1])
                if size >= text_bytes:
                    return lines, texts, size
    return lines, texts, size


def of_rows(stages: Stages, folder: Path, windows: ExampleSet) -> None:
    """Writing a shard: tokens in the smallest type, its SHA-256, and the table of its rows."""
    count, file = len(windows), folder / "tokens.npy"
    small = windows.features["tokens"].astype(np.uint16)
    stages("tokens written", lambda: np.save(file, small), small.nbytes, windows=count)
    content = file.read_bytes()
    stages("SHA-256 of what is written", lambda: hashlib.sha256(content), windows=count)

    def write_rows() -> int:
        columns = {
            "id": pyarrow.array(windows.ids, pyarrow.string()),
            "source": pyarrow.array(windows.sources, pyarrow.string()).dictionary_encode(),
            "level": pyarrow.array(windows.labels["level"]),
            "damage": pyarrow.array(windows.labels["damage"], pyarrow.string()),
        }
        path = folder / "rows.parquet"
        table = pyarrow.table(columns)
        pyarrow.parquet.write_table(table, path, row_group_size=_ROWS_IN_A_GROUP)
        return path.stat().st_size

    stages("rows written as Parquet", write_rows, write_rows(), windows=count)
    mapped = np.load(file, mmap_mode="r")
    order = np.random.default_rng(0).permutation(count)
    batches = [order[start : start + 32] for start in range(0, count, 32)]
    read = lambda: [mapped[rows] for rows in batches]  # noqa: E731
    stages("random batches of 32 read, mapped", read, windows=count)


def vocabulary(folder: Path, texts: list[str]) -> Tokenizer:
    sample = [make_document(text, "sample") for text in texts[: max(1, len(texts) // 10)]]
    corpus = Corpus("sample", lambda skipped: iter(sample))
    path = folder / "vocabulary.model"
    return learn_vocabulary(corpus, str(path), size=8192, max_bytes=2_000_000)[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--input", required=True, help="JSON Lines, a file or a folder of files")
    parser.add_argument("--megabytes", type=float, default=30.0, help="of text")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--sequence_length", type=int, default=128)
    arguments = parser.parse_args()
    lines, texts, size = start_of(arguments.input, int(arguments.megabytes * 1e6))
    stages = Stages(size, arguments.repeats)
    length = arguments.sequence_length
    with tempfile.TemporaryDirectory(prefix="bench_prepare_stages_") as name:
        folder = Path(name)
        file = folder / "corpus.jsonl"
        file.write_bytes(b"".join(lines))
        stages("JSON parsed", lambda: [json.loads(line) for line in lines], documents=len(lines))
        stages(
            "normalised and hashed: key and id",
            lambda: [make_document(text, "s") for text in texts],
        )
        corpus = jsonl_corpus(str(file), id_field="id")
        documents = stages(
            "files read to documents: all of the above", lambda: list(corpus.documents())
        )
        stages("duplicates merged, in memory", lambda: merge_duplicates(documents))
        stages("parts decided", lambda: [part_of(document.split_key) for document in documents])
        own = byte_tokenizer()
        stages("tokens, of bytes", lambda: own.encode(texts))
        subword = vocabulary(folder, texts)
        count = sum(map(len, subword.encode(texts)))
        stages(
            "tokens, of SentencePiece",
            lambda: subword.encode(texts),
            bytes_a_token=round(size / count, 2),
        )
        windows = {
            kind: stages(
                f"byte tokens and windows, {kind}, in memory",
                functools.partial(window_documents, documents, own, length, kind == "packed"),
            )
            for kind in ("packed", "padded")
        }
        of_rows(stages, folder, windows["padded"])


if __name__ == "__main__":
    main()
