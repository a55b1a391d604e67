"""Setups: what a configuration asks for, built without data, without weights and at any size."""

import re
import resource

import keras
import pytest
import tensorflow as tf
import tiny_quickstart

from dr_keras.config import configuration, gin_files
from dr_keras.errors import ConfigurationError
from dr_keras.meta.pytrees import tree_bytes
from dr_keras.models.text_models import language_model, text_rater
from dr_keras.precompile import setup
from dr_keras.precompile.setup import SharedZeros, build_abstract
from dr_keras.training.trainers import ExampleTrainer, LanguageModelTrainer
import gin


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


def test_a_rater_that_reads_the_inner_model_is_refused():
    reads = "text_rater.features = ['inner_loss']"
    configuration.parse("experiments/quickstart.gin", [*tiny_quickstart.MODELS, reads])
    with pytest.raises(ConfigurationError, match="The rater reads inner_loss of the inner model"):
        setup.from_gin()


SIZED = [
    name for name in gin_files.packaged_gin_files() if re.search(r"^models/.*_\d+m\.gin$", name)
]


def test_there_are_sizes():
    assert {"models/rater_50m.gin", "models/language_model_400m.gin"} <= set(SIZED)


@pytest.mark.parametrize("name", SIZED)
def test_size_is_what_its_name_says(name):
    params = ["SEQUENCE_LENGTH = 2048", "VOCABULARY_SIZE = 32000"]
    configuration.parse(name, params, complete=False)
    build = text_rater if "rater" in name else language_model
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model = build_abstract(build)
    millions = model.count_params() / 1e6
    assert millions == pytest.approx(int(re.search(r"_(\d+)m", name)[1]), rel=0.1)
    # 1B parameters in float32 would be 4 GB; kilobytes here.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000


@pytest.mark.parametrize("study", ["c4", "c4_noclean", "pile"])
def test_paper_configurations_build_the_papers_models(study):
    params = ["VOCABULARY_FILE = 'absent.model'"]
    if study == "pile":
        params.append("PILE_FILES = 'absent.jsonl'")
    configuration.parse(f"experiments/paper_{study}.gin", params)
    rater, inner = build_abstract(text_rater), build_abstract(language_model)
    assert rater.count_params() / 1e6 == pytest.approx(50, rel=0.1)
    assert inner.count_params() / 1e6 == pytest.approx(400, rel=0.1)
    width = inner.get_layer("token_embedding").output_dim
    assert inner.output_shape == [(None, 2048, width), (32000, width)]
    assert rater.output_shape == (None,)
    assert rater.get_layer("blocks")._template().sequence_length == 2048


def test_paper_evaluation_has_the_papers_sizes_updates_and_rates():
    given = ["VOCABULARY_FILE = 'absent.model'", "RATER_PATH = 'absent'"]
    configuration.parse("experiments/paper_evaluate_c4.gin", given)
    study = gin.get_bindings("evidence", resolve_references=False)
    assert study["discard_fraction"] == 0.1 and "rater" in study["online_arms"]
    expected = {
        "50M": (5_000, 1e-3, 128),
        "150M": (12_000, 1e-3, 128),
        "400M": (30_000, 1e-3, 128),
        "1000M": (48_000, 2e-4, 256),
    }
    sizes = gin.query_parameter("%SIZES")
    assert list(sizes) == list(expected)
    for size, (steps, rate, batch) in expected.items():
        with gin.config_scope(sizes[size].config_key[0]):
            bound = gin.get_bindings("LanguageModelTrainer", resolve_references=False)
            model = build_abstract(language_model)
        assert (bound["steps"], bound["learning_rate"], bound["batch_size"]) == (steps, rate, batch)
        assert model.count_params() / 1e6 == pytest.approx(float(size[:-1]), rel=0.05)
    assert setup.features_of([model])["tokens"] == ((2048,), tf.int32)
    with pytest.raises(ConfigurationError, match="--size 7B: SIZES has '50M', '150M'"):
        setup.from_gin(size="7B")


def test_the_step_of_a_size_is_that_of_its_trainer():
    """Of a study whose models are small; elsewhere it is the model that members are."""
    given = ["CORPUS_FILES = 'absent.jsonl'"]
    configuration.parse("experiments/evidence_full.gin", given)
    trainer = setup.from_gin(size="3M").train_step
    assert trainer.settings["learning_rate"] == 2e-3
    assert trainer.model.count_params() / 1e6 == pytest.approx(3.2, rel=0.1)


def test_a_size_needs_a_study():
    configuration.parse("experiments/quickstart.gin")
    with pytest.raises(ConfigurationError, match="--size 50M: the configuration has no SIZES"):
        setup.from_gin(size="50M")


def test_abstract_and_real_model_agree():
    def build():
        return language_model(50, 16, width=12, layer_count=2, heads=3)

    assert build_abstract(build).count_params() == build().count_params()
