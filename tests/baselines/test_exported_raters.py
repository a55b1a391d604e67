"""Exported raters as a scorer: means over raters, costs, and what does not fit."""

import numpy as np
import pytest

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.exported_raters import (
    ExportedRaters,
    rater_sequence_length,
    rater_tokenizer,
    rater_vocabulary_size,
)
from dr_keras.data.documents import make_document
from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import ArtefactError, ConfigurationError, DataError
from dr_keras.models.ngram_rater import ngram_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_examples, export_rater

TEXTS = ["tea and cake", "a longer text of several windows", "xyz", "tea tea"]
LENGTH = 8


def linear(seed):
    rater = ngram_rater(258, LENGTH, orders=(1, 2), buckets=64)
    values = np.random.default_rng(seed).normal(size=(128, 1))
    rater.get_layer("table").set_weights([values])
    return rater


@pytest.fixture(scope="module")
def windows():
    documents = [make_document(text, "s", f"d{k}") for k, text in enumerate(TEXTS)]
    return window_documents(documents, byte_tokenizer(), LENGTH, minimum_tokens=1)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, windows):
    """Paths and Keras models of two raters, the second of a much larger scale."""
    found = []
    for seed, scale in ((0, 1.0), (1, 100.0)):
        rater = linear(seed)
        table = rater.get_layer("table")
        table.set_weights([scale * table.get_weights()[0]])
        scores = rater({"tokens": windows.features["tokens"]}).numpy()
        reference = ReferenceDistribution.from_scores(scores)
        path = tmp_path_factory.mktemp("rater")
        export_rater(rater, byte_tokenizer(), LENGTH, str(path), reference)
        found.append((str(path), rater, reference))
    return found


def test_the_mean_percentile_or_score_of_several_raters(windows, exported):
    paths = [path for path, _, _ in exported]
    scores = [rater({"tokens": windows.features["tokens"]}).numpy() for _, rater, _ in exported]
    percentiles = [known.percentile(s) for s, (_, _, known) in zip(scores, exported)]
    teacher = ExportedRaters(raters=paths)
    found = teacher(window_candidates(windows))
    np.testing.assert_allclose(found.values, np.mean(percentiles, axis=0), atol=1e-5)
    by_score = ExportedRaters(raters=paths, by="score")(window_candidates(windows))
    np.testing.assert_allclose(by_score.values, np.mean(scores, axis=0), rtol=1e-4, atol=1e-5)
    # lookups and sums alone
    assert found.forward_flops == 0 and "reason" not in found.facts and found.facts["by"]
    assert [one["parameters"] for one in found.facts["raters"]] == [128, 128]
    known = [one["fingerprint"][:12] for one in found.facts["raters"]]
    assert teacher.__name__ == f"percentile of {known[0]} and {known[1]}"


def test_a_document_has_the_mean_of_its_windows_and_a_rater_is_an_arm(windows, exported):
    path, rater, _ = exported[0]
    arm = ExportedRaters(raters=[path], by="score")
    candidates = joined_candidates(windows)
    of_windows = rater({"tokens": windows.features["tokens"]}).numpy()
    expected = candidates.token_means(of_windows)
    np.testing.assert_allclose(arm(candidates).values, expected, rtol=1e-4)
    arms = Baselines(candidates, more_scorers={"student": arm})
    kept = arms.select("student", 0.5)
    assert set(np.flatnonzero(kept.kept)) == set(np.argsort(expected)[-2:])


def test_what_the_raters_read(exported):
    paths = [exported[0][0]]
    assert rater_tokenizer(paths).config() == {"kind": "byte"}
    assert (rater_sequence_length(paths), rater_vocabulary_size(paths)) == (LENGTH, 258)


def test_raters_that_do_not_fit(windows, exported, tmp_path):
    path = exported[0][0]
    with pytest.raises(ConfigurationError, match="by is 'rank': choose one of percentile, score"):
        ExportedRaters(raters=[path], by="rank")
    for given in ([], path):
        with pytest.raises(ConfigurationError, match="give a list .* --rater, once for each"):
            ExportedRaters(raters=given).loaded
    with pytest.raises(ArtefactError, match="none is not a directory"):
        ExportedRaters(raters=[str(tmp_path / "none")]).loaded
    shorter = ngram_rater(258, 4, orders=(1,), buckets=64)
    reference = ReferenceDistribution.from_scores(np.arange(4.0))
    other = export_rater(shorter, byte_tokenizer(), 4, str(tmp_path / "short"), reference)
    with pytest.raises(ConfigurationError, match="has the sequence_length 8, and .* 4: raters are"):
        ExportedRaters(raters=[path, other]).loaded
    with pytest.raises(DataError, match="have 8 tokens, and .* reads 4: bind text_data.tokenizer"):
        ExportedRaters(raters=[other])(window_candidates(windows))
    rows = ExampleSet({"tokens": windows.features["tokens"]}, *[windows.ids] * 3)
    of_rows = export_examples(shorter, rows, np.arange(float(len(rows))), str(tmp_path / "x"), {})
    with pytest.raises(ConfigurationError, match="is a rater of examples, and this takes .*text"):
        ExportedRaters(raters=[of_rows]).loaded


def test_windows_of_another_tokenizer_are_refused(windows, exported):
    class Other(type(byte_tokenizer())):
        def config(self):
            return {"kind": "wordpiece", "vocabulary": {"file": "words.txt", "sha256": "0"}}

    documents = [make_document("tea", "s", "d")]
    cut = window_documents(documents, Other(), LENGTH, minimum_tokens=1)
    teacher = ExportedRaters(raters=[exported[0][0]])
    with pytest.raises(DataError, match="wordpiece words.txt, and .* reads byte: .*runs/distill"):
        teacher(window_candidates(cut))
    with pytest.raises(DataError, match="has no tokens"):
        bare = ExampleSet({"x": np.zeros(1)}, *[np.array(["a"], object)] * 3)
        teacher(window_candidates(bare))
