import glob
import json
import os

import numpy as np
import pyarrow.parquet
import pytest
import shard_corpora as corpora
import tensorflow as tf

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.corpus_jobs.scoring import score_corpus
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.rating.rules import decide
from dr_keras.rating.score_files import read_scores
import gin

N = 600
ROWS = corpora.rows(N)
WRITERS = {
    "jsonl": corpora.write_jsonl,
    "jsonl.gz": corpora.write_jsonl,
    "json.bz2": corpora.write_jsonl,
    "jl.zst": corpora.write_jsonl,
    "parquet": corpora.write_parquet,
    "tfrecord": corpora.write_tfrecord,
}


def expected_ids(discard_fraction=0.5, batch_size=16, seed=5, reference=None, **others):
    scores = np.arange(N, dtype=np.float32)
    ids = [row["id"] for row in ROWS]
    decisions = decide(ids, scores, discard_fraction, batch_size, seed, reference=reference)
    return {row["id"] for row, keep in zip(ROWS, decisions.keep) if keep}


def kept_records(folder, suffix):
    """The kept records, read as anybody would read them."""
    paths = sorted(glob.glob(os.path.join(folder, f"kept-*.{suffix}")))
    if suffix == "parquet":
        return [row for path in paths for row in pyarrow.parquet.read_table(path).to_pylist()]
    if suffix == "tfrecord":
        return [r for path in paths for r in tf.data.TFRecordDataset(path).as_numpy_iterator()]
    return [line for path in paths for line in corpora.opened(path, "rb").read().splitlines()]


def write_two_files(folder, suffix):
    for name, part in (("a", ROWS[:400]), ("b", ROWS[400:])):
        WRITERS[suffix](folder / f"{name}.{suffix}", part)
    return str(folder / f"*.{suffix}")


SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, shard_bytes=8000)


@pytest.mark.parametrize("suffix", WRITERS)
def test_kept_records_are_whole_and_decided_as_their_ids_say(tmp_path, suffix):
    path, out = write_two_files(tmp_path, suffix), str(tmp_path / "out")
    manifest = filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)
    keep = expected_ids()
    chosen = [row for row in ROWS if row["id"] in keep]
    packed = suffix.partition(".")[2]  # kept files are called .jsonl, and compressed alike
    found = kept_records(out, suffix if not packed else f"jsonl.{packed}")
    if suffix == "parquet":
        assert found == chosen
    elif suffix == "tfrecord":
        assert found == [corpora.example(row) for row in chosen]
    else:
        lines = [
            line
            for name in "ab"
            for line in corpora.opened(tmp_path / f"{name}.{suffix}", "rb").read().splitlines()
        ]
        assert found == [line for line, row in zip(lines, ROWS) if row["id"] in keep]
    dropped = [json.loads(line) for line in corpora.lines(out, "dropped")]
    assert [row["id"] for row in dropped] == [r["id"] for r in ROWS if r["id"] not in keep]
    assert set(dropped[0]) == {"id", "source", "score", "percentile", "reason"}
    assert dropped[0] == {
        "id": "d0", "source": "even", "score": 0.0, "percentile": 0.0,
        "reason": "percentile too low",
    }  # fmt: skip
    assert manifest["counts"]["documents"] == N and manifest["counts"]["kept"] == len(keep)
    assert os.listdir(out).count("_work") == 0


@pytest.fixture(scope="module")
def filtered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("filtered")
    path, out = write_two_files(folder, "jsonl"), str(folder / "out")
    return path, out, filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)


