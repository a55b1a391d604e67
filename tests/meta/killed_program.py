"""A program that a test starts and kills: meta_train on a regression that traces in a second.

killed_program.py BASE_DIR STEPS
    A run with a meta-evaluation, a checkpoint and summaries after every second meta-step.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.meta.seeds import seeded
from dr_keras.models.losses import squared_error
from dr_keras.runs.experiment import Experiment
from dr_keras.runs.meta_training import meta_train
from dr_keras.serving.export import export_examples
import gin

BINDINGS = """
    MetaTrainer.inner_optimizer = @adam()
    MetaTrainer.outer_optimizer = @OuterAdam()
    OuterAdam.learning_rate = 0.01
    MetaTrainer.unroll_length = 2
    MetaTrainer.population_size = 2
    MetaTrainer.lifetime = 8
    MetaTrainer.inner_batch_size = 8
    MetaTrainer.outer_batch_size = 8
    MetaTrainer.jit_compile = False
    MetaEvaluation.jit_compile = False
    MetaEvaluation.updates = 2
    MetaEvaluation.batch_size = 4
"""


def part(name: str, count: int, lying: int, rng) -> ExampleSet:
    x = rng.normal(size=(count, 3)).astype(np.float32)
    target = x @ np.array([[1.0], [-2.0], [0.5]], np.float32)
    target[:lying] += 4
    ids = np.array([f"{name}-{row}" for row in range(count)], object)
    sources = np.array(["a"] * count, object)
    return ExampleSet({"x": x, "target": target}, ids, sources, sources, name=name)


def rater() -> keras.Model:
    x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([x, y]))
    return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(hidden), name="rater")


def inner_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    return keras.Model({"x": x}, keras.layers.Dense(1)(x), name="linear")


def main() -> None:
    base_dir, steps = sys.argv[1], int(sys.argv[2])
    gin.parse_config(BINDINGS)
    rng = np.random.default_rng(0)
    parts = Parts(
        part("train", 40, 20, rng), part("outer", 24, 0, rng), part("validation", 24, 0, rng),
        part("test", 8, 0, rng),
    )  # fmt: skip
    with seeded(1):
        built = rater()
    setup = Experiment(parts, built, inner_model, squared_error, export_examples, 0)
    meta_train(base_dir, setup, meta_steps=steps, steps_per_epoch=2)


if __name__ == "__main__":
    main()
