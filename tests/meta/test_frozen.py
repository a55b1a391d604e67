"""Frozen weights: once for the whole population, in no state, under any way of taking batches."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.estimators import MixedMode, NestedTape, Recompute
from dr_keras.models.model_parts import parts_of


def low_rank_model() -> keras.Model:
    """A base as `enable_lora` leaves it, 3 x 40 and 40 x 1 that nothing trains."""
    x = keras.Input((3,), name="x")
    layers = keras.layers.Dense(40, activation="tanh"), keras.layers.Dense(1)
    model = keras.Model({"x": x}, layers[1](layers[0](x)), name="low_rank")
    for layer in layers:
        layer.enable_lora(2)
    return model


def test_the_classes_of_variables():
    """Frozen is what no training call changes, whatever made it so."""
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dense(4, name="base")(x)
    hidden = keras.layers.BatchNormalization(name="averages")(hidden)
    hidden = keras.layers.Dropout(0.1)(hidden)
    model = keras.Model({"x": x}, keras.layers.Dense(1)(hidden))

    def found():
        paths = [variable.path for variable in model.non_trainable_variables]
        return {kind: getattr(parts_of(model), kind)(paths) for kind in ("statistics", "frozen")}

    averages = ["averages/moving_mean", "averages/moving_variance"]
    statistics = found()["statistics"]
    assert statistics[:2] == averages and "seed_generator" in statistics[2]
    assert found()["frozen"] == []
    model.get_layer("base").trainable = False
    assert found()["frozen"] == ["base/kernel", "base/bias"]
    assert found()["statistics"][:2] == averages
    # One that is not trainable normalises with its averages and leaves them alone.
    model.get_layer("averages").trainable = False
    assert set(averages) < set(found()["frozen"]) and len(found()["statistics"]) == 1
    parts, values = parts_of(model), list(range(len(model.non_trainable_variables)))
    assert parts.joined(parts.statistics(values), parts.frozen(values)) == values


def test_a_subclassed_model_is_not_traced():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.base, self.norm = keras.layers.Dense(2), keras.layers.BatchNormalization()

        def call(self, inputs, training=False):
            return self.norm(self.base(inputs["x"]), training=training)

    model = Own()
    model({"x": tf.ones((2, 3))})
    model.base.trainable = False
    paths = [variable.path for variable in model.non_trainable_variables]
    assert [path.rpartition("/")[2] for path in parts_of(model).frozen(paths)] == ["kernel", "bias"]


@pytest.fixture
def low_rank_trainer(regression_trainer):
    return lambda **arguments: regression_trainer(inner_model=low_rank_model, **arguments)


@pytest.mark.long
def test_micro_batches_take_a_frozen_base(low_rank_trainer, regression_sets):
    """Estimators agree, with parts and without, and the base is what it was."""
    raters = []
    for estimator in (NestedTape(), Recompute(micro_batches=4), MixedMode(micro_batches=2)):
        trainer = low_rank_trainer(estimator=estimator, unroll_length=3, lifetime=None)
        base = [v.numpy() for v in trainer.inner_model.variables if not v.trainable]
        trainer.fit(*regression_sets, 3)
        after = [v.numpy() for v in trainer.inner_model.variables if not v.trainable]
        assert [leaf.shape for leaf in base] == [(3, 40), (40, 1)]
        for a, b in zip(base, after):
            np.testing.assert_array_equal(a, b)
        raters.append(np.concatenate([np.ravel(v) for v in trainer.rater.trainable_variables]))
    for rater in raters[1:]:
        # The last bias changes no weight: its gradient is rounding.
        np.testing.assert_allclose(rater[:-1], raters[0][:-1], rtol=2e-4, atol=2e-6)


def test_the_base_is_once_in_a_checkpoint_and_in_no_member(
    low_rank_trainer, regression_sets, tmp_path
):
    trainer = low_rank_trainer(population_size=4)
    for member in trainer.population.members:
        shapes = [tuple(leaf.shape) for leaf in member.state.theta]
        assert (3, 40) not in shapes and (40, 1) not in shapes
        assert member.state.statistics == []
    trainer.fit(*regression_sets, 2, callbacks=[Checkpoints(tmp_path)])
    leaves = tf.nest.flatten(trainer.variables())
    assert [tuple(leaf.shape) for leaf in leaves].count((3, 40)) == 1
    resumed = low_rank_trainer(population_size=4)
    for variable in trainer.variables()["frozen"]:
        assert variable.shape in [(3, 40), (40, 1)]
    for variable in resumed.variables()["frozen"]:
        variable.assign(tf.zeros_like(variable))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.set_trainer(resumed)
    assert checkpoints.restore() == 2
    for a, b in zip(tf.nest.flatten(trainer.variables()), tf.nest.flatten(resumed.variables())):
        np.testing.assert_array_equal(a, b)


def test_a_model_with_nothing_to_train_is_refused(regression_trainer):
    def frozen():
        model = low_rank_model()
        model.trainable = False
        return model

    with pytest.raises(
        ConfigurationError, match="'low_rank' has no weight to train: all of its .* are frozen. Set"
    ):
        regression_trainer(inner_model=frozen)
