"""What models may not do, each with its message, before the first meta-step."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.errors import ConfigurationError
from dr_keras.meta.checks import models_fit


def model_of(*layers):
    """An inner model of the regression toy: the layers, then one output."""

    def build():
        x = keras.Input((3,), name="x")
        hidden = x
        for layer in layers:
            hidden = layer()(hidden)
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="mine")

    return build


class Rounds(keras.layers.Layer):
    def call(self, x):
        return tf.round(x)


class Counts(keras.layers.Layer):
    """Keeps a TensorFlow variable that Keras does not see."""

    def __init__(self):
        super().__init__()
        self.calls = tf.Variable(0.0, trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x


class HasUnusedWeight(keras.layers.Layer):
    def build(self, shape):
        self.spare = self.add_weight(shape=(2,), name="spare")

    def call(self, x):
        return x


class UsesItRounded(HasUnusedWeight):
    def call(self, x):
        return x + tf.reduce_sum(tf.round(100 * self.spare))


class NormalisesLocally(keras.layers.Layer):
    """TensorFlow's local response normalisation has a first derivative and no second."""

    def call(self, x):
        return tf.nn.local_response_normalization(x[:, None, None, :])[:, 0, 0, :]


def test_a_layer_without_derivative_is_found(regression_trainer, regression_sets):
    build = model_of(lambda: keras.layers.Dense(4, name="first"), Rounds)
    trainer = regression_trainer(inner_model=build)
    with pytest.raises(
        ConfigurationError,
        match=r"The weight 'first/kernel' of the inner model 'mine' changes the result but gets no"
        r" gradient: .*rounding",
    ):
        trainer.fit(*regression_sets, 1)
    assert int(trainer.meta_step) == 0


def test_a_rater_without_derivative_is_found(regression_trainer, regression_sets):
    def rater():
        x = keras.Input((3,), name="x")
        hidden = Rounds()(keras.layers.Dense(2, name="inside")(x))
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="steps")

    with pytest.raises(ConfigurationError, match="'inside/kernel' of the rater 'steps' changes"):
        regression_trainer(rater=rater).fit(*regression_sets, 1)


def test_weights_that_nothing_depends_on_are_fine(regression_trainer, regression_sets):
    trainer = regression_trainer(inner_model=model_of(HasUnusedWeight))
    assert sum("spare" in v.path for v in trainer.inner_model.trainable_variables) == 1
    models_fit(trainer, *regression_sets)
    # the same weight, once the result depends on it
    trainer = regression_trainer(inner_model=model_of(UsesItRounded))
    with pytest.raises(ConfigurationError, match="spare' of the inner model 'mine' changes the"):
        models_fit(trainer, *regression_sets)


def test_a_missing_second_derivative_is_explained(regression_trainer, regression_sets):
    build = model_of(lambda: keras.layers.Dense(4), NormalisesLocally)
    trainer = regression_trainer(inner_model=build, jit_compile=False)
    with pytest.raises(ConfigurationError, match="no second derivative in TensorFlow.*LRNGrad"):
        trainer.fit(*regression_sets, 1)


def test_other_errors_keep_their_type(regression_trainer, regression_sets, monkeypatch):
    trainer = regression_trainer()
    monkeypatch.setattr(trainer, "_one_step", lambda *args: {}["a defect"])
    with pytest.raises(KeyError, match="a defect"):
        trainer.fit(*regression_sets, 1)


def test_state_that_keras_does_not_know_is_refused(regression_trainer, regression_sets):
    with pytest.raises(
        ConfigurationError,
        match="'counts.*' of the inner model 'mine' holds the tf.Variable 'calls', .*add_weight",
    ):
        regression_trainer(inner_model=model_of(Counts)).fit(*regression_sets, 1)


def test_a_stateful_layer_is_refused(regression_trainer, regression_sets):
    def build():
        x = keras.Input(batch_shape=(5, 3), name="x")
        series = keras.layers.Reshape((3, 1))(x)
        hidden = keras.layers.SimpleRNN(2, stateful=True, name="memory")(series)
        return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="recurrent")

    with pytest.raises(
        ConfigurationError, match="'memory' of the inner model 'recurrent' is stateful: .*=False"
    ):
        regression_trainer(inner_model=build).fit(*regression_sets, 1)


@pytest.mark.parametrize(
    "layer",
    [lambda: keras.layers.Dropout(0.5), keras.layers.BatchNormalization],
    ids=["dropout", "batch normalisation"],
)
def test_seeds_and_moving_statistics_are_part_of_the_state(
    layer, regression_trainer, regression_sets
):
    build = model_of(lambda: keras.layers.Dense(4), layer)
    trainer = regression_trainer(inner_model=build, jit_compile=False)
    member = trainer.population.members[0]
    before = [np.array(value) for value in member.state.non_trainable]
    trainer.fit(*regression_sets, 2)
    after = [np.array(value) for value in member.state.non_trainable]
    assert any((a != b).any() for a, b in zip(before, after))
    other = [np.array(value) for value in trainer.population.members[1].state.non_trainable]
    assert any((a != b).any() for a, b in zip(after, other))  # each member has its own


def test_floats_are_not_cut_to_whole_numbers(regression_trainer, regression_sets):
    def build():
        x = keras.Input((3,), name="x", dtype="uint8")
        return keras.Model({"x": x}, keras.layers.Dense(1)(keras.ops.cast(x, "float32")), name="m")

    with pytest.raises(
        ConfigurationError, match="'m' reads 'x' as uint8, and the examples have float32: .*cut"
    ):
        regression_trainer(inner_model=build).fit(*regression_sets, 1)


def test_labels_out_of_range_are_named(regression_trainer, example_set):
    from dr_keras.models.losses import classification_loss

    rng = np.random.default_rng(0)

    def build():
        x = keras.Input((3,), name="x")
        return keras.Model({"x": x}, keras.layers.Dense(4)(x), name="classifier")

    def sets(largest):
        label = rng.integers(0, 4, 30).astype(np.int32)
        label[17] = largest
        features = {"x": rng.normal(size=(30, 3)).astype(np.float32), "label": label}
        return {**features, "target": features["x"][:, :1]}

    train, outer = example_set(sets(7), "train"), example_set(sets(1), "outer")
    trainer = regression_trainer(inner_model=build, per_example_loss=classification_loss)
    with pytest.raises(
        ConfigurationError,
        match=r"The loss classification_loss fails on the examples of 'train' .*label: int32 \(\),"
        r" values 0 to 7.*label value of 7 which is outside the valid range of \[0, 4\)",
    ):
        trainer.fit(train, outer, 1)


def test_a_target_that_is_not_there_is_named(regression_trainer, example_set):
    x = np.ones((30, 3), np.float32)
    sets = [example_set({"x": x, "y": x[:, :1]}, name) for name in ("train", "outer")]

    def rater():
        features = keras.Input((3,), name="x")
        return keras.Model({"x": features}, keras.layers.Dense(1)(features))

    with pytest.raises(ConfigurationError, match="The loss .*fails on .*there is no 'target'"):
        regression_trainer(rater=rater).fit(*sets, 1)
