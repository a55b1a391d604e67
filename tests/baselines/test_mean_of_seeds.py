"""Several seeds of a scorer: their mean, and what all of them cost."""

import numpy as np
import pool
import pytest

from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.mean_of_seeds import mean_of_seeds
from dr_keras.baselines.scores import Scores
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError

IDS = pool.strings([f"t{k}#0" for k in range(5)])
WINDOWS = window_candidates(ExampleSet({"tokens": np.ones((5, 3), np.int32)}, IDS, IDS, IDS))
ASKED = []


def noisy(candidates, outer, *, seed):
    """What is so, and chance; it says nothing of the last candidate, nor of the first token."""
    ASKED.append((outer, seed))
    tokens = np.arange(15.0).reshape(5, 3) + np.random.default_rng(seed).normal(size=(5, 3))
    tokens[:, 0] = tokens[4] = np.nan
    values = np.append(np.nanmean(tokens[:4], axis=1), np.nan)
    return Scores(values, 3.0, 2.0, {"seed": seed}, tokens.astype(np.float16), {"w": values})


def test_the_mean_has_less_chance_in_it_and_bears_all_costs():
    ASKED.clear()
    outer, count = object(), 64
    found = mean_of_seeds(WINDOWS, outer, noisy, count, seed=7)
    assert ASKED[0] == (outer, 7) and {one for one, _ in ASKED} == {outer}
    assert len({seed for _, seed in ASKED}) == count == len(found.facts["each"])
    assert (found.training_flops, found.forward_flops) == (3.0 * count, 2.0 * count)
    np.testing.assert_allclose(
        found.values[:4], 3 * np.arange(4) + 1.5, atol=4 / np.sqrt(2 * count)
    )
    np.testing.assert_allclose(found.values[:4], np.nanmean(found.tokens[:4], axis=1), atol=0.02)
    assert np.isnan(found.values[4]) and np.isnan(found.tokens[:, 0]).all()
    single = mean_of_seeds(WINDOWS, outer, noisy, 1, seed=7)
    alone = noisy(WINDOWS, outer, seed=7)
    np.testing.assert_array_equal(single.values, alone.values)
    np.testing.assert_array_equal(single.tokens, alone.tokens)
    np.testing.assert_array_equal(found.weights["w"], alone.weights["w"])
    np.testing.assert_array_equal(
        mean_of_seeds(WINDOWS, outer, noisy, 64, seed=7).values, found.values
    )


def test_none_is_refused_and_a_scorer_may_know_nothing_of_tokens():
    with pytest.raises(ConfigurationError, match="mean_of_seeds.count is 0"):
        mean_of_seeds(WINDOWS, None, noisy, 0)
    plain = mean_of_seeds(WINDOWS, None, lambda *_, seed: Scores(np.full(5, float(seed))), 2)
    assert plain.tokens is plain.weights is None and len(set(plain.values)) == 1
