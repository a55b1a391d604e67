"""Corpora and raters for the tests of shards: the score of a text can be told by hand."""

import bz2
import glob
import gzip
import json
import os

import keras
import numpy as np
import pyarrow
import pyarrow.parquet
import tensorflow as tf

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater

LENGTH = 16


class NumberRater:
    """Scores a text by the number it begins with; what cannot be pickled stays in one process."""

    path, fingerprint = None, "ab" * 32

    def __init__(self, high=1000.0, die_after=None):
        self.document_reference = ReferenceDistribution(np.array([0.0, high]), sample_size=10_000)
        self.die_after = die_after
        self.texts = 0

    def score_texts(self, texts, scoring):
        if self.die_after is not None and self.texts >= self.die_after:
            raise KeyboardInterrupt
        self.texts += len(texts)
        score = np.array([float(text.split()[0]) for text in texts], np.float32)
        return {
            "score": score,
            "percentile": self.document_reference.percentile(score),
            "windows": np.full(len(texts), 2),
        }


def rows(count, first=0):
    """Records with more fields than text, id and source, and no two texts alike."""
    return [
        {
            "meta": {"n": n, "tags": ["ä", None]},
            "id": f"d{n}",
            "text": f"{n} é“{'x' * (n * 7 % 50)}\nend",
            "source": "odd" if n % 2 else "even",
        }
        for n in range(first, first + count)
    ]


def opened(path, mode):
    """A file of bytes, through the compression that its name says."""
    suffix = os.path.splitext(path)[1]
    if suffix == ".zst":
        return (pyarrow.input_stream if mode == "rb" else pyarrow.output_stream)(
            str(path), compression="zstd"
        )
    return {".gz": gzip.open, ".bz2": bz2.open}.get(suffix, open)(path, mode)


def write_jsonl(path, records):
    with opened(path, "wb") as file:
        for n, record in enumerate(records):
            # as users write it: escapes or not, blanks or not
            style = {"ensure_ascii": bool(n % 2), "separators": (",", ":") if n % 3 else None}
            file.write(json.dumps(record, **style).encode() + b"\n")


def write_parquet(path, records, row_group_size=40):
    table = pyarrow.Table.from_pylist(records)
    pyarrow.parquet.write_table(table, path, row_group_size=row_group_size)


def example(record):
    def bytes_feature(value):
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value.encode()]))

    features = {name: bytes_feature(record[name]) for name in ("id", "text", "source")}
    numbers = tf.train.Int64List(value=[record["meta"]["n"], 7])
    features["meta"] = tf.train.Feature(int64_list=numbers)
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


def write_tfrecord(path, records, compression=None):
    with tf.io.TFRecordWriter(str(path), compression) as writer:
        for record in records:
            writer.write(example(record))


def output_bytes(folder):
    """Name -> content of every file that filtering wrote, the manifest left out."""
    names = sorted(os.listdir(folder))
    paths = [os.path.join(folder, n) for n in names if n != "manifest.json"]
    return {os.path.basename(p): open(p, "rb").read() for p in paths if os.path.isfile(p)}


def lines(folder, kind):
    found = []
    for path in sorted(glob.glob(os.path.join(folder, f"{kind}*.jsonl"))):
        with open(path, "rb") as file:
            found += file.read().splitlines()
    return found


def export_letters(folder):
    """An exported rater that scores by the mean byte: the later the letters, the better."""
    tokens = keras.Input((LENGTH,), dtype="int32", name="tokens")
    real = keras.ops.cast(keras.ops.not_equal(tokens, 0), "float32")
    values = keras.ops.cast(tokens, "float32") * real
    score = keras.ops.sum(values, axis=1) / keras.ops.maximum(keras.ops.sum(real, axis=1), 1.0)
    model = keras.Model({"tokens": tokens}, score)
    reference = ReferenceDistribution(np.array([99.0, 124.0]))  # a to z, shifted by 2
    export_rater(model, byte_tokenizer(), LENGTH, str(folder), reference)
    return str(folder)


def letter_rows(count):
    """Texts of all lengths whose mean letter differs."""
    generator = np.random.default_rng(3)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    return [
        {
            "id": f"t{n}",
            "text": "".join(generator.choice(letters, 1 + n * 13 % 90)),
            "source": f"s{n % 3}",
            "n": n,
        }
        for n in range(count)
    ]