def test_the_manifest_says_what_was_done(filtered):
    path, out, manifest = filtered
    assert json.load(open(os.path.join(out, "manifest.json"))) == manifest
    assert [os.path.basename(file["path"]) for file in manifest["input"]] == ["a.jsonl", "b.jsonl"]
    assert manifest["rater"] == {"path": None, "fingerprint": "ab" * 32}
    odd = manifest["by_source"]["odd"]
    keep = expected_ids()
    assert odd["documents"] == N // 2 and odd["scored"] == N // 2
    assert odd["kept"] == sum(int(id[1:]) % 2 for id in keep)
    assert odd["mean_score"] == pytest.approx(np.mean(np.arange(1, N, 2)))
    assert odd["score_quantiles"]["0.5"] == pytest.approx(N / 2, abs=1)
    assert manifest["achieved_fraction"] == 1 - len(keep) / N
    assert manifest["expected_fraction"] == 0.5
    assert manifest["settings"]["oversized_batch"] == 32
    assert manifest["counts"]["kept_bytes"] == sum(
        len(row["text"].encode()) for row in ROWS if row["id"] in keep
    )
    assert set(os.listdir(out)) == {*manifest["files"], "manifest.json"}
    for name, facts in manifest["files"].items():
        assert os.path.getsize(os.path.join(out, name)) == facts["bytes"]
        if name.startswith("kept"):
            assert len(corpora.lines(out, name[:-6])) == facts["records"]
    assert manifest["repeated_ids"] is None and manifest["errors"] == {}


def test_scores_lie_beside_the_corpus_in_the_documented_form(filtered):
    path, out, manifest = filtered
    assert os.path.dirname(manifest["scores"]) == os.path.join(os.path.dirname(path), "_scores")
    table = pyarrow.parquet.read_table(manifest["scores"])
    assert [(f.name, str(f.type)) for f in table.schema] == [
        ("id", "string"), ("source", "string"), ("score", "float"), ("percentile", "float"),
        ("windows", "int32"),
    ]  # fmt: skip
    scores = read_scores(manifest["scores"])
    assert scores.ids == [row["id"] for row in ROWS] and scores.sources[:2] == ["even", "odd"]
    np.testing.assert_array_equal(scores.score, np.arange(N))
    np.testing.assert_allclose(scores.percentile, np.arange(N) / 1000, rtol=1e-6)
    assert scores.windows.tolist() == [2] * N
    assert scores.manifest["input_fingerprint"] == manifest["input_fingerprint"]
    assert scores.manifest["reference"]["quantiles"] == [0.0, 1000.0]
    rater = corpora.NumberRater()
    again = os.path.join(os.path.dirname(path), "again")
    filter_corpus(path, rater, output_dir=again, **SETTINGS)
    assert rater.texts == 0  # the scores were found again
    assert corpora.output_bytes(again) == corpora.output_bytes(out)


def test_sizes_of_shards_decide_nothing(filtered, tmp_path):
    path, out, manifest = filtered
    other = filter_corpus(
        path, corpora.NumberRater(), output_dir=str(tmp_path / "out"),
        score_file=str(tmp_path / "s.jsonl"), **{**SETTINGS, "shard_bytes": 1 << 30},
    )  # fmt: skip
    assert len(other["files"]) == 3 < len(manifest["files"])  # both files in one shard
    assert corpora.lines(tmp_path / "out", "kept") == corpora.lines(out, "kept")
    assert corpora.lines(tmp_path / "out", "dropped") == corpora.lines(out, "dropped")
    assert other["input_fingerprint"] == manifest["input_fingerprint"]


