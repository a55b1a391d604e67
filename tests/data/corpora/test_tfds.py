from pathlib import Path
import shutil

import numpy as np
import pytest

from dr_keras.data.corpora.tfds import tfds_corpus
from dr_keras.data.documents import document_id
from dr_keras.errors import DataError

tfds = pytest.importorskip("tensorflow_datasets")


class ToyTexts(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    __module__ = "toy_texts"  # TFDS looks for the checksums of builders that are in a package

    def _info(self):
        text = tfds.features.Text()
        features = {"text": text, "number": np.int64, "nested": {"body": text}, "share": np.float32}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, download_manager):
        return {"train": self._generate_examples(20), "bad": self._generate_examples(2, b"\xff")}

    def _generate_examples(self, number, extra=b""):
        for i in range(number):
            text = f"text {i}".encode() + extra * i
            yield i, {"text": text, "number": i, "nested": {"body": f"b{i}"}, "share": i / 20}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tfds")
    tfds.disable_progress_bar()
    ToyTexts(data_dir=str(folder)).download_and_prepare()
    return str(folder)


def test_by_name_and_by_directory(data_dir):
    corpus = tfds_corpus("toy_texts", data_dir=data_dir)
    documents = list(corpus.documents())
    assert {d.text for d in documents} == {f"text {i}" for i in range(20)}
    assert {(d.source, d.corpus) for d in documents} == {("toy_texts", "toy_texts")}
    assert all(d.id == document_id("toy_texts", d.text) for d in documents)
    assert list(corpus.documents()) == documents
    by_directory = tfds_corpus(f"{data_dir}/toy_texts/1.0.0")
    assert list(by_directory.documents()) == documents
    assert by_directory.describe()["data_set"] == "toy_texts/1.0.0"


def test_features_ids_names_and_parts_of_splits(data_dir):
    corpus = tfds_corpus(
        "toy_texts", "train[:25%]", data_dir, text_feature="nested/body", id_feature="number",
        source="s", corpus_name="toys",
    )  # fmt: skip
    documents = list(corpus.documents())
    assert len(documents) == 5
    assert all(d.text == f"b{d.id}" for d in documents)
    assert {(d.source, d.corpus) for d in documents} == {("s", "toys")}
    corpus = tfds_corpus("toy_texts", data_dir=data_dir, id_feature="tfds_id", max_documents=2)
    ids = [d.id for d in corpus.documents()]
    assert ids == [f"toy_texts-train.tfrecord-00000-of-00001__{i}" for i in (0, 1)]


def test_what_is_not_there_is_refused_at_once(data_dir, tmp_path):
    with pytest.raises(DataError, match="'imdb_reviewz'; did you mean imdb_reviews"):
        tfds_corpus("imdb_reviewz", data_dir=data_dir)
    with pytest.raises(DataError, match="is its name or path right"):
        tfds_corpus("qqqqqqqqqqqq", data_dir=data_dir)
    with pytest.raises(DataError, match="'toy_texts' is not prepared in .*set tfds_corpus.data"):
        tfds_corpus("toy_texts", data_dir=str(tmp_path))
    with pytest.raises(DataError, match="has no split 'test'; its splits: bad, train"):
        tfds_corpus("toy_texts", "test", data_dir)
    with pytest.raises(DataError, match="has no split 'train.:junk.'"):
        tfds_corpus("toy_texts", "train[:junk]", data_dir)
    with pytest.raises(DataError, match="no feature 'body'; its features: .*nested"):
        tfds_corpus("toy_texts", data_dir=data_dir, text_feature="body")
    for feature in ("number", "nested"):
        with pytest.raises(DataError, match=f"feature '{feature}' of .*cannot be used as a"):
            tfds_corpus("toy_texts", data_dir=data_dir, text_feature=feature)
    with pytest.raises(DataError, match="feature 'share' of .*cannot be used as a text or an"):
        tfds_corpus("toy_texts", data_dir=data_dir, id_feature="share")
    with pytest.raises(DataError, match="cannot be used: .*dataset_info.json"):
        tfds_corpus(str(tmp_path))


def test_download_prepares_the_data_set_on_the_first_pass(tmp_path):
    corpus = tfds_corpus("toy_texts", data_dir=str(tmp_path), download=True)
    assert not list(tmp_path.iterdir())
    assert len(list(corpus.documents())) == 20
    assert (tmp_path / "toy_texts" / "1.0.0").is_dir()
    corpus = tfds_corpus("toy_texts", "no", str(tmp_path / "other"), download=True)
    with pytest.raises(DataError, match="has no split 'no'"):
        list(corpus.documents())


