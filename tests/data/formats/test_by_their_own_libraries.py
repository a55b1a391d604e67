"""Files that the library wrote which owns the format, and kept records as that library reads them.

Each test is skipped where its library is not installed: datasets, webdataset, warcio, resiliparse,
trafilatura.
"""

import io
import os
import sys

import numpy as np
import pytest

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.data.corpora.tfds import tfds_corpus
from dr_keras.data.formats.warc import warc_corpus
from dr_keras.data.prepare import corpus_from_path
from dr_keras.rating.reference import ReferenceDistribution

pytestmark = pytest.mark.long

ROWS = [{"id": f"d{n}", "text": f"{n} some text é", "label": n % 3} for n in range(500)]


class ByNumber:
    """Scores a text by the number it begins with."""

    path, fingerprint = None, "ab" * 32
    document_reference = ReferenceDistribution(np.array([0.0, 500.0]), sample_size=10_000)

    def score_texts(self, texts, scoring):
        score = np.array([float(text.split()[0]) for text in texts], np.float32)
        return {
            "score": score,
            "percentile": self.document_reference.percentile(score),
            "windows": np.ones(len(texts), np.int64),
        }


def kept(folder, output):
    """Filters a folder in shards; the files of what is kept."""
    manifest = filter_corpus(
        str(folder), ByNumber(), output_dir=str(output), discard_fraction=0.5, shard_bytes=4000
    )
    assert manifest["counts"]["documents"] == len(ROWS) and not manifest["errors"]
    return sorted(map(str, output.glob("kept-*"))), manifest["counts"]["kept"]


def test_hugging_face_datasets(tmp_path):
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_list(ROWS).cast_column(
        "label", datasets.ClassLabel(names=["a", "b", "c"])
    )
    folder = tmp_path / "mine"
    made.save_to_disk(str(folder), num_shards=3)
    loaded = datasets.load_from_disk(str(folder))
    loaded.map(lambda row: {"text": row["text"].upper()})  # leaves a file of its cache there
    assert list(folder.glob("cache-*.arrow"))
    documents = list(corpus_from_path(folder).documents())
    assert [(d.id, d.text) for d in documents] == [(row["id"], row["text"]) for row in ROWS]
    files, count = kept(folder, tmp_path / "out")
    again = datasets.load_dataset("arrow", data_files=files, cache_dir=str(tmp_path / "cache"))
    assert again["train"].features == made.features and len(again["train"]) == count
    rows = {row["id"]: row for row in made}
    assert all(rows[row["id"]] == row for row in again["train"])
    split = datasets.DatasetDict(train=made, test=made.select(range(0, 9, 2)))
    split.save_to_disk(str(tmp_path / "both"))
    assert len(list(corpus_from_path(tmp_path / "both" / "test").documents())) == 5


def test_hugging_face_by_tfds(tmp_path, monkeypatch):
    """From a folder of its own in place of the network."""
    pytest.importorskip("datasets")
    import huggingface_hub

    about = type("About", (), {"gated": False, "card_data": None, "tags": (), "description": ""})
    monkeypatch.setattr(huggingface_hub, "dataset_info", lambda *a, **k: about())
    names = "tensorflow_datasets.core.utils.huggingface_utils.to_huggingface_name"
    monkeypatch.setattr(names, lambda name: name.replace("__", "/"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    os.makedirs("mine/texts")
    with open("mine/texts/train.csv", "w") as file:
        file.write("text,number\n" + "".join(f"{row['text']},{n}\n" for n, row in enumerate(ROWS)))
    settings = {"data_dir": str(tmp_path / "tfds"), "id_feature": "number"}
    made = tfds_corpus("huggingface:mine__texts", download=True, **settings)
    texts = {d.id: d.text for d in made.documents()}
    assert texts == {str(n): row["text"] for n, row in enumerate(ROWS)}
    monkeypatch.setitem(sys.modules, "datasets", None)  # what is prepared does without it
    again = tfds_corpus("huggingface:mine__texts", **settings)
    assert {d.id: d.text for d in again.documents()} == texts


def test_webdataset(tmp_path):
    library = pytest.importorskip("webdataset")
    folder = tmp_path / "shards"
    folder.mkdir()
    image = bytes(range(256)) * 3
    with library.ShardWriter(str(folder / "shard-%06d.tar"), maxcount=200, verbose=0) as writer:
        for row in ROWS:
            writer.write({"__key__": row["id"], "txt": row["text"], "json": row, "bin": image})
    documents = list(corpus_from_path(folder).documents())
    assert [(d.id, d.text) for d in documents] == [(row["id"], row["text"]) for row in ROWS]
    files, count = kept(folder, tmp_path / "out")
    again = list(library.WebDataset(files, shardshuffle=False).decode())
    assert len(again) == count
    rows = {row["id"]: row for row in ROWS}
    for sample in again:
        row = rows[sample["__key__"]]
        assert (sample["txt"], sample["json"], sample["bin"]) == (row["text"], row, image)


PAGE = """<html><head><title>t</title></head><body><nav><a href="/">Home</a> | About</nav>
<main><h1>A heading</h1><p>{} some text: this is what the page is about, and it goes on for a while
so that nobody takes it for a menu or a line below the page.</p></main>
<footer>Imprint, cookies, all rights reserved</footer></body></html>"""


def archive(path, pages):
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=True)
        writer.write_record(writer.create_warcinfo_record("x.warc.gz", {"software": "a test"}))
        for n, page in enumerate(pages):
            headers = [("Content-Type", "text/html; charset=utf-8")]
            http = StatusAndHeaders("200 OK", headers, protocol="HTTP/1.1")
            body = io.BytesIO(page.encode())
            writer.write_record(
                writer.create_warc_record(
                    f"https://a.example/{n}", "response", body, http_headers=http
                )
            )


def test_warcio(tmp_path):
    library = pytest.importorskip("warcio.archiveiterator")
    folder = tmp_path / "web"
    folder.mkdir()
    archive(folder / "x.warc.gz", [row["text"] for row in ROWS])
    documents = list(warc_corpus(folder, "whole").documents())
    assert [d.text for d in documents] == [row["text"] for row in ROWS]
    import gin

    with gin.unlock_config():
        gin.bind_parameter("warc_corpus.extract", "whole")
    files, count = kept(folder, tmp_path / "out")
    again = []
    for path in files:
        with open(path, "rb") as file:
            for record in library.ArchiveIterator(file, check_digests="raise"):
                again.append(record.content_stream().read().decode())
    texts = {row["text"] for row in ROWS}
    assert len(again) == count and set(again) < texts


@pytest.mark.parametrize("extract", ["resiliparse", "trafilatura"])
def test_extractors(tmp_path, extract):
    pytest.importorskip("warcio")
    pytest.importorskip(extract)
    archive(tmp_path / "x.warc.gz", [PAGE.format(n) for n in range(3)])
    texts = [d.text for d in warc_corpus(tmp_path / "x.warc.gz", extract).documents()]
    assert all(f"{n} some text: this is what the page" in text for n, text in enumerate(texts))
    assert not any(word in text for text in texts for word in ("Home", "Imprint", "<p>"))
    assert len(texts) == 3
