"""Fields that say which documents belong together, and which records are wanted at all."""

import json
import logging

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from dr_keras.data.formats import records
from dr_keras.data.formats.jsonl import jsonl_corpus
from dr_keras.data.formats.parquet import parquet_corpus
from dr_keras.data.formats.tfrecord import tfrecord_corpus
from dr_keras.errors import ConfigurationError, DataError
import gin

ROWS = [
    {"text": "a", "page": 7, "kind": "raw", "rank": 1},
    {"text": "b", "page": 7, "kind": "clean", "rank": 2},
    {"text": "c", "page": None, "kind": "clean", "rank": 3},
    {"text": "d", "page": 12, "kind": None, "rank": 1},
]


def jsonl(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def parquet(path, rows):
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def tfrecord(path, rows):
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in rows:
            features = {"text": tf.train.Feature(bytes_list={"value": [row["text"].encode()]})}
            if row["page"] is not None:
                features["page"] = tf.train.Feature(int64_list={"value": [row["page"]]})
            example = tf.train.Example(features={"feature": features})
            writer.write(example.SerializeToString())
    return path


KINDS = [
    (jsonl, jsonl_corpus, "group_field"),
    (parquet, parquet_corpus, "group_column"),
    (tfrecord, tfrecord_corpus, "group_feature"),
]


@pytest.mark.parametrize("write, make, argument", KINDS, ids=["jsonl", "parquet", "tfrecord"])
def test_groups_of_records(write, make, argument, tmp_path, caplog):
    path = write(tmp_path / f"x.{write.__name__}", ROWS)
    groups = {d.text: d.group for d in make(path, **{argument: "page"}).documents()}
    assert groups == {"a": "7", "b": "7", "c": "", "d": "12"}
    assert {d.group for d in make(path).documents()} == {""}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert {d.group for d in make(path, **{argument: "pgae"}).documents()} == {""}
    assert f"of the corpus 'x' has the group 'pgae' ({write.__name__}_corpus.{argument})" in (
        caplog.records[0].message
    )


@pytest.mark.parametrize("write, make, _", KINDS[:2], ids=["jsonl", "parquet"])
def test_records_that_are_not_wanted_are_left_out_and_counted(write, make, _, tmp_path):
    path = write(tmp_path / f"x.{write.__name__}", ROWS)
    corpus = make(path, only={"kind": "clean"})
    assert [d.text for d in corpus.documents()] == ["b", "c"]
    assert corpus.skipped == {"'kind' is not 'clean'": 2}
    assert corpus.describe()["only"] == {"kind": "clean"}
    corpus = make(path, only={"kind": ["clean", "raw"], "rank": 1})
    assert [d.text for d in corpus.documents()] == ["a"]
    assert corpus.skipped == {"'kind' is not ['clean', 'raw']": 1, "'rank' is not 1": 2}
    assert [d.text for d in make(path, only={"kind": None}).documents()] == ["d"]
    with pytest.raises(DataError, match=r"holds no documents.*4 x 'rank' is not True"):
        list(make(path, only={"rank": True}).documents())


def test_a_group_that_is_no_name_and_a_column_that_is_not_there(tmp_path):
    lines = jsonl(tmp_path / "x.jsonl", [{"text": "a", "page": [1]}])
    with pytest.raises(DataError, match="line 1: field 'page' is no string or integer .it is a li"):
        list(jsonl_corpus(lines, group_field="page").documents())
    table = parquet(tmp_path / "x.parquet", ROWS)
    with pytest.raises(DataError, match=r"only names the column 'knd'.*text, page, kind, rank"):
        list(parquet_corpus(table, only={"knd": "clean"}).documents())


def test_jobs_on_files_take_whole_files_and_scores_know_no_groups():
    gin.bind_parameter("jsonl_corpus.only", {"kind": "clean"})
    with pytest.raises(ConfigurationError, match="jsonl_corpus.only is set, but files are filtere"):
        records.fields_of("jsonl")
    gin.clear_config()
    plain = records.identifying(records.fields_of("jsonl"))
    gin.bind_parameter("jsonl_corpus.group_field", "page")
    assert records.identifying(records.fields_of("jsonl")) == plain
