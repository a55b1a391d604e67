"""Importance weights and nearest sources, against counts made by hand."""

import numpy as np
import pool
import pytest

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.best_sources import best_sources
from dr_keras.baselines.classifier import NgramFeatures
from dr_keras.baselines.dsir import dsir
from dr_keras.errors import ConfigurationError
import gin

# Unigrams in two buckets, so that shares are seen at a glance: a and b fall into different ones.
WORDS = NgramFeatures("words", (1,), 2)
TEXTS = ["a a b", "a", "b b b b", ""]
OUTER = ["a a a", "b"]


def found(**settings):
    return dsir(pool.candidates(4, TEXTS), pool.candidates(2, OUTER), WORDS, **settings)


def test_weights_are_logs_of_shares():
    assert len(set(WORDS.counts(["a", "b"]).nonzero()[1])) == 2
    # the pool has a three times, b five times, the outer part three times and once; one more each
    a, b = np.log((4 / 6) / (4 / 10)), np.log((2 / 6) / (6 / 10))
    sums = [2 * a + b, a, 4 * b]
    assert np.allclose(found(mean=False).values[:3], sums)
    assert np.allclose(found().values[:3], np.array(sums) / [3, 1, 4])
    assert np.isnan(found().values[3]) and np.isnan(found(mean=False).values[3])
    half = np.log((3.5 / 5) / (3.5 / 9))
    assert found(smoothing=0.5).values[1] == pytest.approx(half)
    with pytest.raises(ConfigurationError, match="smoothing is 0"):
        found(smoothing=0)
    with pytest.raises(ConfigurationError, match="'dsir' scores by what the outer part looks like"):
        dsir(pool.candidates(4, TEXTS), None)


def test_the_papers_buckets_are_used_where_none_are_bound():
    texts = ["one two three", "two three"]
    given = NgramFeatures("words", (1, 2), 10_000)
    assert given.counts(texts).sum(axis=1).ravel().tolist() == [[5, 3]]
    pools = pool.candidates(2, texts), pool.candidates(1, ["three one"])
    assert np.array_equal(dsir(*pools).values, dsir(*pools, given).values)


def test_gumbel_noise_samples_in_proportion_to_the_weights():
    """The one of three that is kept, many times over, is each with its chance."""
    draws = 1500
    texts = ["a", "b", "a"] * draws
    found, outer = pool.candidates(3 * draws, texts), pool.candidates(2, ["a a", "b"])
    plain = dsir(found, outer, WORDS, mean=False).values[:3]
    noisy = dsir(found, outer, WORDS, mean=False, gumbel=True).values.reshape(-1, 3)
    kept = np.bincount(noisy.argmax(1), minlength=3) / draws
    chance = np.exp(plain) / np.exp(plain).sum()
    assert np.abs(kept - chance).max() < 4 * np.sqrt(0.25 / draws)
    again = dsir(found, outer, WORDS, mean=False, gumbel=True, seed=1).values.reshape(-1, 3)
    assert not np.array_equal(noisy, again)


def test_nearest_sources_whole_and_the_last_by_hash():
    texts = ["a a b"] * 4 + ["a"] * 3 + ["b b"] * 3
    sources = ["mixed"] * 4 + ["near"] * 3 + ["far"] * 3
    candidates, outer = pool.candidates(10, texts, sources), pool.candidates(2, ["a", "a"])
    scores = best_sources(candidates, outer, WORDS)
    assert list(scores.facts["nearness"]) == ["near", "mixed", "far"]
    # the pool has a 11 times of 21, the outer part twice of twice; one more each
    a, b = np.log((3 / 4) / (12 / 23)), np.log((1 / 4) / (11 / 23))
    assert np.allclose(scores.values, [(2 * a + b) / 3] * 4 + [a] * 3 + [b] * 3)
    gin.bind_parameter("best_sources.ngrams", WORDS)
    study = Baselines(candidates, outer)
    kept = [study.select("best_sources", 0.5, seed).rows.tolist() for seed in range(8)]
    for rows in kept:  # all of the nearest, two of the next, none of the last
        assert set(rows) >= {4, 5, 6} and len(rows) == 5 and max(rows) < 7
    assert len({tuple(rows) for rows in kept}) > 1
