"""Small files are done together: few shards, whole files in them, nothing else changed."""

import gzip
import json
import os

import pyarrow
import pyarrow.parquet
import pytest
import shard_corpora as corpora

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.identity import input_files
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.corpus_jobs.source import plan

SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5)
WRITERS = {
    "jsonl": corpora.write_jsonl,
    "jsonl.gz": corpora.write_jsonl,
    "parquet": corpora.write_parquet,
    "tfrecord": corpora.write_tfrecord,
}


@pytest.fixture
def files_of(tmp_path):
    def make(*sizes, suffix="jsonl"):
        paths = [tmp_path / f"{len(sizes)}-{n:03d}.{suffix}" for n in range(len(sizes))]
        for path, size in zip(paths, sizes):
            path.touch()
            os.truncate(path, size)
        return input_files([str(path) for path in paths])

    return make


def shape(kind, files, shard_bytes):
    shards = plan(kind, files, shard_bytes)
    assert [piece.file for shard in shards for piece in shard.pieces][:1] == files[:1]
    assert sum(shard.size for shard in shards) == sum(file.size for file in files)
    return [len(shard.pieces) for shard in shards]


def test_how_files_are_gathered(files_of):
    assert shape("jsonl", files_of(*[100] * 10), 3200) == [4, 4, 2]
    assert shape("jsonl", files_of(100, 900, 100, 100), 3200) == [1, 1, 2]  # order is kept
    assert shape("jsonl", files_of(100, 5000, 100), 3200) == [1, 1, 1, 1]  # a cut file is alone
    assert shape("jsonl", files_of(*[0] * 600), 1) == [256, 256, 88]
    assert shape("tfrecord", files_of(*[401] * 3, suffix="tfrecord"), 3200) == [1, 1, 1]


def test_only_files_of_one_form_are_gathered(tmp_path):
    names = ["a.jsonl", "b.jsonl", "c.jsonl.gz", "d.jsonl.gz", "e.jsonl"]
    for name in names:
        (tmp_path / name).touch()
    files = input_files([str(tmp_path / name) for name in names])
    shards = plan("jsonl", files, 1 << 20)
    assert [[piece.name[0] for piece in shard.pieces] for shard in shards] == [
        ["a", "b"], ["c", "d"], ["e"]
    ]  # fmt: skip


def test_parquet_files_of_other_columns_codecs_or_notes_stay_apart(tmp_path):
    table = pyarrow.table({"id": ["a"], "text": ["1 b"]})
    notes = table.replace_schema_metadata
    forms = [
        (notes({"pandas": "1 row"}), "snappy"), (notes({"pandas": "2 rows"}), "snappy"),
        (table, "zstd"), (table.append_column("n", pyarrow.array([1])), "zstd"),
        (table.append_column("n", pyarrow.array([1.5])), "zstd"),
        (notes({"huggingface": "{}"}), "zstd"), (notes({"huggingface": "{}"}), "zstd"),
    ]  # fmt: skip
    for n, (made, codec) in enumerate(forms):
        pyarrow.parquet.write_table(made, tmp_path / f"{n}.parquet", compression=codec)
    files = input_files(sorted(str(path) for path in tmp_path.iterdir()))
    shards = plan("parquet", files, 1 << 20)
    assert [[piece.name[0] for piece in shard.pieces] for shard in shards] == [
        ["0", "1"], ["2"], ["3"], ["4"], ["5", "6"]
    ]  # fmt: skip
    filter_corpus(
        str(tmp_path / "*.parquet"), corpora.NumberRater(), output_dir=str(tmp_path / "out"),
        **{**SETTINGS, "discard_fraction": 0},
    )  # fmt: skip
    kept = sorted((tmp_path / "out").glob("kept-*"))
    found = [pyarrow.parquet.read_table(path) for path in kept]
    assert [table.num_rows for table in found] == [2, 1, 1, 1, 2]
    assert found[4].schema.metadata[b"huggingface"] == b"{}"
    assert [str(table.schema.types[-1]) for table in found[2:4]] == ["int64", "double"]


@pytest.fixture(scope="module", params=WRITERS)
def small(request, tmp_path_factory):
    """60 files of one record without a source, the same in one file, and what is kept."""
    suffix, folder = request.param, tmp_path_factory.mktemp("small")
    rows = corpora.rows(60)
    (folder / "many").mkdir()
    for n, row in enumerate(rows):
        WRITERS[suffix](folder / "many" / f"f{n:02d}.{suffix}", [row])
    WRITERS[suffix](folder / f"one.{suffix}", rows)
    manifests = {}
    for name, path in (("many", folder / "many"), ("one", folder / f"one.{suffix}")):
        manifests[name] = filter_corpus(
            str(path), corpora.NumberRater(), output_dir=str(folder / f"{name}-out"),
            score_file=str(folder / f"{name}-scores.parquet"), **SETTINGS,
        )  # fmt: skip
    return suffix, folder, manifests


