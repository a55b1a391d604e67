"""What the rater learned: every figure against one worked out by hand, and the pictures."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
import numpy as np
import pytest

from dr_keras.baselines.candidates import Candidates
from dr_keras.data.examples import ExampleSet
from dr_keras.errors import CheckpointError, ConfigurationError, DataError
from dr_keras.report import learned_plots, plots
from dr_keras.studies import learned
from dr_keras.studies.lasso import explain_scores

SCORES = np.array([0.0, 1, 2, 3, 4, 5, 6, 7])
SOURCES = list("aaabbbbb")


def as_json(found):
    return json.loads(json.dumps(found, allow_nan=False))


def some(texts):
    ids = np.array([f"d{k}" for k in range(len(texts))], object)
    sources = np.array(SOURCES[: len(texts)], object)
    return Candidates(ids, sources, ids, np.ones(len(texts), int), lambda: texts, False)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.5, 0.0, 0.1, 0.2, 7.0]), min_size=1, max_size=25))
def test_percentiles_count_ties_half(values):
    assert learned.percentiles([3.0, 1, 1, 5]).tolist() == [0.625, 0.25, 0.25, 0.875]
    pairs = [sum((w < v) + (w == v) / 2 for w in values) / len(values) for v in values]
    np.testing.assert_allclose(learned.percentiles(values), pairs, rtol=0, atol=1e-12)


def test_distributions_by_source():
    found = as_json(learned.score_distributions(SCORES, SOURCES, bins=4))
    assert list(found["by_source"]) == ["a", "b"]
    a = found["by_source"]["a"]
    assert a["examples"] == 3 and a["mean"] == 1 and a["deviation"] == pytest.approx((2 / 3) ** 0.5)
    assert a["mean_percentile"] == pytest.approx((0.5 + 1.5 + 2.5) / 24)
    assert a["quantiles"][3] == 1 and a["quantiles"][0] == 0 and a["quantiles"][-1] == 2
    assert a["counts"] == [2, 1, 0, 0] and found["all"]["counts"] == [2, 2, 2, 2]
    # an outlier widens no bin and is not lost
    wild = np.r_[np.linspace(0, 1, 2000), 1e9]
    found = learned.score_distributions(wild, ["a"] * 2001)
    assert found["edges"][-1] < 2 and sum(found["all"]["counts"]) == 2001
    with pytest.raises(DataError, match="1 of 2 scores are not finite"):
        learned.score_distributions([1.0, np.nan], ["a", "b"])
    with pytest.raises(ConfigurationError, match="8 scores but 1 sources"):
        learned.score_distributions(SCORES, ["a"])


def test_source_shares():
    found = as_json(learned.source_shares(SCORES, SOURCES, (0.0, 0.25, 0.5)))
    assert found["shares"] == {"b": [5 / 8, 5 / 6, 1.0], "a": [3 / 8, 1 / 6, 0.0]}
    assert found["kept_of_source"] == {"b": [1, 1, 4 / 5], "a": [1, 1 / 3, 0]}


def test_rank_correlations():
    features = {
        "same": SCORES**3,
        "against": -SCORES,
        "some": np.r_[1.0, 2, np.nan, np.full(5, np.nan)],
        "none": np.ones(8),
    }
    levels = [0, 0, np.nan, 0.9, 0.7, 0.5, 0.3, 0.1]
    found = as_json(learned.rank_correlations(SCORES, features, levels, SOURCES))
    assert found["same"] == {"spearman": 1, "examples": 8, "within_sources": 1}
    assert found["against"]["spearman"] == -1
    assert found["some"]["spearman"] == 1 and found["some"]["examples"] == 2
    assert found["none"]["spearman"] is None and "differing" in found["none"]["reason"]
    assert found["level_of_damage"]["examples"] == 7
    assert found["level_of_damage_among_damaged"] == {
        "spearman": -1,
        "examples": 5,
        "within_sources": -1,
    }
    assert list(found)[-1] == "none"  # strongest first
    # a preference for a source alone: correlated over all, not within
    source = np.array([0.0, 0, 0, 1, 1, 1, 1, 1])
    scores = np.array([1.0, 2, 3, 6, 5, 4, 8, 7])
    one = learned.rank_correlations(scores, {"b": source}, sources=SOURCES)["b"]
    assert one["spearman"] > 0.8 and one["within_sources"] is None


def test_extremes_have_text_source_and_percentile():
    found = some([f"text {k} " + "x" * 900 for k in range(8)])
    labels = {"level": np.array([0.5] + [np.nan] * 7), "damage": ["noise"] + [None] * 7}
    ends = as_json(learned.extremes(found, SCORES, 2, characters=6, labels=labels))
    assert ends["Rated lowest"][0] == {
        "text": "text 0",
        "id": "d0",
        "source": "a",
        "score": 0.0,
        "percentile": 0.0625,
        "level": 0.5,
        "damage": "noise",
    }
    assert [e["id"] for e in ends["Rated lowest"]] == ["d0", "d1"]
    assert [e["id"] for e in ends["Rated highest"]] == ["d7", "d6"]
    assert "level" not in ends["Rated highest"][0]


def test_agreement_of_checkpoints():
    first, second = np.array([1.0, 2, 3, 4]), np.array([2.0, 1, 3, 4])
    found = as_json(learned.checkpoint_agreement({20: second, 10: first, 30: -first}))
    assert found["meta_steps"] == [10, 20, 30]
    assert found["with_next"] == pytest.approx([0.8, -0.8])
    assert found["with_last"] == pytest.approx([-1, -0.8, 1])
    assert found["matrix"][0][1] == found["matrix"][1][0] == pytest.approx(0.8)
    with pytest.raises(ConfigurationError, match="different numbers"):
        learned.checkpoint_agreement({1: first, 2: first[:2]})


def test_checkpoints_are_loaded_one_by_one(tmp_path, monkeypatch):
    names = np.array(["x"] * 3, object)
    sample = ExampleSet({"x": np.array([1.0, 2, 3])}, names, names, names)
    rater = {"step": None}
    monkeypatch.setattr(learned, "rater_steps", lambda base_dir: list(range(10, 60, 10)))
    monkeypatch.setattr(
        learned, "load_rater_weights", lambda rater, base_dir, step: rater.update(step=step)
    )

    def scorer(rater):
        return lambda examples: examples.features["x"] * rater["step"]

    monkeypatch.setattr(learned, "Scorer", scorer)
    found = learned.checkpoint_scores(tmp_path, rater, sample, at_most=3)
    assert {step: values.tolist() for step, values in found.items()} == {
        10: [10, 20, 30],
        30: [30, 60, 90],
        50: [50, 100, 150],
    }
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="holds no weights of a rater"):
        learned.checkpoint_scores(tmp_path, rater, sample)


def test_meta_gradient_norms(tmp_path):
    members = [[1.0, 3.0], [2.0, None], [4.0, 8.0], [16.0, 16.0]]
    means = [2.0, None, 6.0, 16.0]
    lines = [
        {"kind": "step", "meta_step": k + 1, "meta_gradient_norm": means[k],
         "members": {"meta_gradient_norm": members[k]}} for k in range(4)
    ]  # fmt: skip
    lines.append({"kind": "epoch", "meta_step": 4, "meta_gradient_norm": 8.0})
    text = "\n".join(map(json.dumps, lines))
    (tmp_path / "metrics.jsonl").write_text(text + '\n{"kind": "st')
    found = as_json(learned.meta_gradient_norms(tmp_path))
    assert found["meta_steps"] == [1, 2, 3, 4] and found["mean"] == means
    assert found["members"] == [[1, 2, 4, 16], [3, None, 8, 16]]
    assert found["summary"] == {
        "median": 6,
        "largest": 16,
        "first_quarter": 2,
        "last_quarter": 16,
        "not_finite": 1,
    }
    nothing = learned.meta_gradient_norms(tmp_path / "absent")
    assert nothing["meta_steps"] == [] and nothing["summary"]["median"] is None


def figures(tmp_path):
    rng = np.random.default_rng(0)
    n = 400
    sources = [f"source {k % 12}" for k in range(n)]
    scores = rng.normal(size=n) + np.arange(n) % 12 / 4
    features = {f"feature {k}": scores * (k % 3 - 1) + rng.normal(size=n) for k in range(8)}
    lines = [
        {"kind": "step", "meta_step": k + 1, "meta_gradient_norm": 1.0 + k,
         "members": {"meta_gradient_norm": [1.0, 2.0 + k]}} for k in range(9)
    ]  # fmt: skip
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    checkpoints = {10 * (k + 1): scores + rng.normal(size=n) / (k + 1) for k in range(6)}
    correlations = learned.rank_correlations(scores, features, sources=sources)
    return {
        "boxes": learned_plots.score_boxes(learned.score_distributions(scores, sources)),
        "mixture": learned_plots.source_mixture(learned.source_shares(scores, sources)),
        "correlations": learned_plots.correlation_bars(correlations),
        "lasso": learned_plots.lasso_bars(explain_scores(scores, features)),
        "agreement": learned_plots.agreement_curves(learned.checkpoint_agreement(checkpoints)),
        "norms": learned_plots.meta_gradient_curve(learned.meta_gradient_norms(tmp_path)),
    }


def test_figures_become_svg_that_says_what_they_show(tmp_path):
    drawn = figures(tmp_path)
    expected = {
        "boxes": ("all (400)", "score (higher is better)"),
        "mixture": ("% dropped", "4 others"),
        "correlations": ("feature 2", "dot: within sources"),
        "lasso": ("least squares", "features"),
        "agreement": ("with the last", "meta-steps"),
        "norms": ("mean over members", "meta-gradient norm"),
    }
    for name, figure in drawn.items():
        assert isinstance(figure, Figure)
        svg = plots.to_svg(figure, f"figure of {name}", name)
        assert "#010203" not in svg and f'aria-label="figure of {name}"' in svg
        for text in expected[name]:
            assert text in svg, (name, text)


def test_figures_of_runs_with_nothing_in_them(tmp_path):
    empty = learned_plots.meta_gradient_curve(learned.meta_gradient_norms(tmp_path))
    assert "meta-gradient norm" in plots.to_svg(empty, "nothing", "n")
    one = learned_plots.agreement_curves(learned.checkpoint_agreement({5: np.arange(3.0)}))
    assert "with the last" in plots.to_svg(one, "one", "o")
    single = learned.source_shares(SCORES, ["a"] * 8)
    assert "a 100→100%" in plots.to_svg(learned_plots.source_mixture(single), "one", "m")