def test_a_package_that_preparing_needs(tmp_path, monkeypatch):
    def prepare(self):
        raise ImportError("No module named 'apache_beam'")

    monkeypatch.setattr(ToyTexts, "download_and_prepare", prepare)
    corpus = tfds_corpus("toy_texts", data_dir=str(tmp_path), download=True)
    with pytest.raises(DataError, match="'toy_texts' needs a Python package .*'apache_beam'"):
        list(corpus.documents())


def test_invalid_utf8_and_damaged_files_name_the_record(data_dir, tmp_path):
    with pytest.raises(DataError, match="'toy_texts', split 'bad', record [12]: invalid UTF-8"):
        list(tfds_corpus("toy_texts", "bad", data_dir).documents())
    corpus = tfds_corpus("toy_texts", "bad", data_dir, on_malformed="skip")
    assert [d.text for d in corpus.documents()] == ["text 0"]
    assert corpus.skipped == {"invalid UTF-8": 1}

    copy = tmp_path / "toy_texts" / "1.0.0"
    shutil.copytree(f"{data_dir}/toy_texts/1.0.0", copy)
    (shard,) = copy.glob("*train.tfrecord*")
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match="split 'train', record 20: its files are damaged, cut"):
        list(tfds_corpus("toy_texts", data_dir=str(tmp_path)).documents())
    whole = next(Path(data_dir, "toy_texts", "1.0.0").glob("*train.tfrecord*")).read_bytes()
    length = int.from_bytes(whole[:8], "little") + 16
    shard.write_bytes(whole[:length])
    with pytest.raises(DataError, match="record 2: .*expected to contain 20 elements but"):
        list(tfds_corpus("toy_texts", data_dir=str(tmp_path)).documents())


@pytest.fixture(scope="module")
def array_records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("array_records")
    builder = ToyTexts(data_dir=str(folder), file_format="array_record")
    builder.download_and_prepare()
    return str(folder)


def test_a_data_set_in_array_records(data_dir, array_records, tmp_path):
    settings = {"split": "train[10%:40%]", "id_feature": "tfds_id", "text_feature": "nested/body"}
    here, there = (
        list(tfds_corpus("toy_texts", data_dir=folder, **settings).documents())
        for folder in (array_records, data_dir)
    )
    assert len(here) == 6 and [d.text for d in here] == [d.text for d in there]
    assert [d.id.replace("array_record", "tfrecord") for d in here] == [d.id for d in there]
    (first,) = tfds_corpus(
        f"{array_records}/toy_texts/1.0.0", id_feature="number", max_documents=1
    ).documents()
    assert first.text == f"text {first.id}"
    copy = tmp_path / "toy_texts" / "1.0.0"
    shutil.copytree(f"{array_records}/toy_texts/1.0.0", copy)
    (shard,) = copy.glob("*train.array_record*")
    shard.write_bytes(shard.read_bytes()[:-10])
    with pytest.raises(DataError, match="train.array_record-00000-of-00001: cut short, damaged"):
        list(tfds_corpus("toy_texts", data_dir=str(tmp_path)).documents())


def test_data_sets_of_hugging_face(data_dir, tmp_path, monkeypatch):
    """What is prepared needs neither its library nor the network."""
    copy = tmp_path / "owner__toys" / "small" / "1.0.0"
    shutil.copytree(f"{data_dir}/toy_texts/1.0.0", copy)
    info = copy / "dataset_info.json"
    named = info.read_text().replace('"toy_texts"', '"owner__toys"')
    info.write_text(named.replace("{", '{ "configName": "small",', 1))
    for shard in copy.glob("toy_texts-*"):
        shard.rename(copy / shard.name.replace("toy_texts", "owner__toys"))
    corpus = tfds_corpus("huggingface:owner__toys/small", data_dir=str(tmp_path))
    assert corpus.name == "owner__toys/small" and len(list(corpus.documents())) == 20

    def failing(error):
        def load(*arguments, **options):
            raise error

        return load

    for error, message in (
        (ImportError("No module named 'datasets'"), "pip install 'dr_keras.datasets.'"),
        (RuntimeError("no route to host"), "nothing of it .no route to host.: is its name right"),
    ):
        monkeypatch.setattr(tfds, "builder", failing(error))
        with pytest.raises(
            DataError, match=f"^TFDS data set 'hugging.*__x' is not prep.*{message}"
        ):
            tfds_corpus("huggingface:owner__x", data_dir=str(tmp_path))