def test_many_files_are_filtered_as_one_is(small):
    suffix, folder, manifests = small
    many, one = manifests["many"], manifests["one"]
    assert set(many["files"]) == set(one["files"]) and len(many["files"]) == 3
    for name in ("counts", "errors", "by_source", "input_fingerprint", "achieved_fraction"):
        assert many[name] == one[name]
    assert len(many["input"]) == 60
    if suffix == "parquet":
        tables = [pyarrow.parquet.read_table(next((folder / f"{name}-out").glob("kept-*.parquet")))
                  for name in manifests]  # fmt: skip
        assert tables[0].to_pylist() == tables[1].to_pylist()
    else:
        # a blank or an escape depends on the place in the file that the helper writes
        outputs = [corpora.output_bytes(folder / f"{name}-out") for name in manifests]
        for name in many["files"]:
            a, b = (output[name] for output in outputs)
            if name.startswith("kept") and suffix.startswith("jsonl"):
                a, b = (gzip.decompress(x) if suffix.endswith(".gz") else x for x in (a, b))
                a, b = ([json.loads(line) for line in x.splitlines()] for x in (a, b))
            assert a == b, name


def test_steps_fill_across_files(tmp_path):
    class Counting(corpora.NumberRater):
        calls = 0

        def score_texts(self, texts, scoring):
            self.calls += 1
            return super().score_texts(texts, scoring)

    for n, row in enumerate(corpora.rows(300)):
        corpora.write_jsonl(tmp_path / f"{n:03d}.jsonl", [row])
    rater = Counting()
    score_corpus(str(tmp_path), rater, str(tmp_path / "s.parquet"))
    assert rater.texts == 300 and rater.calls == 2  # 256 files and the rest


def write_without_sources(folder):
    """Each file with its default source, and with what cannot be read in some."""
    folder.mkdir()
    for n in range(30):
        lines = [json.dumps({"text": f"{n} text"}), "", json.dumps({"text": f"{n + 100} text"})]
        lines[1:1] = ["{"] * (n % 3)
        (folder / f"f{n:02d}.jsonl").write_text("\n".join(lines) + "\n")


def test_sources_and_places_are_those_of_the_files(tmp_path):
    write_without_sources(tmp_path / "c")
    out = str(tmp_path / "out")
    manifest = filter_corpus(str(tmp_path / "c"), corpora.NumberRater(), output_dir=out, **SETTINGS)
    assert list(manifest["by_source"]) == [f"f{n:02d}" for n in range(30)]
    assert all(entry["documents"] == 2 for entry in manifest["by_source"].values())
    errors = [json.loads(line) for line in corpora.lines(out, "errors")]
    assert [(os.path.basename(e["file"]), e["position"]) for e in errors] == [
        (f"f{n:02d}.jsonl", 2 + k) for n in range(30) for k in range(n % 3)
    ]  # fmt: skip
    assert list(errors[0]) == ["file", "position", "reason", "detail"]


def test_a_stopped_run_on_small_files_goes_on(tmp_path):
    write_without_sources(tmp_path / "c")
    # an eighth of this holds three files or four
    settings = dict(output_dir=str(tmp_path / "out"), shard_bytes=1600, **SETTINGS)
    whole = {**settings, "output_dir": str(tmp_path / "whole")}
    filter_corpus(
        str(tmp_path / "c"), corpora.NumberRater(), score_file=str(tmp_path / "s.parquet"), **whole
    )
    for die_after in (7, 20, 9):
        with pytest.raises(KeyboardInterrupt):
            filter_corpus(str(tmp_path / "c"), corpora.NumberRater(die_after=die_after), **settings)
    rater = corpora.NumberRater()
    filter_corpus(str(tmp_path / "c"), rater, **settings)
    assert 0 < rater.texts < 40
    assert corpora.output_bytes(tmp_path / "out") == corpora.output_bytes(tmp_path / "whole")
    assert len(list((tmp_path / "out").glob("kept-*"))) > 5


def test_the_file_that_changed_is_named(tmp_path, monkeypatch):
    from dr_keras.corpus_jobs import scoring

    write_without_sources(tmp_path / "c")
    real = scoring.finish_scores

    def finish(*arguments):
        result = real(*arguments)
        (tmp_path / "c" / "f17.jsonl").write_text('{"text": "5 others"}\n')
        return result

    monkeypatch.setattr(scoring, "finish_scores", finish)
    with pytest.raises(Exception, match="f17.jsonl is not what it was when it was scored"):
        filter_corpus(
            str(tmp_path / "c"), corpora.NumberRater(), output_dir=str(tmp_path / "out"), **SETTINGS
        )
