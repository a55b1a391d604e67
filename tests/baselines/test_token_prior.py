"""Log-frequencies of tokens, against logs taken by hand."""

import numpy as np
import pool
import pytest

from dr_keras.baselines.candidates import joined_candidates, window_candidates
from dr_keras.baselines.token_prior import token_prior
from dr_keras.errors import ConfigurationError, DataError


def windows(rows):
    examples = pool.windows(len(rows) // 2, each=2, length=len(rows[0]))
    examples.features["tokens"][:] = rows
    return examples


# Of 12 tokens: 1 six times, 2 three times, 3 twice, 4 once.
ROWS = [[1, 1, 1, 1], [1, 2, 2, 0], [3, 3, 4, 0], [1, 2, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
LOGS = np.log(np.array([np.nan, 6, 3, 2, 1]) / 12)


def test_distance_from_the_medians_of_the_pool():
    found = token_prior(window_candidates(windows(ROWS)))
    texts = [LOGS[[token for token in row if token]] for row in ROWS[:4]]
    distance = np.zeros(4)
    for name, of in (("mean", np.mean), ("deviation", np.std)):
        values = np.array([of(text) for text in texts])
        assert found.facts["medians"][name] == pytest.approx(np.median(values))
        gap = np.abs(values - np.median(values))
        distance += (gap / np.median(gap)) ** 2
    assert np.allclose(found.values[:4], -np.sqrt(distance))
    assert np.isnan(found.values[4:]).all() and found.facts["of"] == "train"
    assert (found.training_flops, found.forward_flops) == (0, 0)


def test_one_statistic_and_the_outer_parts_median():
    outer = windows([[1, 1, 0, 0], [1, 1, 1, 0]])
    found = token_prior(
        window_candidates(windows(ROWS)), window_candidates(outer), statistics=["mean"]
    )
    assert found.facts == {"medians": {"mean": pytest.approx(np.log(0.5))}, "of": "outer"}
    assert found.values[0] == 0 and np.nanargmin(found.values) == 2  # common; rare
    pool_alone = token_prior(
        window_candidates(windows(ROWS)), window_candidates(outer), to_outer=False
    )
    assert pool_alone.facts["of"] == "train"


def test_a_token_that_the_pool_lacks_is_rarer_than_any():
    outer = windows([[5, 5, 0, 0], [5, 0, 0, 0]])
    found = token_prior(
        window_candidates(windows(ROWS)), window_candidates(outer), statistics=["mean"]
    )
    assert found.facts["medians"]["mean"] == pytest.approx(np.log(0.5 / 12))
    assert np.nanargmax(found.values) == 2


def test_documents_are_their_tokens():
    found = token_prior(joined_candidates(windows(ROWS)), statistics=["mean"]).values
    first = LOGS[[1, 1, 1, 1, 1, 2, 2]].mean()
    second = LOGS[[3, 3, 4, 1, 2]].mean()
    assert np.allclose(found[:2], -abs(first - second) / 2 / (abs(first - second) / 2))
    assert np.isnan(found[2])


def test_what_cannot_be_done_is_said():
    with pytest.raises(ConfigurationError, match="choose among mean, deviation"):
        token_prior(window_candidates(windows(ROWS)), statistics=["median"])
    with pytest.raises(DataError, match="'token_prior' reads windows of tokens"):
        token_prior(pool.candidates(4))
