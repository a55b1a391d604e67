"""The discard fraction that scores stand for, on cases whose answer is known."""

import numpy as np
import pytest

from dr_keras.errors import DataError
from dr_keras.meta.weighting import example_softmax
from dr_keras.studies.learned_fraction import learned_fraction
import gin


def test_scores_that_choose_a_share_have_learned_it():
    scores = np.where(np.arange(4000) % 4 == 0, 0.0, -50.0)  # a quarter has all the weight
    gin.bind_parameter("MetaTrainer.inner_batch_size", 64)
    found = learned_fraction(scores, batches=100)
    assert found["discard_fraction"] == pytest.approx(0.75, abs=0.02)
    assert found["deviation"] == pytest.approx(np.sqrt(0.25 * 0.75 / 64), rel=0.3)
    assert found["batch_size"] == 64
    whole = learned_fraction(scores, batch_size=9999, batches=1)  # no more than there are
    assert whole == {"discard_fraction": pytest.approx(0.75), "deviation": 0.0, "batch_size": 4000}


def test_equal_scores_keep_all_whatever_their_lengths():
    counts = np.arange(1.0, 101)
    weighting = example_softmax(count_tokens=True)
    found = learned_fraction(np.full(100, 7.0), counts, weighting, 10, 20)
    assert found["discard_fraction"] == pytest.approx(0.0, abs=1e-12)
    # Of tokens: the longest quarter of four examples holds 4 of 10.
    found = learned_fraction([0, 0, 0, 60.0], [1, 2, 3, 4.0], weighting, 4, 1)
    assert found["discard_fraction"] == pytest.approx(0.6)


def test_normal_scores_of_unit_deviation():
    """E[e^s]^2 / E[e^2s] is 1 / e for them; a batch keeps a little more."""
    scores = np.random.default_rng(0).normal(size=20_000)
    found = learned_fraction(scores, batch_size=512)
    assert 1 - found["discard_fraction"] == pytest.approx(np.exp(-1), abs=0.05)


def test_scores_that_are_none():
    for scores in ([], [0.0, np.nan]):
        with pytest.raises(DataError, match="learned_fraction: of . scores . are not finite"):
            learned_fraction(scores)
