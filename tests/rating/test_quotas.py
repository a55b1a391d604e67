"""Quotas by source: shares that are kept, as arrays, in tf.data, and of files."""

import json
import pickle

import numpy as np
import pytest
import tensorflow as tf

from dr_keras.corpus_jobs.filtering import filter_corpus
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.pipelines.transformations import filter_by_percentile
from dr_keras.rating import quotas
from dr_keras.rating.rules import Amount, decide, find_rule

N = 600
IDS = [f"d{n}" for n in range(N)]
SOURCES = [("web", "books", "code")[n % 3] for n in range(N)]
SCORES = np.random.default_rng(0).normal(size=N).astype(np.float32)
SCORES[np.array(SOURCES) == "books"] += 4  # over the whole corpus, web and code would vanish


def deciding(table, method="threshold", fraction="0.5"):
    of = {s: SCORES[np.array(SOURCES) == s] for s in dict.fromkeys(SOURCES)}
    rule = find_rule(method).decide
    return quotas.within_sources(
        rule, Amount(fraction, seed=3), table, quotas.references_by_source(of)
    )


def kept_share(keep, source):
    return keep[np.array(SOURCES) == source].mean()


def test_every_source_keeps_its_share_of_its_best():
    decisions = pickle.loads(pickle.dumps(deciding({"web": 0.25, "code": 1})))(IDS, SCORES, SOURCES)
    assert kept_share(decisions.keep, "web") == pytest.approx(0.25, abs=0.01)
    assert kept_share(decisions.keep, "code") == 1
    assert kept_share(decisions.keep, "books") == pytest.approx(0.5, abs=0.01)
    web = np.array(SOURCES) == "web"
    assert SCORES[web & decisions.keep].min() > SCORES[web & ~decisions.keep].max()
    alike = deciding("proportional")(IDS, SCORES, SOURCES).keep
    for source in ("web", "books", "code"):
        assert kept_share(alike, source) == pytest.approx(0.5, abs=0.01)
    together = decide(IDS, SCORES, "0.5", method="threshold").keep
    assert kept_share(together, "books") > 0.99 > 0.3 > kept_share(together, "web")


def test_of_one_source_proportional_is_what_goes_without_quotas():
    one = quotas.references_by_source({"": SCORES})
    rule = find_rule("keep_probability").decide
    found = quotas.within_sources(rule, Amount(0.3, seed=3), "proportional", one)
    plain = decide(IDS, SCORES, 0.3, seed=3)
    np.testing.assert_array_equal(found(IDS, SCORES, [""] * N).keep, plain.keep)
    assert found.expected(find_rule("threshold"), {"": N}) == pytest.approx(0.3)


def test_a_pipeline_decides_as_arrays_do():
    table = {"web": 0.25, "code": 0.9}
    expected = deciding(table, "keep_probability")(IDS, SCORES, SOURCES).keep
    of = {s: SCORES[np.array(SOURCES) == s] for s in dict.fromkeys(SOURCES)}
    rows = {"id": [*IDS, "x"], "source": [*SOURCES, "new"], "score": [*SCORES, 99.0]}
    kept = tf.data.Dataset.from_tensor_slices(rows).apply(
        filter_by_percentile(
            lambda score: score, "0.5", seed=3, key="score", ids="id", sources="source",
            quotas=table, reference=quotas.references_by_source(of), rows_a_call=100,
        )
    )  # fmt: skip
    found = [row["id"].decode() for row in kept.as_numpy_iterator()]
    assert found == [IDS[n] for n in np.flatnonzero(expected)]  # nor what is of another source
    with pytest.raises(ConfigurationError, match="Quotas need all of"):
        filter_by_percentile(lambda score: score, "0.5", quotas=table)


def test_files_are_filtered_by_quotas_however_they_are_cut(tmp_path):
    path = tmp_path / "in.jsonl"
    rows = [{"id": i, "text": f"{s:.6f}", "source": o} for i, s, o in zip(IDS, SCORES, SOURCES)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    rater = lambda texts: np.array([float(text) for text in texts], np.float32)  # noqa: E731
    kept = []
    for name, size in (("a", 1 << 20), ("b", 4000)):
        manifest = filter_corpus(
            str(path), rater, output_dir=str(tmp_path / name), discard_fraction="0.5",
            method="threshold", quotas={"web": "0.25"}, shard_bytes=size,
        )  # fmt: skip
        files = sorted((tmp_path / name).glob("kept-*.jsonl"))
        kept.append([line for file in files for line in file.read_text().splitlines()])
    assert kept[0] == kept[1] and len(files) > 3
    assert manifest["settings"]["quotas"] == {"web": "1/4"}
    by_source = manifest["by_source"]
    assert {name: tally["kept"] for name, tally in by_source.items()} == pytest.approx(
        {"web": 50, "books": 100, "code": 100}, abs=1
    )
    assert manifest["expected_fraction"] == pytest.approx((0.75 + 0.5 + 0.5) / 3)
    assert manifest["achieved_fraction"] == pytest.approx(manifest["expected_fraction"], abs=0.01)


@pytest.mark.parametrize(
    "table, message",
    [
        ("equal", "quotas is 'equal': give 'proportional'"),
        ({"web": 0}, "quota of 'web' is 0: give the share of it that is kept"),
        ({"web": "many"}, "quota of 'web' is 'many'"),
        ({"wbe": 0.5}, "name the source 'wbe', and there are only 'books', 'code', 'web'"),
    ],
)
def test_quotas_that_cannot_be_are_refused(table, message):
    with pytest.raises(ConfigurationError, match=message):
        deciding(table)


def test_sources_that_cannot_be_ranked_within_are_refused(tmp_path):
    with pytest.raises(DataError, match="Of the source 'a': None of the 1 scores is finite"):
        quotas.references_by_source({"a": np.array([np.nan])})
    many = {str(n): np.zeros(1) for n in range(quotas.MOST_SOURCES + 1)}
    with pytest.raises(DataError, match="1,001 sources, and quotas take at most 1000"):
        quotas.references_by_source(many)
    with pytest.raises(DataError, match="source 'new', of which there were no scores"):
        deciding("proportional")(["x"], [1.0], ["new"])
    with pytest.raises(ConfigurationError, match="use reference 'corpus'"):
        filter_corpus(
            "x", lambda t: t, output_dir=str(tmp_path / "o"), discard_fraction=0.5,
            quotas="proportional", reference="artefact",
        )  # fmt: skip
