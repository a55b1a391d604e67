"""Raters of a study: which are made, how one is chosen, what all of them cost."""

import json

import keras
import numpy as np
import pytest

from dr_keras.baselines.scores import Scores
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import ConfigurationError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.models.losses import squared_error
from dr_keras.runs.experiment import experiment
from dr_keras.runs.fitting import FittedRater
from dr_keras.serving.loading import load_rater
from dr_keras.studies import rater
import gin

BINDINGS = """
    MetaTrainer.jit_compile = False
    MetaTrainer.population_size = 1
    MetaTrainer.inner_batch_size = 8
    MetaTrainer.outer_batch_size = 8
    MetaEvaluation.jit_compile = False
    MetaEvaluation.updates = 2
    MetaEvaluation.batch_size = 8
    judge.repeats = 2
    meta_train.meta_steps = 2
    meta_train.steps_per_epoch = 2
    scratch/meta_train.meta_steps = 3
"""


def rows(name, count, wrong_by=0.0):
    """A linear relation; in the first half of the rows the target is off."""
    x = np.random.default_rng(len(name)).normal(size=(count, 3)).astype(np.float32)
    target = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    target[: count // 2] += wrong_by
    ids = np.array([f"{name}-{k}" for k in range(count)], object)
    return ExampleSet({"x": x, "target": target}, ids, ids, ids, name=name)


def dense(inputs):
    layers = [keras.Input((size,), name=name) for name, size in inputs.items()]
    joined = keras.layers.Concatenate()(layers) if len(layers) > 1 else layers[0]
    return keras.Model(dict(zip(inputs, layers)), keras.layers.Dense(1)(joined), name="dense")


def knows_what_is_wrong(candidates, outer, *, seed=0):
    return Scores(-np.arange(len(candidates), dtype=float)[::-1], 500.0, 5.0)


def setup(fitted=True):
    parts = Parts(rows("train", 120, 3.0), rows("o", 16), rows("va", 32), rows("tes", 8))
    fit = FittedRater(
        teacher=knows_what_is_wrong, batch_size=16, least_updates=5, held_out=0.2, jit_compile=False
    )
    return experiment(
        parts, lambda: dense({"x": 3, "target": 1}), lambda: dense({"x": 3}), squared_error,
        initial_rater=fit if fitted else None, on_overlap="drop",
    )  # fmt: skip


@pytest.mark.parametrize(
    "raters, fitted, message",
    [
        (["refind"], True, "there is no 'refind'; choose among fitted, refined, scratch"),
        (["refined"], False, "nothing says how to fit a rater: bind experiment.initial_rater"),
    ],
)
def test_raters_that_cannot_be_made(tmp_path, raters, fitted, message):
    with pytest.raises(ConfigurationError, match=message):
        rater.trained(tmp_path, setup(fitted), raters=raters)


def test_the_judgement_chooses_among_all_and_all_are_paid_for(tmp_path):
    gin.parse_config(BINDINGS)
    given = setup()
    found = rater.trained(tmp_path, given, True, ["fitted", "refined", "scratch"])
    assert found["meta_steps"] == 2 + 3
    steps = {path: len(read_metrics(path, "step")) for path in (tmp_path, tmp_path / "scratch")}
    assert list(steps.values()) == [2, 3]
    judgement = json.loads((tmp_path / "judgement.json").read_text())
    places = [(one["name"], one["run"], one["step"]) for one in judgement["raters"]]
    assert places[:2] == [("fitted", ".", 0), ("refined", ".", 2)]
    assert places[2][:2] == ("scratch", "scratch") and places[2][2] in (2, 3)
    fit = json.loads((tmp_path / "fitted" / "fit.json").read_text())["flops"]
    made = [one["made_flops"] for one in judgement["raters"]]
    cost = found["flops"]
    assert fit == made[0] == cost["fitting"] and cost["judgement"] == judgement["flops"] > 0
    assert cost["total"] == sum(v for k, v in cost.items() if k != "total")
    assert cost["total"] == made[1] + made[2] + cost["judgement"]
    assert "Making them took" in judgement["text"]
    assert made[1] > fit  # the fit is a part of what it is made of
    # the best of them is exported, from the run that has it
    best = max(judgement["raters"], key=lambda one: one["gain"])
    exported = rater.exported(tmp_path, tmp_path, given)
    assert exported["meta_step"] == best["step"] and exported["path"] == "export/1"
    loaded = load_rater(str(tmp_path / "export" / "1"))
    kept = dense({"x": 3, "target": 1})
    weights = f"rater-{best['step']}.weights.h5"
    kept.load_weights(tmp_path / best["run"] / "checkpoints" / weights)
    train = given.parts.train.features
    np.testing.assert_allclose(loaded(train)["score"], np.ravel(kept(train)), atol=1e-5)
    assert loaded.metadata["training"]["chosen"] == exported["chosen"]


def test_a_fitted_rater_alone_and_one_from_scratch_alone(tmp_path):
    gin.parse_config(BINDINGS)
    alone = rater.trained(tmp_path / "fitted", setup(), True, ["fitted"])
    assert alone["meta_steps"] == 0 == alone["flops"]["inner_models"] < alone["flops"]["fitting"]
    scratch = rater.trained(tmp_path / "scratch", setup(), True, ["scratch"])
    assert scratch["meta_steps"] == 2 and "fitting" not in scratch["flops"]
    assert not (tmp_path / "scratch" / "fitted").exists()
