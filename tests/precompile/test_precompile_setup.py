"""The pieces of a configuration without data and weights, and what is wrong with some of them."""

import keras
import pytest
import tensorflow as tf
import tiny_quickstart

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.models.text_models import language_model
from dr_keras.precompile import setup
from dr_keras.precompile.weightless import SharedZeros, build_abstract
from dr_keras.training.example_training import ExampleTrainer
from dr_keras.training.language_model_training import LanguageModelTrainer


def model(*shape, dtype="float32", name="x"):
    x = keras.Input(shape, dtype=dtype, name=name)
    return keras.Model({name: x}, keras.ops.sum(keras.ops.cast(x, "float32")))


def test_features_are_those_of_the_models_and_one_fills_the_others_gaps():
    found = setup.features_of([model(None, 3), model(7, None), model(2, name="y", dtype="int32")])
    assert found == {"x": ((7, 3), tf.float32), "y": ((2,), tf.int32)}


def test_what_no_model_says_must_be_named():
    with pytest.raises(ConfigurationError, match="--feature x:float32:128x3"):
        setup.features_of([model(None, 3)])
    assert setup.features_of([model(None, 3)], {"x": ((5, 3), tf.float32)})["x"][0] == (5, 3)
    with pytest.raises(ConfigurationError, match="name the features with --feature"):
        setup.features_of([])


def test_models_that_contradict_each_other_are_refused():
    with pytest.raises(ConfigurationError, match=r"'x' as float32 \(7,\) and as float32 \(8"):
        setup.features_of([model(7), model(8)])
    with pytest.raises(ConfigurationError, match="as float32 .* and as int32"):
        setup.features_of([model(7), model(7, dtype="int32")])


def test_features_as_text():
    assert setup.parse_feature("label:int32") == ("label", ((), tf.int32))
    assert setup.parse_feature("image:float32:28x28x1") == (
        "image", ((28, 28, 1), tf.float32)
    )  # fmt: skip


@pytest.mark.parametrize("text", ["label", "label:integer", ":int32", "x:int32:0", "x:int32:2:3"])
def test_features_that_are_none(text):
    with pytest.raises(ConfigurationError, match="NAME:DTYPE"):
        setup.parse_feature(text)


def test_variables_share_their_zeros():
    zeros = SharedZeros()

    def build():
        x = keras.Input((64,))
        y = keras.layers.Dense(64)(keras.layers.Dense(64)(x))
        return keras.Model(x, keras.layers.Dropout(0.5)(y))

    first, second = zeros.model(build), zeros.model(build)
    assert tree_bytes(first.trainable_variables) == 4 * 2 * (64 * 64 + 64)
    assert zeros.bytes < 4 * (64 * 64 + 64) + 100  # of all four layers, and a seed
    first.trainable_variables[0].assign(tf.ones((64, 64)))
    assert float(tf.reduce_sum(second.trainable_variables[0])) == 0.0


def test_a_model_without_values_stays_without_them():
    abstract = build_abstract(lambda: language_model(50, 16, width=12, layer_count=1, heads=3))
    real = language_model(50, 16, width=12, layer_count=1, heads=3)
    values = [v.value for v in real.trainable_variables]
    tokens = {"tokens": tf.ones((2, 16), tf.int32)}
    found, _ = abstract.stateless_call(values, [], tokens)
    assert float(tf.reduce_max(tf.abs(found - real(tokens)))) < 1e-6
    assert all(v._value is None for v in abstract.variables)


def test_a_packaged_configuration_is_built_without_its_data():
    configuration.parse("experiments/quickstart.gin", tiny_quickstart.MODELS)
    built = setup.from_gin()
    assert built.features == {"tokens": ((8,), tf.int32)}
    assert built.trainer.inner_batch_size == 16
    assert built.trainer.population.members == [None, None]
    assert isinstance(built.train_step, LanguageModelTrainer)
    assert built.train_step.batch_size == 8
    # Models, rater and Adam's slots hold no more than one of each shape, the embedding among them.
    assert built.zeros.bytes < tree_bytes(built.train_step.model.variables)


def test_a_label_goes_to_the_trainer_of_examples():
    configuration.parse("experiments/mnist_corruption.gin")
    built = setup.from_gin({"label": ((), tf.int32)})
    assert built.features["image"] == ((28, 28, 1), tf.uint8)
    assert isinstance(built.train_step, ExampleTrainer)


def test_a_configuration_without_a_rater_says_what_to_include():
    configuration.parse((), ["SEQUENCE_LENGTH = 8"], complete=False)
    with pytest.raises(ConfigurationError, match="binds no experiment.rater: include 'runs/meta"):
        setup.from_gin()
