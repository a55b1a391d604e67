"""A run that learns weights of sources: the mixture it finds, what it writes, its artefact."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_keras.data.corpora.base import Corpus
from dr_keras.data.corpora.mixture import mixture_corpus
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.source_ids import source_data
from dr_keras.errors import ConfigurationError, DataError
from dr_keras.meta.weighting import example_softmax
from dr_keras.models.losses import squared_error
from dr_keras.models.source_rater import source_rater
from dr_keras.runs.experiment import experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import meta_train
from dr_keras.runs.source_weights import (
    FOLDER,
    SourceWeights,
    as_text,
    drawn_shares,
    learned_mixture,
    mixture,
)
from dr_keras.serving.export import export_sources
from dr_keras.serving.loading import load_rater
import gin

SOURCES = ("ones", "zeros", "rare")
# A model that is one number learns the mean. That of the target is 0.8, so that a mixture with
# four fifths of "ones" is the best there is; "rare", all twos, can only be in its way.
BINDINGS = """
    MetaTrainer.inner_optimizer = @sgd()
    sgd.learning_rate = 0.2
    MetaTrainer.outer_optimizer = @OuterAdam()
    OuterAdam.learning_rate = 0.08
    OuterAdam.warmup = 1
    OuterAdam.weight_decay = 0.0
    OuterAdam.clip_norm = 1.0
    MetaTrainer.population_size = 1
    MetaTrainer.lifetime = None
    MetaTrainer.inner_batch_size = 32
    MetaTrainer.outer_batch_size = 32
    MetaTrainer.jit_compile = False
    meta_train.steps_per_epoch = 60
