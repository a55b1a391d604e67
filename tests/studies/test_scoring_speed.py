"""Speed of scoring: what is counted as scored, and that every way is measured."""

import numpy as np
import pytest

from dr_keras.data.tokenizers import byte_tokenizer
from dr_keras.models.ngram_rater import ngram_rater
from dr_keras.rating.reference import ReferenceDistribution
from dr_keras.serving.export import export_rater
from dr_keras.serving.loading import load_rater
from dr_keras.studies import scoring_speed

TEXTS = ["a" * 20, "tea", "ü" * 8]  # 20, 3 and 16 bytes


@pytest.fixture(scope="module")
def rater(tmp_path_factory):
    reference = ReferenceDistribution.from_scores(np.arange(4.0))
    model = ngram_rater(258, 8, orders=(1,), buckets=512)
    path = str(tmp_path_factory.mktemp("rater"))
    return load_rater(export_rater(model, byte_tokenizer(), 8, path, reference))


def test_a_batch_stands_for_the_bytes_of_its_windows(rater):
    size, batches = scoring_speed._batches(rater, TEXTS, rows=12)
    assert size == pytest.approx(12 * 39 / (3 + 1 + 2))
    first, second = (batch.numpy() for batch in batches.take(2))
    assert first.shape == (12, 8)
    np.testing.assert_array_equal(first[:6], first[6:])  # from the first text again
    np.testing.assert_array_equal(first, second)


def test_the_rate_counts_what_follows_the_first_step(monkeypatch):
    clock = iter([10.0, 10.1, 10.5, 11.0])
    monkeypatch.setattr(scoring_speed.time, "process_time", lambda: next(clock))
    steps = iter([1e9, 300.0, 200.0])
    assert scoring_speed._rate(steps, 0.3) == pytest.approx(500 / (11.0 - 10.0))


def test_a_rater_without_matrix_products_is_light(rater):
    assert rater.light  # and one with them is not: tests/pipelines/test_adapters.py


def test_every_way_has_a_figure(rater):
    found = scoring_speed.megabytes_a_second(rater, TEXTS, ("texts", "pipeline"), seconds=0.001)
    assert list(found) == ["texts", "pipeline"] and all(value > 0 for value in found.values())
