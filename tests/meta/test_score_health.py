"""Figures of the scores of meta-training's batches, against what they were made of."""

import numpy as np
import pytest
from scipy import stats

from dr_keras.meta import score_health

SOURCES = np.array(["books", "code", "web"], object)


@pytest.fixture(scope="module")
def batches():
    """Scores [200, 16] of known make, whose level wanders; lengths and sources of the examples."""
    rng = np.random.default_rng(0)
    shape = (200, 16)
    lengths = rng.integers(1, 12, shape).astype(float)
    place = rng.choice(3, shape, p=[0.5, 0.25, 0.25])
    level = np.cumsum(rng.normal(size=(200, 1)), axis=0) * 20
    own = np.array([0.5, 0.0, -1.0])[place] + 0.3 * rng.normal(size=shape)
    return level, own, lengths, SOURCES[place]


def test_ranks_are_scipys_ties_included():
    values = np.random.default_rng(0).integers(0, 9, 50).astype(float)
    np.testing.assert_array_equal(score_health.ranks(values), stats.rankdata(values) - 1)
    other = values**2 + np.random.default_rng(1).normal(size=50)
    assert score_health.rank_correlation(values, other) == pytest.approx(
        stats.spearmanr(values, other).statistic
    )
    assert score_health.rank_correlation(values, np.ones(50)) is None


def test_the_level_that_scores_share_is_no_spread(batches):
    level, own, lengths, sources = batches
    still = score_health.figures(own, lengths, sources, SOURCES)
    moved = score_health.figures(own + level, lengths, sources, SOURCES)
    assert moved == pytest.approx(still)
    assert np.std(own + level) > 10 * moved["score_spread"]


def test_spread_is_that_between_sources_and_within(batches):
    level, own, lengths, sources = batches
    found = score_health.figures(own + level, lengths, sources, ["books", "web"])
    # Between: 0.5, 0 and -1 in shares of 1/2, 1/4 and 1/4 around 0.
    assert found["score_spread_between_sources"] == pytest.approx(np.sqrt(0.375), rel=0.05)
    assert found["score_spread_within_sources"] == pytest.approx(0.3, rel=0.1)
    parts = [found[f"score_spread_{part}_sources"] for part in ("between", "within")]
    assert np.hypot(*parts) == pytest.approx(found["score_spread"])
    assert found["score_mean/books"] == pytest.approx(0.5, abs=0.05)
    assert found["score_mean/web"] == pytest.approx(-1.0, abs=0.05)
    assert found["score_spread/web"] == pytest.approx(0.3, rel=0.1)
    assert not any("code" in name for name in found)


def test_length_shows_where_scores_follow_it(batches):
    level, own, lengths, _ = batches
    assert abs(score_health.figures(own + level, lengths)["score_length_correlation"]) < 0.1
    for sign in (1, -1):
        follow = score_health.figures(own + sign * lengths + level, lengths)
        assert 0.9 < sign * follow["score_length_correlation"] < 1
        (said,) = score_health.warnings(follow)
        assert "follow length" in said and ("long" if sign > 0 else "short") in said
        assert "example_softmax.count_tokens = True, mean_loss.count_tokens = True" in said
    assert score_health.warnings(score_health.figures(own, lengths)) == []


def test_length_shows_where_few_examples_are_short():
    """Nine of ten are full: ranks hardly see what is most of the variance."""
    rng = np.random.default_rng(0)
    shape = (200, 16)
    lengths = np.where(rng.random(shape) < 0.9, 128.0, rng.integers(2, 128, shape))
    scores = np.log(lengths) + 0.05 * rng.normal(size=shape)
    found = score_health.figures(scores, lengths)
    assert found["score_length_correlation"] < 0.6 and found["score_length_share"] > 0.9
    (said,) = score_health.warnings(found)
    assert "90% of" not in said and "follow length" in said and "minimum_tokens" in said
    # By hand: of scores 0 and 3 (variance 9/4) at two lengths, all; of chance, next to nothing.
    assert score_health.explained_by_length(np.array([0, 0, 3, 3.0]), np.array([2, 2, 9, 9.0])) == (
        pytest.approx(1)
    )
    half = score_health.explained_by_length(np.array([0, 2, 1, 3.0]), np.array([2, 2, 9, 9.0]))
    assert half == pytest.approx(0.2)  # of 1.25, between lengths: 0.25
    noise = score_health.figures(rng.normal(size=shape), lengths)
    assert noise["score_length_share"] < 0.01 and score_health.warnings(noise) == []
    assert score_health.explained_by_length(np.ones(4), np.arange(4.0)) is None


def test_scores_that_hardly_differ_are_warned_of(batches):
    level, own, lengths, _ = batches
    (said,) = score_health.warnings(score_health.figures(0.01 * own + level, lengths))
    assert "hardly differ" in said


def test_what_is_not_defined_is_left_out(batches):
    _, own, lengths, sources = batches
    assert list(score_health.figures(own)) == ["score_spread"]
    full = np.full_like(lengths, 128.0)
    assert list(score_health.figures(own, full, np.full_like(sources, "web"))) == ["score_spread"]
    assert score_health.figures(own[:, :1], lengths[:, :1], sources[:, :1]) == {}
    assert score_health.figures(np.full((2, 4), np.nan)) == {}
    blown_up = np.where(np.arange(200)[:, None] == 3, np.nan, own)  # one member's batch
    kept = np.arange(200) != 3
    assert score_health.figures(blown_up, lengths, sources, SOURCES) == score_health.figures(
        own[kept], lengths[kept], sources[kept], SOURCES
    )


def test_lengths_are_what_the_loss_counts_or_the_real_tokens(example_set):
    tokens = np.array([[5, 3, 0, 0], [1, 0, 0, 0], [2, 2, 2, 2]], np.int32)
    rows = np.array([2, 0])
    texts = example_set({"tokens": tokens})
    assert score_health.lengths(texts, rows).tolist() == [4, 2]
    by_token = score_health.lengths(texts, rows, lambda batch: batch["tokens"] > 1)
    assert by_token.tolist() == [4, 2]
    many = np.resize(rows, 3000)
    targets = score_health.lengths(texts, many, lambda batch: batch["tokens"][:, 0])
    assert targets.tolist() == np.resize([2, 5], 3000).tolist()
    assert score_health.lengths(example_set({"x": tokens}), rows) is None
