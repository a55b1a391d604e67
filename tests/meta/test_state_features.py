"""What reading the inner model's state is for: noise that shows in losses and nowhere else."""

import dataclasses

import keras
import numpy as np
import pytest

from dr_keras.data.examples import ExampleSet
from dr_keras.meta.optimizers import OuterAdam, sgd
from dr_keras.meta.scoring import Scorer, reference_losses, scorer_of
from dr_keras.meta.seeds import seeded
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.inner_state import score_of, state_inputs
from dr_keras.models.losses import squared_error
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.training.metrics import area_under_curve

TRUE = np.array([[1.0], [-2.0], [0.5]], np.float32)


def rows(count: int, noisy: float, name: str) -> ExampleSet:
    """Linear targets, some of them with noise that nothing in x tells of."""
    rng = np.random.default_rng(len(name))
    x = rng.normal(size=(count, 3)).astype(np.float32)
    is_noisy = rng.random(count) < noisy
    target = (x @ TRUE)[:, 0] + is_noisy * rng.normal(scale=2, size=count).astype(np.float32)
    names = np.array([f"{name}{row}" for row in range(count)], object)
    return ExampleSet(
        {"x": x, "target": target.astype(np.float32)}, names, names, names,
        {"noisy": is_noisy}, name=name,
    )  # fmt: skip


def linear() -> keras.Model:
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1, use_bias=False)(x)[:, 0])


@pytest.fixture(scope="module")
def true_model():
    model = linear()
    model.set_weights([TRUE])
    model.trainable = False
    return model


@pytest.mark.parametrize("features", [(), ("reference_loss",), ("inner_loss", "age")])
def test_a_rater_finds_noise_by_the_losses_it_reads(features, true_model):
    with seeded(0):
        x = keras.Input((3,), name="x")
        state = state_inputs("rater", features)
        content = keras.layers.Dense(8, activation="silu")(x)
        rater = keras.Model({"x": x, **state}, score_of(content, state))
    trainer = MetaTrainer(
        rater,
        linear,
        squared_error,
        sgd(0.2),
        OuterAdam(0.02, warmup=5),
        population_size=2,
        lifetime=None,
        inner_batch_size=32,
        outer_batch_size=32,
        reference=true_model if "reference_loss" in features else None,
        jit_compile=False,
    )
    trainer.fit(rows(500, 0.5, "train"), rows(500, 0.0, "outer"), 100)
    test = rows(400, 0.5, "test")
    scorer = scorer_of(trainer.problem, test)
    assert (scorer is None) == ("inner_loss" in features)
    if scorer is None:
        # A member that is done has the loss of the true model; what is asked for is a column then.
        losses = reference_losses(ReferenceLoss(true_model, squared_error), test)
        columns = dict.fromkeys(features, losses) | {"age": np.full(400, np.log(60), np.float32)}
        test = dataclasses.replace(test, features={**test.features, **columns})
        scorer = Scorer(rater)
    auc = area_under_curve(scorer(test), ~test.labels["noisy"])
    if features:
        assert auc > 0.85
    else:
        assert 0.4 < auc < 0.6