@pytest.mark.parametrize("suffix", ["jsonl", "parquet"])
def test_existing_scores_in_any_order_decide_alike_without_a_rater(filtered, tmp_path, suffix):
    path, out, _ = filtered
    scores = str(tmp_path / f"scores.{suffix}")
    score_corpus(path, corpora.NumberRater(), scores)
    if suffix == "jsonl":
        turned = open(scores).read().splitlines()[::-1]
        open(scores, "w").write("\n".join(turned))
    os.remove(scores + ".manifest.json")
    filter_corpus(path, scores=scores, output_dir=str(tmp_path / "out"), **SETTINGS)
    assert corpora.output_bytes(tmp_path / "out") == corpora.output_bytes(out)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda lines: lines[:-1], "'d599' .source 'odd'. has no score in"),
        (lambda lines: [*lines, lines[-1].replace("d599", "d600")], "1 scores of documents that"
         " are not in the corpus, such as 'd600'"),
        (lambda lines: [*lines, lines[0].replace('"score": 0.0', '"score": 3.5')],
         "gives the id 'd0' two scores"),
        (lambda lines: [*lines, lines[0].replace("0.0", "zero")], "line 601: not a line of a"),
        (lambda lines: [], "holds no scores"),
    ],
)  # fmt: skip
def test_scores_that_are_not_of_this_corpus_are_refused(filtered, tmp_path, change, message):
    path, _, _ = filtered
    scores, out = tmp_path / "scores.jsonl", tmp_path / "out"
    score_corpus(path, corpora.NumberRater(), str(scores))
    os.remove(f"{scores}.manifest.json")
    scores.write_text("\n".join(change(scores.read_text().splitlines())))
    with pytest.raises(DataError, match=message):
        filter_corpus(path, scores=str(scores), output_dir=str(out), **SETTINGS)
    assert not [name for name in os.listdir(out) if name != "_work"]


def test_copies_in_a_score_file_are_no_contradiction(filtered, tmp_path):
    path, out, _ = filtered
    scores = tmp_path / "scores.jsonl"
    score_corpus(path, corpora.NumberRater(), str(scores))
    os.remove(f"{scores}.manifest.json")
    scores.write_text(scores.read_text() * 2)
    filter_corpus(path, scores=str(scores), output_dir=str(tmp_path / "out"), **SETTINGS)
    assert corpora.output_bytes(tmp_path / "out") == corpora.output_bytes(out)


def test_the_scores_of_another_rater_are_refused(filtered, tmp_path):
    path, _, manifest = filtered
    rater = corpora.NumberRater()
    rater.fingerprint = "cd" * 32
    with pytest.raises(DataError, match="another rater than the one given"):
        filter_corpus(path, rater, manifest["scores"], str(tmp_path / "out"), **SETTINGS)
    taken = manifest["scores"]
    with pytest.raises(DataError, match="exists already, and it was written by another rater"):
        filter_corpus(path, rater, None, str(tmp_path / "out"), score_file=taken, **SETTINGS)


def test_the_artefacts_reference_decides_in_one_pass(filtered, tmp_path, caplog):
    path, _, _ = filtered
    reads = []
    real = tf.io.gfile.GFile

    def counted(name, *arguments):
        reads.extend([name] if str(name).endswith(("a.jsonl", "b.jsonl")) else [])
        return real(name, *arguments)

    for high, drifted in ((600.0, False), (1000.0, True)):
        rater, out = corpora.NumberRater(high), str(tmp_path / f"out{high}")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(tf.io.gfile, "GFile", counted)
            manifest = filter_corpus(
                path, rater, output_dir=out, reference="artefact",
                score_file=str(tmp_path / f"{high}.jsonl"),
                **{**SETTINGS, "shard_bytes": 1 << 30},
            )  # fmt: skip
        assert len(reads) == 2 and rater.texts == N
        reads.clear()
        kept = {json.loads(line)["id"] for line in corpora.lines(out, "kept")}
        assert kept == expected_ids(reference=rater.document_reference)
        distance = 0.0 if high == 600 else 0.4
        assert manifest["drift"]["kolmogorov_smirnov"] == pytest.approx(distance, abs=3e-3)
        assert manifest["drift"]["drifted"] == drifted
        assert ("Kolmogorov-Smirnov distance 0." in caplog.text) == drifted
        assert len(read_scores(str(tmp_path / f"{high}.jsonl"))) == N


