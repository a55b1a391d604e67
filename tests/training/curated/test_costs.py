"""What a step costs, against a count by hand."""

import keras
import numpy as np
import pytest

from dr_keras.errors import ConfigurationError
from dr_keras.meta.estimators import NestedTape
from dr_keras.training.curated.costs import step_flops
from dr_keras.training.curated.model import CuratedModel

F, RATER = 2 * 4, 2 * 1  # operations of the models' only products, for one example


def model_of(regression, rater=None, **settings):
    model, plain = regression.models()
    held_out = regression.held_out
    settings = {"batch_size": 4, "discard_fraction": 0.75, "outer_batch_size": 8} | settings
    return CuratedModel(model, rater or plain, held_out, **settings)


def cost(regression, **settings):
    return step_flops(model_of(regression, **settings), regression.train.features)


def test_each_part(regression):
    # of 16 that are scored 4 train, and every 4 steps a meta-step goes through 6 of each
    found = cost(regression, meta_every=4, unroll_length=2, meta_batch_size=6)
    passes = NestedTape().forward_passes(2)
    assert found.training == 3 * F * 4
    assert found.scoring == RATER * 16
    meta = (passes.inner * 6 + passes.outer * 8) * F + 3 * 2 * 6 * RATER
    assert found.meta == meta / 4
    assert found.total == found.training + found.scoring + found.meta


def test_what_is_not_done_costs_nothing(regression):
    assert cost(regression, meta_every=None)[1:] == (RATER * 16, 0)
    assert cost(regression, meta_every=None, discard_fraction=0) == (3 * F * 4, 0, 0)
    assert cost(regression, meta_every=None, discard_fraction=0, weights="soft")[1] == RATER * 4


def test_a_rater_that_reads_the_models_loss_costs_passes_of_the_model(regression):
    inputs = {"x": keras.Input((5,), name="x"), "inner_loss": keras.Input((), name="inner_loss")}
    score = keras.layers.Dense(1)(inputs["x"])[:, 0] + inputs["inner_loss"]
    rater = keras.Model(inputs, score, name="rater")
    settings = {"meta_every": 4, "meta_batch_size": 6}
    plain, found = (cost(regression, rater=one, **settings) for one in (None, rater))
    assert found.training == plain.training
    assert found.scoring == (2 * 5 + F) * 16
    of_rater = 3 * 2 * 6 * (2 * 5 - RATER)
    # two forward passes, and a reverse pass of the second update's
    assert found.meta - plain.meta == pytest.approx((of_rater + 4 * F * 6) / 4)
    still = cost(regression, rater=rater, through_features=False, **settings)
    assert found.meta - still.meta == pytest.approx(2 * F * 6 / 4)


def test_an_estimator_that_does_not_say_is_named(regression):
    def silent(*arguments, **named):
        raise AssertionError

    with pytest.raises(ConfigurationError, match="does not say its forward_passes"):
        cost(regression, estimator=silent)
    assert np.isfinite(cost(regression, estimator=silent, meta_every=None).total)
