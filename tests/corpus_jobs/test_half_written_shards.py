"""A shard's files get their names whole or not at all; one that is lost or cut is made again."""

import glob
import gzip
import os

import pyarrow.parquet
import pytest
import shard_corpora as corpora
import tensorflow as tf

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.rating.score_files import read_scores

WRITERS = {
    "jsonl": corpora.write_jsonl,
    "jsonl.gz": corpora.write_jsonl,
    "parquet": corpora.write_parquet,
    "tfrecord": corpora.write_tfrecord,
}
SETTINGS = dict(discard_fraction=0.5, batch_size=16, seed=5, reference="artefact")


def of_shards(folder):
    """Files of shards below a folder, those under temporary names left out."""
    places = [where for where, _, _ in os.walk(folder) if os.path.basename(where) != "tmp"]
    return sorted(path for where in places for path in glob.glob(f"{where}/*[0-9]-of-[0-9]*"))


class WatchingRater(corpora.NumberRater):
    """Ends the run in the middle of a shard, and looks at what is there by then."""

    def __init__(self, folder):
        super().__init__(high=120.0)
        self.folder, self.seen = folder, None

    def score_texts(self, texts, scoring):
        if self.texts >= 60:
            self.seen = of_shards(self.folder)
            raise KeyboardInterrupt
        return super().score_texts(texts, scoring)


@pytest.mark.parametrize("suffix", WRITERS)
def test_no_file_has_its_name_while_its_shard_is_being_done(tmp_path, suffix):
    path, out = tmp_path / f"c.{suffix}", tmp_path / "out"
    WRITERS[suffix](path, corpora.rows(120))
    rater = WatchingRater(out)
    # steps of few documents, so that records have been written by then
    with pytest.raises(KeyboardInterrupt):
        filter_corpus(
            str(path), rater, output_dir=str(out), score_file=str(tmp_path / "s.parquet"),
            step_bytes=200, **SETTINGS,
        )  # fmt: skip
    assert rater.texts >= 60 and rater.seen == of_shards(out) == []
    assert not (tmp_path / "s.parquet").exists()


def records(path):
    """How many records a file holds, read as anybody would read it."""
    if ".parquet" in path:
        return pyarrow.parquet.read_metadata(path).num_rows
    if ".tfrecord" in path:
        return sum(1 for _ in tf.data.TFRecordDataset(path))
    opened = gzip.open if path.endswith(".gz") else open
    with opened(path, "rb") as file:
        return len(file.read().splitlines())


@pytest.mark.parametrize("suffix", WRITERS)
def test_files_are_whole_when_they_get_their_names(tmp_path, suffix, monkeypatch):
    path, out = tmp_path / f"c.{suffix}", tmp_path / "out"
    WRITERS[suffix](path, corpora.rows(120))
    seen = {}

    def watched(real):
        def rename(source, target, **options):
            if not target.endswith(".json"):
                seen[os.path.basename(target)] = records(source)
            real(source, target, **options)

        return rename

    monkeypatch.setattr(tf.io.gfile, "rename", watched(tf.io.gfile.rename))
    monkeypatch.setattr(os, "replace", watched(os.replace))
    manifest = filter_corpus(
        str(path), corpora.NumberRater(high=120.0), output_dir=str(out),
        score_file=str(tmp_path / "s.parquet"), **SETTINGS,
    )  # fmt: skip
    counts = manifest["counts"]
    found = {kind: sum(n for name, n in seen.items() if name.startswith(kind))
             for kind in ("kept", "dropped")}  # fmt: skip
    assert found == {"kept": counts["kept"], "dropped": counts["dropped"]}
    assert counts["documents"] == 120 and min(found.values()) > 20
    # the part, and the score file made of it
    assert [n for name, n in seen.items() if name.endswith(".parquet") and "kept" not in name] == [
        120, 120
    ]  # fmt: skip


def write_with_bad_lines(path):
    rows = corpora.rows(120)
    corpora.write_jsonl(path, [rows[n * 37 % 120] for n in range(120)])
    lines = path.read_bytes().splitlines()
    lines[10::20] = [b"{bad"] * len(lines[10::20])
    path.write_bytes(b"\n".join(lines) + b"\n")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    write_with_bad_lines(folder / "c.jsonl")
    return folder, {reference: finish(folder, folder / reference, reference)
                    for reference in ("artefact", "corpus")}  # fmt: skip


def finish(folder, out, reference, rater=None):
    """Runs to the end; kept, dropped and errors by name, scores, and the manifest's counts."""
    manifest = run(folder, out, reference, rater or corpora.NumberRater(high=120.0))
    scores = read_scores(f"{out}-scores.parquet")
    stored = dict(zip(scores.ids, scores.score.tolist()))
    return corpora.output_bytes(out), stored, manifest["counts"], manifest["errors"]


def run(folder, out, reference, rater):
    settings = SETTINGS | {"reference": reference}
    return filter_corpus(
        str(folder / "c.jsonl"), rater, output_dir=str(out),
        score_file=f"{out}-scores.parquet", shard_bytes=2500, **settings,
    )  # fmt: skip


def first_shard(out, kind):
    places = {
        "kept": out, "dropped": out,
        "scores": out / "_work" / "scores", "errors": out / "_work" / "errors",
    }  # fmt: skip
    prefix = f"{kind}-" if kind in ("kept", "dropped") else ""
    (path,) = places[kind].glob(f"{prefix}00000-of-*")
    return path


@pytest.mark.parametrize("harm", ["lost", "cut", "grown"])
@pytest.mark.parametrize("reference, kind", [
    ("artefact", "kept"), ("artefact", "dropped"), ("artefact", "scores"), ("artefact", "errors"),
    ("corpus", "scores"), ("corpus", "errors"),
])  # fmt: skip
def test_a_shard_that_lost_a_file_is_done_again(undisturbed, tmp_path, reference, kind, harm):
    folder, expected = undisturbed
    out = tmp_path / "out"
    rater = corpora.NumberRater(high=120.0, die_after=50)
    with pytest.raises(KeyboardInterrupt):
        run(folder, out, reference, rater)
    path = first_shard(out, kind)
    whole = path.read_bytes()
    assert len(whole) > 20
    if harm == "lost":
        path.unlink()
    else:
        path.write_bytes(whole[:-7] if harm == "cut" else whole + b"\n")
    again = corpora.NumberRater(high=120.0)
    assert finish(folder, out, reference, again) == expected[reference]
    # what was whole is not done again
    assert 114 - rater.texts < again.texts < 114