def test_existing_scores_under_the_artefacts_reference(filtered, tmp_path):
    path, _, manifest = filtered
    out = str(tmp_path / "out")
    filter_corpus(path, scores=manifest["scores"], output_dir=out, reference="artefact", **SETTINGS)
    kept = {json.loads(line)["id"] for line in corpora.lines(out, "kept")}
    assert kept == expected_ids(reference=ReferenceDistribution(np.array([0.0, 1000.0])))
    os.rename(manifest["scores"] + ".manifest.json", tmp_path / "aside")
    try:
        with pytest.raises(ConfigurationError, match="nor the manifest beside the scores has"):
            filter_corpus(
                path, scores=manifest["scores"], output_dir=str(tmp_path / "other"),
                reference="artefact", **SETTINGS,
            )  # fmt: skip
    finally:
        os.rename(tmp_path / "aside", manifest["scores"] + ".manifest.json")


def test_malformed_records_are_listed_with_their_lines(tmp_path):
    path, out = tmp_path / "c.jsonl", str(tmp_path / "out")
    lines = [json.dumps(row).encode() for row in ROWS[:200]]
    for at, bad in ((190, b'{"text": 5}'), (77, b"{"), (5, b"")):
        lines.insert(at, bad)
    path.write_bytes(b"\n".join(lines))
    manifest = filter_corpus(str(path), corpora.NumberRater(), output_dir=out, **SETTINGS)
    errors = [json.loads(line) for line in corpora.lines(out, "errors")]
    assert errors == [
        {
            "file": str(path), "position": 79, "record": 78, "reason": "not JSON",
            "detail": errors[0]["detail"],
        },
        {
            "file": str(path), "position": 193, "record": 192,
            "reason": "field 'text' is not a string", "detail": "it is a int",
        },
    ]  # fmt: skip
    assert len(manifest["files"]) == 9  # four shards, so that positions had to be carried over
    assert manifest["errors"] == {"field 'text' is not a string": 1, "not JSON": 1}
    assert manifest["counts"]["documents"] == 200
    listed = open(manifest["scores"] + ".errors.jsonl").read().splitlines()
    assert [json.loads(line) for line in listed] == errors


