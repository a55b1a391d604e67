"""The reference distribution of an exported run: which examples, and the means of documents."""

import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet, document_ids
from dr_keras.runs.export import recorded_operative_config
from dr_keras.runs.samples import whole_documents
from dr_keras.serving.export import document_scores


def windows(counts):
    ids = [f"d{d}#{k}" for d, count in enumerate(counts) for k in range(count)]
    tokens = np.ones((len(ids), 4), np.int32)
    names = np.array(["a"] * len(ids), object)
    return ExampleSet({"tokens": tokens}, np.array(ids, object), names, names)


def test_sample_is_of_whole_documents_and_about_the_size_asked_for():
    counts = np.random.default_rng(0).integers(1, 30, 400)
    examples = windows(counts)
    sample = whole_documents(examples, 1000)
    assert 970 < len(sample) <= 1000
    for owner in set(document_ids(sample)):
        assert (document_ids(sample) == owner).sum() == counts[int(owner[1:])]


def test_sample_does_not_depend_on_the_order():
    examples = windows([3] * 300)
    backwards = examples.take(np.arange(len(examples))[::-1])
    chosen = set(whole_documents(examples, 90).ids)
    assert set(whole_documents(backwards, 90).ids) == chosen
    assert len(chosen) == 90


def test_small_sets_are_taken_whole_and_one_long_document_is_not_cut():
    assert len(whole_documents(windows([2, 2]), 10)) == 4
    assert len(whole_documents(windows([50]), 10)) == 50


def test_document_scores_weigh_windows_by_real_tokens():
    examples = windows([2, 1])
    examples.features["tokens"][1, 1:] = 0  # the second window has one real token of four
    scores = document_scores(examples, np.array([1.0, 6.0, 3.0]))
    assert scores == pytest.approx([(4 * 1.0 + 1 * 6.0) / 5, 3.0])


def test_the_operative_config_is_that_of_the_stretch_the_step_was_in(tmp_path):
    for step in (0, 50, 300):
        (tmp_path / f"operative_config-{step}.gin").write_text(f"a.b = {step}")
    (tmp_path / "operative_config-last.gin").write_text("not a record")
    expected = {0: 0, 49: 0, 50: 50, 299: 50, 1000: 300}
    for step, recorded in expected.items():
        assert recorded_operative_config(tmp_path, step) == f"a.b = {recorded}"
