"""What a rater for the worse of two held-out sets is good for, by tools/two_targets.py."""

import re
import statistics

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits
import two_targets  # of tools/

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import classification_loss
from dr_keras.runs.experiment import experiment
import gin

BINDINGS = """
    MetaTrainer.inner_optimizer = @adam()
    MetaTrainer.outer_optimizer = @OuterAdam()
    MetaTrainer.combination = @worst()
    MetaTrainer.population_size = 2
    MetaTrainer.lifetime = 40
    MetaTrainer.inner_batch_size = 32
    MetaTrainer.outer_batch_size = 32
    MetaTrainer.jit_compile = False
    adam.learning_rate = 1e-2
    OuterAdam.learning_rate = 2e-2
    OuterAdam.warmup = 5
    OuterAdam.clip_norm = 1.0
"""


def test_lines_and_means():
    found = [{"a": {"a": 1.0, "b": 3.0}}, {"a": {"a": 2.0, "b": 2.0}}]
    assert two_targets.means(found) == {"a": {"a": 1.5, "b": 2.5}}
    assert two_targets.worse(found[0]["a"]) == 3.0
    assert two_targets.line("mean", two_targets.means(found)) == "mean    a: a 1.5000, b 2.5000"


def digits() -> Parts:
    """Handwritten digits, 0 to 4 and 5 to 9 as two held-out sets, which are two corpora."""
    images, labels = load_digits(return_X_y=True)
    names = np.where(labels < 5, "low", "high").astype(object)

    def some(rows, name):
        ids = np.array([f"digit-{row}" for row in rows], object)
        features = {
            "x": (images[rows] / 16).astype(np.float32),
            "label": labels[rows].astype("int32"),
        }
        return ExampleSet(features, ids, names[rows], names[rows], name=name)

    order = np.random.default_rng(0).permutation(len(labels))
    train, outer, validation, test = np.split(order, [1000, 1300, 1600])
    sets = {f"outer/{half}": some(outer[names[outer] == half], half) for half in ("low", "high")}
    sets |= {"train": some(train, "train"), "test": some(test, "test")}
    return Parts.of(sets | {"validation": some(validation, "validation")})


def dense(outputs, **options):
    x = keras.Input((64,), name="x")
    hidden = keras.layers.Dense(16, activation="silu")(x)
    return keras.Model({"x": x}, keras.layers.Dense(outputs, **options)(hidden))


@pytest.fixture
def comparison():
    gin.parse_config(BINDINGS)
    pieces = {
        "rater": lambda: dense(1, kernel_initializer="zeros"),
        "inner_model": lambda: dense(10),
    }
    for argument, value in (pieces | {"per_example_loss": classification_loss}).items():
        gin.bind_parameter(f"experiment.{argument}", value)
    assert MetaTrainer  # registers what is bound
    return two_targets.Comparison(experiment(digits()), meta_steps=60, updates=40, batch_size=32)


def gains(comparison, seeds) -> dict[str, list[float]]:
    found = [comparison.of_seed(seed) for seed in range(seeds)]
    for of in found:
        assert of["low"]["low"] < of["low"]["high"] and of["high"]["high"] < of["high"]["low"]
    return {
        name: [two_targets.worse(of[name]) - two_targets.worse(of["both"]) for of in found]
        for name in comparison.names
    }


@pytest.mark.long
def test_of_two_halves_of_the_digits_neither_is_given_up(comparison):
    assert all(gain > 0.5 for (gain,) in gains(comparison, 1).values())


@pytest.mark.long
def test_five_seeds_of_digits_lie_apart_by_more_than_their_spread(comparison):
    for name, found in gains(comparison, 5).items():
        print(f"{name}: {statistics.fmean(found):.4f} ± {statistics.stdev(found):.4f}")
        assert statistics.fmean(found) > statistics.stdev(found) > 0


@pytest.mark.long
def test_a_rater_for_code_gives_prose_up_and_one_for_the_worse_of_both_does_not(capsys):
    """Not the other way round: what young models learn of code is of use for prose."""
    assert two_targets.main([]) == 0
    found = re.findall(r"(\w+) alone less both: (-?[\d.]+) ± ([\d.]+)", capsys.readouterr().out)
    assert [name for name, _, _ in found] == ["prose", "code"]
    assert float(found[1][1]) > float(found[1][2])