def test_copies_stay_or_go_together_and_other_texts_of_one_id_are_told(tmp_path):
    texts = [f"{n} words" for n in range(100)]
    path, out = tmp_path / "c.jsonl", str(tmp_path / "out")
    path.write_text("".join(json.dumps({"text": t}) + "\n" for t in texts for _ in range(3)))
    manifest = filter_corpus(str(path), corpora.NumberRater(), output_dir=out, **SETTINGS)
    kept = [json.loads(line)["text"] for line in corpora.lines(out, "kept")]
    assert manifest["counts"]["documents"] == 300 == len(kept) + len(corpora.lines(out, "dropped"))
    assert all(kept.count(text) in (0, 3) for text in texts) and 60 < len(kept) < 240
    assert manifest["repeated_ids"] is None

    path, out = tmp_path / "d.jsonl", str(tmp_path / "other")
    rows = [{"text": f"{n} words", "id": n % 50} for n in range(100)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = filter_corpus(str(path), corpora.NumberRater(), output_dir=out, **SETTINGS)
    assert manifest["repeated_ids"]["documents"] == 50
    assert manifest["repeated_ids"]["example"] in {str(n) for n in range(50)}
    assert manifest["counts"]["documents"] == 100
    # the same files in the same order: the scores can be used again
    again = str(tmp_path / "again")
    filter_corpus(str(path), scores=manifest["scores"], output_dir=again, **SETTINGS)
    assert corpora.output_bytes(again) == corpora.output_bytes(out)
    os.remove(manifest["scores"] + ".manifest.json")
    with pytest.raises(DataError, match="two scores, .* does not say of which file or order"):
        filter_corpus(
            str(path), scores=manifest["scores"], output_dir=str(tmp_path / "no"), **SETTINGS
        )


def test_sources_that_nobody_can_list(tmp_path, monkeypatch):
    from dr_keras.corpus_jobs import summary

    monkeypatch.setattr(summary, "MAXIMUM_SOURCES", 2)
    rows = [{"text": f"{n} x", "source": f"u{n}" if n > 9 else "ab"[n % 2]} for n in range(30)]
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    manifest = filter_corpus(
        str(path), corpora.NumberRater(), output_dir=str(tmp_path / "out"), **SETTINGS
    )
    counts = {name: facts["documents"] for name, facts in manifest["by_source"].items()}
    assert counts == {"(other sources)": 20, "a": 5, "b": 5}
    assert manifest["by_source"]["(other sources)"]["mean_score"] == np.mean(np.arange(10, 30))


def test_where_nothing_can_be_written_beside_the_corpus(filtered, tmp_path, monkeypatch):
    path, out, _ = filtered
    real = tf.io.gfile.makedirs

    def refuse(name):
        if "_scores" in str(name):
            raise tf.errors.PermissionDeniedError(None, None, "read only")
        real(name)

    corpora.write_jsonl(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setattr(tf.io.gfile, "makedirs", refuse)
    manifest = filter_corpus(
        str(tmp_path / "a.jsonl"), corpora.NumberRater(), output_dir=str(tmp_path / "out"),
        **SETTINGS,
    )  # fmt: skip
    assert manifest["scores"] == "scores.parquet"
    assert len(read_scores(str(tmp_path / "out" / "scores.parquet"))) == N
    with pytest.raises(ConfigurationError, match="No scores can be written beside"):
        score_corpus(str(tmp_path / "a.jsonl"), corpora.NumberRater())


@pytest.mark.parametrize(
    "settings, error, message",
    [
        (dict(discard_fraction=1.0), ConfigurationError, "discard_fraction is 1.0"),
        (dict(method="top"), ConfigurationError, "method is 'top'"),
        (dict(reference="c4"), ConfigurationError, "reference is 'c4'"),
        (dict(rater=None), ConfigurationError, "needs a rater or a score file"),
        (dict(shard_bytes=0), ConfigurationError, "shard_bytes is 0"),
        (dict(scores="no.jsonl"), DataError, "no.jsonl does not exist"),
        (dict(corpus="no.jsonl"), DataError, "no.jsonl: no such file"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(
    filtered, tmp_path, settings, error, message
):
    arguments = dict(corpus=filtered[0], rater=corpora.NumberRater(), **SETTINGS)
    with pytest.raises(error, match=message):
        filter_corpus(**{**arguments, "output_dir": str(tmp_path / "out"), **settings})
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_a_usable_record_says_why_and_can_be_mended(tmp_path):
    path, out = str(tmp_path / "c.jsonl"), str(tmp_path / "out")
    with open(path, "w") as file:
        file.write('{"content": "1 a"}\n{"content": "2 b"}\n')
    message = "not one record .* no field 'text' .*'content'.*Name the .*jsonl_corpus.text_field"
    with pytest.raises(DataError, match=message):
        filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)
    gin.parse_config("jsonl_corpus.text_field = 'content'")
    manifest = filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)
    assert manifest["counts"]["documents"] == 2
    open(path, "w").close()
    with pytest.raises(DataError, match="holds no documents"):
        filter_corpus(path, corpora.NumberRater(), output_dir=str(tmp_path / "b"), **SETTINGS)


def test_a_folder_that_holds_something_else_is_left_alone(filtered, tmp_path):
    path, out, _ = filtered
    with pytest.raises(DataError, match="holds a filtered corpus already"):
        filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)
    (tmp_path / "kept-mine.jsonl").write_text("mine")
    with pytest.raises(DataError, match="holds kept-mine.jsonl, which no unfinished job here"):
        filter_corpus(path, corpora.NumberRater(), output_dir=str(tmp_path), **SETTINGS)
    assert (tmp_path / "kept-mine.jsonl").read_text() == "mine"


def test_errors_name_the_setting_of_the_kind(tmp_path):
    corpora.write_tfrecord(tmp_path / "a.tfrecord", ROWS[:3])
    gin.parse_config("tfrecord_corpus.feature = 'body'")
    with pytest.raises(DataError, match="no feature 'body'.*\"tfrecord_corpus.feature = 'content'"):
        filter_corpus(
            str(tmp_path / "a.tfrecord"), corpora.NumberRater(), output_dir=str(tmp_path / "out"),
            **SETTINGS,
        )  # fmt: skip


@pytest.mark.parametrize("codec", ["zstd", "gzip", "none", "mixed"])
def test_kept_parquet_is_stored_as_it_came(tmp_path, codec):
    rows = [{"id": row["id"], "text": row["text"], "n": row["meta"]["n"]} for row in ROWS[:90]]
    table = pyarrow.Table.from_pylist(rows)
    views = table.column("text").cast(pyarrow.string_view())
    table = table.set_column(1, "text", views)  # pyarrow cannot take rows of such columns
    table = table.append_column("tags", pyarrow.array([["a", "b"], None, []] * 30))
    table = table.append_column("twice", [range(90)]).append_column("twice", [range(90, 180)])
    table = table.append_column("level", pyarrow.array(list("xyz") * 30).dictionary_encode())
    table = table.replace_schema_metadata({"made": "by hand"})
    columns = ("id", "text", "n", "tags.list.element", "twice", "level")
    mixed = dict(zip(columns, ("zstd", "snappy", "none", "gzip", "brotli", "lz4")))
    path, out = str(tmp_path / "a.parquet"), str(tmp_path / "out")
    pyarrow.parquet.write_table(
        table, path, 40, compression=mixed if codec == "mixed" else codec, use_dictionary=["id"]
    )
    settings = {**SETTINGS, "shard_bytes": 1 << 30}
    filter_corpus(path, corpora.NumberRater(), output_dir=out, **settings)
    with pyarrow.parquet.ParquetFile(os.path.join(out, "kept-00000-of-00001.parquet")) as file:
        kept, stored = file.read(), file.metadata.row_group(0)
    with pyarrow.parquet.ParquetFile(path) as file:
        before, schema = file.metadata.row_group(0), file.schema_arrow
    assert kept.schema.equals(schema, check_metadata=True)
    for number in range(before.num_columns):
        old, new = before.column(number), stored.column(number)
        assert (new.path_in_schema, new.compression) == (old.path_in_schema, old.compression)
        assert ("RLE_DICTIONARY" in new.encodings) == ("RLE_DICTIONARY" in old.encodings)
    numbers = [int(id[1:]) for id in kept.column("id").to_pylist()]
    assert len(numbers) > 20 and numbers == sorted(numbers)
    assert kept.column(4).to_pylist() == numbers
    assert kept.column(5).to_pylist() == [90 + n for n in numbers]
    assert kept.column("text").to_pylist() == [ROWS[n]["text"] for n in numbers]
    assert kept.column("tags").to_pylist() == [[["a", "b"], None, []][n % 3] for n in numbers]


def test_on_malformed_stops_files_too(tmp_path):
    path, out = str(tmp_path / "a.jsonl"), str(tmp_path / "out")
    corpora.write_jsonl(path, ROWS[:200])
    with open(path, "ab") as file:
        file.write(b'{"text": " "}\n\n{"text": 5}\n')
    manifest = filter_corpus(path, corpora.NumberRater(), output_dir=out, **SETTINGS)
    assert manifest["errors"] == {"empty text": 1, "field 'text' is not a string": 1}
    gin.parse_config("jsonl_corpus.on_malformed = 'skip'")
    again = filter_corpus(path, corpora.NumberRater(), output_dir=f"{out}2", **SETTINGS)
    assert again["errors"] == manifest["errors"] and again["fields"] == manifest["fields"]
    gin.parse_config("jsonl_corpus.on_malformed = 'stop'")
    message = (
        "a.jsonl, line 203: field 'text' is not a string .it is a int.; set jsonl_corpus.text_field"
    )
    with pytest.raises(DataError, match=message):
        filter_corpus(path, corpora.NumberRater(), output_dir=f"{out}3", **SETTINGS)
    assert not os.path.exists(f"{out}3/manifest.json")
