"""A format of one's own: one class and one line, and everything takes its files."""

import gzip
import importlib
import json
import pkgutil

import pytest
import shard_corpora as corpora

from dr_keras.data import formats
from dr_keras.data.formats import base, kinds
from dr_keras.data.prepare import corpus_from_path, text_data
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.errors import DataError
import gin


@pytest.fixture
def toy():
    """Registers the format, and forgets it again for the sake of other tests."""
    gin.parse_config("import toy_format")
    base.register(importlib.import_module("toy_format").Toy())
    yield
    del base.FORMATS["toy"]


def write(path, count, first=0):
    lines = [f"d{n}\t{n} some text about {n}" for n in range(first, first + count)]
    content = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return lines


@pytest.fixture
def folder(toy, tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    lines = write(folder / "a.toy", 200) + write(folder / "b.tsv", 40, 200)
    return folder, lines


def test_names_say_it_and_its_corpus_feeds_meta_training(folder):
    folder, lines = folder
    assert kinds.what_is(str(folder / "b.tsv")).kind == "toy"
    corpus = corpus_from_path(folder)
    assert [d.id for d in corpus.documents()] == [line.split("\t")[0] for line in lines]
    assert corpus.describe()["kind"] == "toy" and corpus.describe()["text_column"] == 1
    parts = text_data(corpus, byte_tokenizer(), 16)
    assert len(parts.train) > len(parts.test) > 0


def test_files_are_scored_and_filtered_in_shards(folder, tmp_path):
    from dr_keras.corpus_jobs.filtering import filter_corpus
    from dr_keras.corpus_jobs.scoring import score_corpus

    folder, lines = folder
    with open(folder / "a.toy", "a") as file:
        file.write("no columns\n")
    scored = score_corpus(str(folder), corpora.NumberRater(), str(tmp_path / "s.parquet"))
    assert scored["documents"] == 240 and scored["errors"]["records"] == {"too few columns": 1}
    out = tmp_path / "out"
    manifest = filter_corpus(
        str(folder), corpora.NumberRater(), output_dir=str(out), discard_fraction=0.5,
        shard_bytes=1000,
    )  # fmt: skip
    kept = [line for p in sorted(out.glob("kept-*.toy")) for line in p.read_text().splitlines()]
    assert len(list(out.glob("kept-*.toy"))) > 3 and set(kept) < set(lines)
    assert manifest["counts"]["kept"] == len(kept) and manifest["errors"] == {"too few columns": 1}
    (error,) = map(json.loads, (out / "errors.jsonl").read_text().splitlines())
    assert error["file"] == str(folder / "a.toy") and error["position"] == 201
    assert set(error) == {"file", "position", "reason", "detail"}


def test_workers_find_it_and_compressed_files_are_kept_compressed(folder, tmp_path):
    from dr_keras.corpus_jobs import runners
    from dr_keras.corpus_jobs.filtering import filter_corpus
    from dr_keras.serving.loading import load_rater

    folder, _ = folder
    write(folder / "c.toy.gz", 30, 900)
    rater = load_rater(corpora.export_letters(tmp_path / "rater"))
    one, two = tmp_path / "one", tmp_path / "two"
    settings = {"discard_fraction": 0.5, "shard_bytes": 3000}
    filter_corpus(str(folder), rater, output_dir=str(one), **settings)
    filter_corpus(
        str(folder), rater, output_dir=str(two), runner=runners.in_processes(1), **settings
    )
    assert corpora.output_bytes(one) == corpora.output_bytes(two)
    assert list(one.glob("kept-*.toy.gz")) and list(one.glob("kept-*.toy"))


def test_what_gin_says_about_it_holds(folder):
    folder, lines = folder
    gin.parse_config("toy_corpus.text_column = 0\ntoy_corpus.name = 'mine'")
    corpus = corpus_from_path(folder)
    assert [d.text for d in corpus.documents()] == [line.split("\t")[0] for line in lines]
    assert corpus.name == "mine"
    gin.parse_config("toy_corpus.text_column = 2")
    with pytest.raises(DataError, match="a.toy, line 1: too few columns .2.; mend it, or leave"):
        list(corpus_from_path(folder).documents())


def test_the_formats_of_the_folder_are_all_registered():
    found = set()
    for module in pkgutil.iter_modules(formats.__path__, formats.__name__ + "."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, base.Format) and hasattr(one, "name"):
                found.add(one)
    assert {type(one) for one in base.FORMATS.values()} == found and len(found) >= 4
