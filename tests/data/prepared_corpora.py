"""Prepared corpora as small as tests need them, from examples that are in memory."""

import hashlib
import json
import os
import shutil

import numpy as np
import pyarrow
import pyarrow.parquet

from dr_keras.data.examples import ExampleSet, Parts, document_ids
from dr_keras.data.prepared_manifest import (
    FORMAT,
    OWN_TEST,
    VERSION,
    part_fingerprint,
    shard_files,
    token_dtype,
)
from dr_keras.data.tokenizers import Tokenizer


def write_prepared(
    folder, parts: Parts, tokenizer: Tokenizer, rows_per_shard: int = 50, row_group: int = 16
) -> str:
    """Writes `text_data`'s examples as a prepared corpus; returns the folder as a text."""
    folder = os.fspath(folder)
    sets = dict(parts.items()) | ({OWN_TEST: parts.own_test} if parts.own_test else {})
    os.makedirs(f"{folder}/tokenizer")
    for asset in tokenizer.assets:
        shutil.copy(asset, f"{folder}/tokenizer")
    train = parts.train
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "dr_keras": "0",
        "made": {
            "sequence_length": train.features["tokens"].shape[1],
            "packing": "documents" in train.labels,
            "rows_per_shard": rows_per_shard,
        },
        "tokenizer": tokenizer.config(),
        "vocabulary_size": tokenizer.vocabulary_size,
        "dtype": token_dtype(tokenizer.vocabulary_size).name,
        "name": str(train.corpora[0]),
        "weights": train.weights,
        "target": parts.target,
        "target_weights": parts.test.weights if parts.target else None,
        "notes": list(parts.notes),
        "input": [],
        "fields": {},
        "corpus": None,
        "counts": {},
        "parts": {
            name: _part(folder, name, one, token_dtype(tokenizer.vocabulary_size), rows_per_shard,
                        row_group)
            for name, one in sets.items()
        },
    }  # fmt: skip
    write_manifest(folder, manifest)
    return folder


def write_manifest(folder: str, manifest: dict) -> None:
    with open(f"{folder}/manifest.json", "w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)


def manifest_of(folder: str) -> dict:
    with open(f"{folder}/manifest.json", encoding="utf-8") as file:
        return json.load(file)


def _part(folder: str, part: str, examples: ExampleSet, dtype, size: int, group: int) -> dict:
    os.makedirs(f"{folder}/{part}")
    count = -(-len(examples) // size)
    shards = [
        _shard(folder, shard_files(part, k, count), examples.take(slice(k * size, (k + 1) * size)),
               dtype, group)
        for k in range(count)
    ]  # fmt: skip
    corpora: list[list] = []
    for name in examples.corpora:
        if not corpora or corpora[-1][0] != name:
            corpora.append([name, 0])
        corpora[-1][1] += 1
    return {
        **_counts(examples),
        "corpora": corpora,
        "sources": {
            name: _counts(examples.take(examples.sources == name))
            for name in sorted(set(examples.sources))
        },
        "fingerprint": part_fingerprint(corpora, shards),
        "shards": shards,
    }


def _counts(examples: ExampleSet) -> dict:
    return {
        "rows": len(examples),
        "tokens": int(np.count_nonzero(examples.features["tokens"])),
        "documents": len(set(document_ids(examples))),
    }


def _shard(folder: str, names, examples: ExampleSet, dtype, group: int) -> dict:
    tokens, rows = names
    np.save(f"{folder}/{tokens}", examples.features["tokens"].astype(dtype))
    columns = {
        "id": pyarrow.array(examples.ids, pyarrow.string()),
        "source": pyarrow.array(examples.sources, pyarrow.string()).dictionary_encode(),
        "level": pyarrow.array(examples.labels["level"], pyarrow.float32()),
        "damage": pyarrow.array(examples.labels["damage"], pyarrow.string()),
    }
    if "documents" in examples.labels:
        columns["documents"] = pyarrow.array(examples.labels["documents"], pyarrow.int64())
    pyarrow.parquet.write_table(pyarrow.table(columns), f"{folder}/{rows}", row_group_size=group)
    return {
        "rows": len(examples),
        "tokens": _file(folder, tokens),
        "rows_file": _file(folder, rows),
    }


def _file(folder: str, name: str) -> dict:
    with open(f"{folder}/{name}", "rb") as file:
        content = file.read()
    return {"file": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
