#!/usr/bin/env python3
"""Measures a meta-step of image models against plain training steps: one JSON line.

    tools/bench_image_meta_step.py --images mnist.npz

In one process, with the models of gin/models/images_small.gin and the input pipeline that each kind
of step has: `plain_step` is an inner update of one model on a batch of its stream; `meta_step_one`
what the trainer does in a meta-step of one member (T = 2 weighted updates, an outer batch, the
meta-gradient, the rater's update, the reports); `meta_step_population` the same for --population
members. Seconds are of the clock (wall) and of the process (cpu), medians of --repeats rounds in
which the kinds of steps take turns, so that other work on the machine hits them alike. The ratio is
a meta-step of one member to T plain steps. Without --images the images are random, which changes
nothing of the cost.
"""

import argparse
import functools
import json
import os
from pathlib import Path
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.images.parts import image_data, pixel_noise
from dr_keras.data.images.sources import Images, table
from dr_keras.data.streams import BatchStream
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import adam
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.image_models import image_classifier, image_rater
from dr_keras.models.losses import classification_loss

SHAPE, CLASSES = (28, 28, 1), 10
KINDS = ("plain_step", "meta_step_one", "meta_step_population")
PLAIN_STEPS, WARM_UP = 10, 2


def random_images(count: int = 6000) -> Images:
    rng = np.random.default_rng(0)
    tables = [
        table(rng.integers(0, 256, (size, *SHAPE), np.uint8), rng.integers(0, 10, size), "", part)
        for part, size in (("train", count), ("test", count // 10))
    ]
    return Images("random", *tables)


def plain_stepper(train, model, optimizer, batch_size):
    """A function that does plain training step number n, input pipeline included."""
    rater = image_rater(SHAPE)
    problem = KerasProblem(rater, model(), classification_loss, optimizer)()
    theta, non_trainable = initial_values(model, 0)
    state = InnerState(theta, non_trainable, optimizer.init(theta), tf.constant(0))
    state = tf.nest.map_structure(lambda value: tf.Variable(value, trainable=False), state)
    stream = BatchStream(train, batch_size)

    @functools.partial(tf.function, jit_compile=True)
    def update(state, batch):
        weights = tf.fill([batch_size], 1 / batch_size)
        new, losses = inner_update(problem, InnerState(*state), weights, batch)
        return tuple(new), tf.reduce_mean(losses)

    @tf.function
    def step(batch):
        new, loss = update(tuple(tf.nest.map_structure(tf.identity, state)), batch)
        tf.nest.map_structure(lambda old, value: old.assign(value), state, InnerState(*new))
        return loss

    def run(number):
        return step({k: tf.constant(v) for k, v in stream.batch(number).items()}).numpy()

    return run


class TakingTurns(keras.callbacks.Callback):
    """Before every meta-step a few plain steps; notes the seconds of both.

    Args:
      plain: does plain step number n.
      seconds: kind of step -> {"wall", "cpu"} lists to add to.
      kind: of the meta-steps.
    """

    def __init__(self, plain, seconds: dict, kind: str):
        super().__init__()
        self._plain, self._seconds, self._kind = plain, seconds, kind
        self._begin, self._number = (0.0, 0.0), 0

    def _note(self, kind: str, count: int) -> None:
        if self._number >= WARM_UP:  # before, steps are traced and compiled
            for name, now, before in zip(("wall", "cpu"), clocks(), self._begin):
                self._seconds[kind][name].append((now - before) / count)

    def on_train_batch_begin(self, batch, logs=None):
        self._begin = clocks()
        for number in range(PLAIN_STEPS):
            self._plain(self._number * PLAIN_STEPS + number)
        self._note(KINDS[0], PLAIN_STEPS)
        self._begin = clocks()

    def on_train_batch_end(self, batch, logs=None):
        self._note(self._kind, 1)
        self._number += 1


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", help=".npz in the layout of keras.datasets; default: random")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--unroll", type=int, default=2)
    parser.add_argument("--batch_size", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=15)
    options = parser.parse_args()

    parts = image_data(options.images or random_images(), CLASSES, [pixel_noise()])
    model = functools.partial(image_classifier, SHAPE, CLASSES)
    optimizer = adam(learning_rate=1e-3, clip_norm=1.0)
    plain = plain_stepper(parts.train, model, optimizer, options.batch_size)

    seconds = {name: {"wall": [], "cpu": []} for name in KINDS}
    for population in (1, options.population):
        trainer = MetaTrainer(
            image_rater(SHAPE),
            model,
            classification_loss,
            optimizer,
            unroll_length=options.unroll,
            population_size=population,
            lifetime=None,
            inner_batch_size=options.batch_size,
            outer_batch_size=options.batch_size,
        )
        turns = TakingTurns(plain, seconds, KINDS[1 if population == 1 else 2])
        trainer.fit(parts.train, parts.outer, options.repeats + WARM_UP, 10**9, [turns])
    found = {
        name: {kind: float(np.median(values)) for kind, values in by_kind.items()}
        for name, by_kind in seconds.items()
    }
    line = {
        "parameters": {"inner": model().count_params(), "rater": image_rater(SHAPE).count_params()},
        "batch_size": options.batch_size,
        "unroll": options.unroll,
        "population": options.population,
        **{n: {k: round(v, 4) for k, v in kinds_.items()} for n, kinds_ in found.items()},
    }
    for kind in ("wall", "cpu"):
        ratio = found["meta_step_one"][kind] / (options.unroll * found["plain_step"][kind])
        line[f"{kind}_to_plain_steps"] = round(ratio, 2)
    print(json.dumps(line))


if __name__ == "__main__":
    main()
