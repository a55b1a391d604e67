"""Prepared corpora that are not on a local disk: copied there first, or refused."""

import os

import numpy as np
from prepared_corpora import write_prepared
import pytest
import tensorflow as tf

from dr_keras.data import prepared_copies
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.documents import make_document
from dr_keras.data.prepare import text_data
from dr_keras.data.prepared import prepared_data
from dr_keras.data.prepared_manifest import is_prepared
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import ConfigurationError, DataError

FRACTIONS = {"train": 0.55, "outer": 0.15, "validation": 0.15, "test": 0.15}


def write(folder, count):
    corpus = Corpus("main", lambda _: (make_document(f"document {k}", "s") for k in range(count)))
    parts = text_data(corpus, byte_tokenizer(), 16, fractions=FRACTIONS)
    return write_prepared(folder, parts, byte_tokenizer(), 10)


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return write(tmp_path_factory.mktemp("local") / "p", 60)


@pytest.fixture
def remote(local, request):
    """The corpus in TensorFlow's own file system in memory, which no other library reaches."""
    place = f"ram://{request.node.name}"
    for folder, _, names in os.walk(local):
        for name in names:
            target = f"{place}/{os.path.relpath(os.path.join(folder, name), local)}"
            tf.io.gfile.makedirs(os.path.dirname(target))
            tf.io.gfile.copy(os.path.join(folder, name), target, overwrite=True)
    return place


def test_it_is_refused_by_name_or_copied(local, remote, tmp_path):
    assert is_prepared(remote)
    with pytest.raises(ConfigurationError, match=f"{remote} is not on .*prepared_data.local_dir"):
        prepared_data(remote)
    with pytest.raises(ConfigurationError, match="name a folder on a local disk"):
        prepared_data(remote, local_dir="ram://elsewhere")
    copied = prepared_data(remote, local_dir=tmp_path / "copy", verify=True)
    assert copied.fingerprint == prepared_data(local).fingerprint
    train = prepared_data(local).train
    assert np.array_equal(copied.train.features["tokens"][:], train.features["tokens"][:])
    other = write(tmp_path / "other", 61)
    with pytest.raises(ConfigurationError, match="copy holds another corpus than"):
        prepared_data(other, local_dir=tmp_path / "copy")


def test_a_copy_goes_on_where_it_stopped(remote, tmp_path, monkeypatch):
    copied = []
    plain = prepared_copies._copy

    def copy(path, local_dir, file):
        if len(copied) == 3:
            raise KeyboardInterrupt
        plain(path, local_dir, file)
        copied.append(file["file"])

    monkeypatch.setattr(prepared_copies, "_copy", copy)
    with pytest.raises(KeyboardInterrupt):
        prepared_data(remote, local_dir=tmp_path / "copy")
    with pytest.raises(DataError, match="of a copy, copy the whole folder again"):
        is_prepared(tmp_path / "copy")
    first = list(copied)
    cut = tmp_path / "copy" / first[1]
    cut.write_bytes(cut.read_bytes()[:-1])
    left = tmp_path / "copy" / "train" / "unfinished-0123456789ab-tokens.npy"
    left.write_bytes(b"of a process that was killed")
    copied[:] = ["", "", "", ""]
    prepared_data(remote, local_dir=tmp_path / "copy", verify=True)
    assert not left.exists()
    again = copied[4:]
    assert first[1] in again and first[0] not in again and first[2] not in again
    prepared_data(remote, local_dir=tmp_path / "copy")
    assert copied[4:] == again


def test_what_is_not_there_or_changed_is_not_copied(remote, tmp_path, monkeypatch):
    name = f"{remote}/train/rows-00001-of-00004.parquet"
    with tf.io.gfile.GFile(name, "rb") as file:
        content = file.read()
    with tf.io.gfile.GFile(name, "wb") as file:
        file.write(content[:-1] + b"?")
    with pytest.raises(DataError, match="rows-00001-of-00004.parquet is not what was prepared"):
        prepared_data(remote, local_dir=tmp_path / "copy")
    assert "rows-00001-of-00004.parquet" not in os.listdir(tmp_path / "copy" / "train")
    tf.io.gfile.remove(name)
    with pytest.raises(DataError, match="rows-00001-of-00004.parquet is missing"):
        prepared_data(remote, local_dir=tmp_path / "copy")
    usage = prepared_copies.shutil._ntuple_diskusage(10, 5, 5)
    monkeypatch.setattr(prepared_copies.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DataError, match="has room for 0.0 GB.*name a larger disk"):
        prepared_data(remote, local_dir=tmp_path / "more")
