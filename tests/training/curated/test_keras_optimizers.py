"""Keras optimizers and their counterparts do the same arithmetic; what has none is refused."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.optimizers import adamw
from dr_keras.training.curated.keras_optimizers import functional

STEPS = 6


def decaying():
    return keras.optimizers.schedules.CosineDecay(0.1, 10, warmup_target=0.3, warmup_steps=2)


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.1),
    "sgd_on_a_schedule": lambda: keras.optimizers.SGD(decaying()),
    "momentum": lambda: keras.optimizers.SGD(0.1, momentum=0.8),
    "nesterov": lambda: keras.optimizers.SGD(0.1, momentum=0.8, nesterov=True),
    "adam": lambda: keras.optimizers.Adam(0.1, beta_1=0.8, beta_2=0.95),
    "adam_on_a_schedule": lambda: keras.optimizers.Adam(
        decaying(), beta_2=0.9, global_clipnorm=0.5
    ),
    "adamw": lambda: keras.optimizers.AdamW(0.1, beta_2=0.9, weight_decay=0.2),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_counterpart_does_what_keras_does(float64, name):
    random = np.random.default_rng(0)
    start = [random.normal(size=(3,)), random.normal(size=(2, 2))]
    gradients = [[random.normal(size=v.shape) for v in start] for _ in range(STEPS)]

    theirs = OPTIMIZERS[name]()
    variables = [keras.Variable(value) for value in start]
    ours = functional(OPTIMIZERS[name]())
    theta = [tf.constant(value) for value in start]
    slots = ours.optimizer.init(theta)
    for step, gradient in enumerate(gradients):
        theirs.apply([tf.constant(g) for g in gradient], variables)
        gradient = [tf.constant(g) for g in gradient]
        hyper = ours.hyper()
        theta, slots = ours.optimizer.update(theta, slots, gradient, tf.constant(step), hyper)
    for variable, value in zip(variables, theta, strict=True):
        np.testing.assert_allclose(
            value, variable.numpy(), rtol=2e-6
        )  # rates and decays are float32 there


def test_a_rate_that_a_callback_sets_is_followed():
    theirs = keras.optimizers.Adam(0.1)
    found = functional(theirs)
    theirs.learning_rate = 0.025
    assert found.hyper()["learning_rate"].numpy() == pytest.approx(0.025)
    own = adamw(1e-3)
    assert functional(own).optimizer is own and functional(own).hyper() == {}


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (lambda: keras.optimizers.Lion(), "Lion has no counterpart"),
        (lambda: keras.optimizers.Adam(amsgrad=True), "Adam.amsgrad is True"),
        (lambda: keras.optimizers.Adam(clipnorm=1.0), "Adam.clipnorm is 1.0"),
        (lambda: keras.optimizers.SGD(use_ema=True), "SGD.use_ema is True"),
        (lambda: keras.optimizers.SGD(0.1, weight_decay=0.1), "SGD.weight_decay is 0.1"),
        (lambda: keras.optimizers.SGD(decaying(), momentum=0.9), "momentum and a learning rate"),
        (lambda: "adam", "'adam': give keras.optimizers"),
    ],
    ids=["lion", "amsgrad", "clipnorm", "ema", "decay", "momentum", "name"],
)
def test_what_has_no_counterpart_is_refused_by_name(optimizer, said):
    with pytest.raises(ConfigurationError, match=said):
        functional(optimizer())


def test_variables_left_out_of_weight_decay_are_refused():
    optimizer = keras.optimizers.AdamW(0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    with pytest.raises(ConfigurationError, match="leaves variables out"):
        functional(optimizer)
