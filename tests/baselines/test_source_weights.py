"""The source-weights arm against hand-worked cases."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pool
import pytest

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.source_weights import filled_counts, source_weights
from dr_keras.errors import ConfigurationError, DataError
import gin


@pytest.mark.parametrize(
    "weights, present, count, expected",
    [
        ({"a": 1, "b": 3}, {"a": 100, "b": 100}, 40, {"a": 10, "b": 30}),
        # b has 12 of the 30 that it owes; the rest is a's and c's, 2 to 1
        ({"a": 2, "b": 9, "c": 1}, {"a": 90, "b": 12, "c": 90}, 42, {"a": 20, "b": 12, "c": 10}),
        # c is taken last, and then in spite of its weight
        ({"a": 1, "b": 1, "c": 0}, {"a": 3, "b": 5, "c": 9}, 7, {"a": 3, "b": 4, "c": 0}),
        ({"a": 1, "b": 1, "c": 0}, {"a": 3, "b": 5, "c": 9}, 10, {"a": 3, "b": 5, "c": 2}),
        ({"a": 1e-9, "b": 1}, {"a": 4, "b": 4}, 8, {"a": 4, "b": 4}),
        ({"a": 1, "b": 1, "gone": 5}, {"a": 9, "b": 9}, 3, {"a": 2, "b": 1}),
        ({"a": 1}, {"a": 5}, 0, {"a": 0}),
    ],
)
def test_counts_follow_weights_as_far_as_there_is_enough(weights, present, count, expected):
    assert filled_counts(weights, present, count) == expected


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_counts_are_exact_and_fair(data):
    present = data.draw(st.dictionaries(st.text(max_size=2), st.integers(1, 50), min_size=1))
    weights = {n: data.draw(st.sampled_from([0, 1e-12, 0.3, 1, 7, 1e9])) for n in present}
    count = data.draw(st.integers(0, sum(present.values())))
    found = filled_counts(weights, present, count)
    assert sum(found.values()) == count
    assert all(0 <= found[name] <= present[name] for name in present)
    # Who does not give all has, to within one, no less for its weight than anyone else.
    per_weight = [found[n] / w for n, w in weights.items() if w]
    for name, weight in weights.items():
        if weight and found[name] < present[name] and per_weight:
            assert found[name] + 1 >= weight * max(
                (found[n] - 1) / w for n, w in weights.items() if w
            ) * (1 - 1e-9)


def test_the_arm_has_the_mixture_and_says_what_it_cost(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"weights": {"a": 1.0, "b": 3.0}, "flops": 12345}))
    gin.bind_parameter("source_weights.table", str(path))
    study = Baselines(pool.candidates(400))  # 300 of a, 100 of b
    chosen = study.select("source_weights", 0.8)
    assert chosen.arm == "source_weights"
    assert {n: f["kept"] for n, f in chosen.budget()["by_source"].items()} == {"a": 20, "b": 60}
    assert chosen.budget()["source_weights"]["weights"] == {"a": 0.25, "b": 0.75}
    found = study.scores("source_weights")
    assert (found.training_flops, found.forward_flops) == (12345.0, 0.0)
    a, b = (found.values[study.candidates.sources == name] for name in "ab")
    assert a == pytest.approx(np.log(0.25 / 0.75)) and b == pytest.approx(np.log(0.75 / 0.25))
    assert found.facts["entropy"] == pytest.approx(-0.25 * np.log(0.25) - 0.75 * np.log(0.75))
    assert study.scored_by("source_weights") == "source_weights"
    other = study.select("source_weights", 0.8, seed=1)
    assert chosen.ids != other.ids  # within a source by hash


def test_of_no_weight_is_minus_infinity():
    found = source_weights(pool.candidates(8), None, {"a": 1, "b": 0})
    assert np.isneginf(found.values[3]) and found.values[0] == pytest.approx(np.log(4 / 3))


@pytest.mark.parametrize(
    "table, error, message",
    [
        (None, ConfigurationError, "needs weights: set source_weights.table"),
        ({"a": 1}, DataError, "2 examples are of the source 'b', which .* not have: it has a"),
        ({"a": 1, "b": -1}, ConfigurationError, "the weight of 'b' is -1"),
        ({"a": 1, "b": float("nan")}, ConfigurationError, "the weight of 'b' is nan"),
        ({"a": 0, "b": 0}, ConfigurationError, "source_weights.table: all are 0"),
        ("nowhere.json", ConfigurationError, "nowhere.json is no table of source weights"),
    ],
)
def test_tables_that_are_none(table, error, message):
    with pytest.raises(error, match=message):
        source_weights(pool.candidates(8), None, table)