"""


def constant_model():
    x = keras.Input((1,), name="x")
    return keras.Model(x, keras.layers.Dense(1, use_bias=False)(x))


def example_set(name, sources, labels):
    sources = np.array(sources, object)
    ids = np.array([f"{name}-{n}" for n in range(len(sources))], object)
    features = {"x": np.ones((len(ids), 1), np.float32), "target": np.array(labels, np.float32)}
    return ExampleSet(features, ids, sources, sources, name=name)


def parts():
    pool = ["zeros"] * 60 + ["ones"] * 30 + ["rare"] * 10
    labels = [{"zeros": 0, "ones": 1, "rare": 2}[name] for name in pool]
    target = [("target", n % 5 != 0) for n in range(40)]
    held_out = [example_set(name, *zip(*target)) for name in ("outer", "validation", "test")]
    return source_data(Parts(example_set("train", pool, labels), *held_out), SOURCES)


def setup(rater=functools.partial(source_rater, SOURCES)):
    return experiment(parts, rater, constant_model, squared_error, export_sources)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    gin.parse_config(BINDINGS)
    meta_train(folder, setup(), meta_steps=120, evaluate=False)
    gin.clear_config()
    return folder


def test_it_finds_the_mixture_of_the_target_and_writes_it(run):
    gin.parse_config(BINDINGS)
    found = learned_mixture(run, "latest", setup())
    # Means of 32 labels wander by 0.07, and the mixture with them.
    mean = found.weights["ones"] + 2 * found.weights["rare"]
    assert mean == pytest.approx(0.8, abs=0.12)
    assert found.examples == {n: {"zeros": 60, "ones": 30, "rare": 10}[n] for n in found.weights}
    assert found.entropy == pytest.approx(-sum(w * np.log(w) for w in found.weights.values()))
    assert found.flops and found.meta_step == 120 and not found.warnings
    stored = json.loads((run / FOLDER / "table.json").read_text())
    assert stored["weights"] == found.weights and stored["effective"] == found.effective
    text = as_text(found)
    assert text.splitlines()[-1].startswith(f"entropy {found.entropy:.3f} nats, worth")
    gin.clear_config()
    gin.parse_config((run / FOLDER / "weights.gin").read_text())
    bound = mixture_corpus([Corpus("all", lambda skipped: iter(()))])
    assert bound.weights == pytest.approx(found.weights, abs=1e-5)


def test_the_program_draws_by_the_weights(run):
    gin.parse_config(BINDINGS)
    found = learned_mixture(run, "latest", setup())
    program: dict = {}
    exec((run / FOLDER / "weights.py").read_text(), program)
    datasets = {name: tf.data.Dataset.from_tensors(name).repeat() for name in SOURCES}
    drawn = [name.decode() for name in program["mixture"](datasets).take(2000).as_numpy_iterator()]
    for name, weight in found.weights.items():
        assert drawn.count(name) / 2000 == pytest.approx(weight, abs=0.04)


def test_its_artefact_scores_names_and_refuses_strangers(run, tmp_path):
    gin.parse_config(BINDINGS)
    built = setup()
    rater = load_rater(export_run(run, "latest", built, tmp_path))
    assert rater.metadata["kind"] == "sources" and rater.sources == SOURCES
    scored = rater(["ones", "zeros", "ones"])
    expected = built.rater.trainable_variables[0].numpy()[[0, 1, 0], 0]
    np.testing.assert_allclose(scored["score"], expected, rtol=1e-6)
    assert scored["percentile"][0] > scored["percentile"][1]
    assert rater("rare")["score"].shape == ()
    assert list(rater(tf.data.Dataset.from_tensor_slices(["ones", "zeros"]))).__len__() == 2
    assert rater.keep_probability(["ones"], 0.5, 8)["keep_probability"].shape == (1,)
    with pytest.raises(DataError, match="was not trained with the source 'blogs': it knows ones"):
        rater(["ones", "blogs"])
    with pytest.raises(DataError, match="names of sources, not int"):
        rater([3])
    with pytest.raises(tf.errors.InvalidArgumentError, match="blogs"):
        rater(tf.constant(["blogs"]))  # what servers and pipelines run
    strangers = built.parts.outer
    with pytest.raises(DataError, match="'outer' has 40 examples .* such as 'target'"):
        built.scorer()(strangers)


def test_another_rater_or_weighting_has_no_table(run):
    gin.parse_config(BINDINGS)

    def other():
        x = keras.Input((1,), name="x")
        return keras.Model(x, keras.layers.Dense(1)(x))

    with pytest.raises(ConfigurationError, match="does not score sources"):
        learned_mixture(run, "latest", setup(other))
    gin.bind_parameter("MetaTrainer.weighting", lambda scores, counts: scores)
    with pytest.raises(ConfigurationError, match="MetaTrainer.weighting is function: weights of"):
        learned_mixture(run, "latest", setup())


def test_the_mixture_by_hand():
    scores, drawn = {"a": 0.0, "b": np.log(9.0)}, {"a": 0.75, "b": 0.25}
    assert mixture(scores, drawn, example_softmax()) == pytest.approx({"a": 0.25, "b": 0.75})
    half = mixture(scores, drawn, example_softmax(temperature=2.0, floor=0.5))
    assert half == pytest.approx({"a": 0.5 * 0.5 + 0.375, "b": 0.5 * 0.5 + 0.125})
    examples = example_set("set", ["a", "a", "b", "c"], [0] * 4)
    assert drawn_shares(examples) == {"a": 0.5, "b": 0.25, "c": 0.25}
    corpora = np.array(["x", "x", "x", "y"], object)
    weighted = ExampleSet(
        examples.features, examples.ids, examples.sources, corpora, weights={"x": 3, "y": 1}
    )
    assert drawn_shares(weighted) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})


def test_a_large_batch_has_these_weights():
    """The softmax over a batch, summed by source, comes to the formula."""
    scores, drawn = {"a": 0.3, "b": -0.4}, {"a": 0.75, "b": 0.25}
    is_a = np.arange(4000) < 3000
    weighting = example_softmax(0.7, floor=0.1)
    batch = tf.constant(np.where(is_a, scores["a"], scores["b"]))
    weights = weighting(batch, tf.ones_like(batch)).numpy()
    assert weights[is_a].sum() == pytest.approx(mixture(scores, drawn, weighting)["a"])


def test_a_collapse_is_told():
    from dr_keras.runs import source_weights as module

    found = SourceWeights(
        {"a": 0.98, "b": 0.0199, "c": 0.0001},
        {"a": 0.4, "b": 0.3, "c": 0.3},
        *(dict.fromkeys("abc", 1) for _ in range(2)),
        0.0,
        1.0,
        10,
        "",
    )
    collapsed, starved = module._warnings(found, 2.0, 0.01)
    assert "worth 1.10 sources, of 2.97 as drawn, and 'a' has 98.0%" in collapsed
    assert "1 of 3 sources keep less than 1.0% of what they had: c." in starved
    assert "raise example_softmax.floor" in collapsed and "raise example_softmax.floor" in starved
