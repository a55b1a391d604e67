#!/usr/bin/env python3
"""Measures meta-gradients against plain training steps: one JSON line a case.

    tools/bench_meta_step.py --model 0.4m --estimator nested_tape recompute mixed_mode --unroll 2 4

Seconds are those of this process (cpu) and of the clock (wall): medians of --repeats runs of one
compiled member's meta-gradient, each between runs of a plain inner update of the same model, batch
and process, so that what else the machine does falls on both. `temp_bytes` is what XLA's buffer
assignment sets aside for temporary values; `saved_state_bytes`, a part of it, is what the
estimator keeps from its forward loop and grows with T. Ratios: seconds to T plain updates,
temporaries without saved states to one plain update; the plain update never has recomputed blocks,
chunked logits or parts. Rater `none`: scores are a table and cost nothing; `tenth`: a rater of
about a tenth of the inner model's size. The outer batch is as large as an inner one. Compile
seconds include tracing and writing XLA's dumps, which are removed in the end unless --keep_dumps
names a folder for them.

    tools/bench_meta_step.py --members 1 4       whole meta-steps of a MetaTrainer, for each member
    tools/bench_meta_step.py --precision         error of mixed_bfloat16 in scores' meta-gradient
"""

import argparse
import atexit
import dataclasses
import functools
import itertools
import json
import os
from pathlib import Path
import re
import shutil
import statistics
import sys
import tempfile
import time

if "--keep_dumps" in sys.argv[:-1]:
    DUMPS = Path(sys.argv[sys.argv.index("--keep_dumps") + 1]).absolute()
else:
    DUMPS = Path(tempfile.mkdtemp(prefix="bench_meta_step_"))
    atexit.register(shutil.rmtree, DUMPS, ignore_errors=True)
# Read once, when TensorFlow first compiles: buffer assignments are written as files.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_dump_to={DUMPS} --xla_dump_hlo_pass_re=^$"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
import tensorflow as tf

from dr_keras.data.examples import ExampleSet
from dr_keras.meta import estimators
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import adam
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import classification_loss, next_token_loss
from dr_keras.models.text_models import language_model, text_rater

# name -> (inner model, rater), each (width, layers, heads).
TEXT = {
    "0.4m": ((128, 2, 4), (40, 2, 2)),
    "1m": ((160, 3, 4), (56, 2, 2)),
    "10m": ((384, 6, 6), (160, 3, 4)),
}
ESTIMATORS = {
    "nested_tape": estimators.NestedTape,
    "recompute": estimators.Recompute,
    "recompute_saving": functools.partial(estimators.Recompute, save_gradients=True),
    "mixed_mode": estimators.MixedMode,
    "mixed_mode_lean": functools.partial(estimators.MixedMode, save_gradients=False),
    "first_order": estimators.FirstOrder,
}
DEFAULT = ("nested_tape", "recompute", "mixed_mode")


def conv_net(channels: int, outputs: int) -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    hidden = image
    for factor in (1, 2, 4):
        hidden = keras.layers.Conv2D(factor * channels, 3, strides=2, activation="silu")(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model({"image": image}, keras.layers.Dense(outputs)(hidden))


def row_numbers(size) -> np.ndarray:
    """Each row's number in its batch, int32 [..., B]: its place in the table of scores."""
    return np.broadcast_to(np.arange(size[-1], dtype=np.int32), size)


def build(options):
    """(inner model constructor, rater constructor, loss, leading dimensions -> batch)."""
    rng = np.random.default_rng(0)
    if options.model == "conv":

        def images(*shape):
            size = (*shape, options.batch_size)
            return {
                "image": rng.normal(size=(*size, 32, 32, 3)).astype(np.float32),
                "label": rng.integers(0, 10, size).astype(np.int32),
                "row": row_numbers(size),
            }

        def net(**settings):
            if settings:
                raise SystemExit(f"the convolutional net has no {', '.join(settings)}")
            return conv_net(48, 10)

        return net, lambda: conv_net(16, 1), classification_loss, images
    inner, outer = TEXT.get(options.model) or ((*map(int, options.model.split("x")),), None)
    if "x" in options.rater[-1]:
        outer = (*map(int, options.rater[-1].split("x")),)

    def tokens(*shape):
        size = (*shape, options.batch_size)
        tokens = rng.integers(1, options.vocabulary, (*size, options.sequence))
        return {"tokens": tokens.astype(np.int32), "row": row_numbers(size)}

    return (
        lambda **settings: language_model(options.vocabulary, options.sequence, *inner, **settings),
        lambda: text_rater(options.vocabulary, options.sequence, *outer),
        functools.partial(next_token_loss, chunk=options.chunk),
        tokens,
    )


def temporaries(before: set) -> int | None:
    """Bytes of temporaries in the largest buffer assignment written since `before` was listed."""
    sizes = [
        sum(int(n) for n in re.findall(r"size (\d+),[^\n]*preallocated-temp", path.read_text()))
        for path in set(DUMPS.glob("*buffer-assignment.txt")) - before
    ]
    return max(sizes, default=None)


class Case:
    """A function compiled for its arguments: compile seconds, temporaries, and a way to time it."""

    def __init__(self, function, arguments):
        before = set(DUMPS.glob("*buffer-assignment.txt"))
        self.compiled = tf.function(function, jit_compile=True)
        self.arguments = tf.nest.map_structure(tf.convert_to_tensor, arguments)
        started = time.perf_counter()
        self.compiled(*self.arguments)
        first = time.perf_counter() - started
        self.run()
        self.compile_seconds = first - self.run()[1]
        self.temp_bytes = temporaries(before)

    def run(self) -> tuple[float, float]:
        """(CPU seconds of the process, seconds of the clock)"""
        at_cpu, at_wall = time.process_time(), time.perf_counter()
        tf.nest.map_structure(lambda leaf: leaf.numpy(), self.compiled(*self.arguments))
        return time.process_time() - at_cpu, time.perf_counter() - at_wall

    def facts(self) -> dict:
        return {"compile_seconds": round(self.compile_seconds, 2), "temp_bytes": self.temp_bytes}


def against(case: Case, plain: Case, updates: int, repeats: int) -> dict:
    """Median seconds of `case`, and their ratio to `updates` runs of `plain` around it."""
    found, yardstick = [], []
    yardstick.append(plain.run())
    for _ in range(repeats):
        found.append(case.run())
        yardstick.extend(plain.run() for _ in range(2))
    line = {}
    for position, kind in enumerate(("cpu", "wall")):
        seconds = statistics.median(run[position] for run in found)
        unit = statistics.median(run[position] for run in yardstick)
        line[f"{kind}_seconds"] = round(seconds, 4)
        line[f"{kind}_to_plain_steps"] = round(seconds / (updates * unit), 2)
    return line


def prepared(options, model, rater, loss, dtype=None):
    """(problem, eta, state of one member) for a rater, or for a table of scores."""
    settings = {name: True for name in ("recompute_blocks", "chunked_logits") if options[name]}
    if dtype:
        settings["dtype"] = dtype
    optimizer = adam(learning_rate=1e-3)
    constructor = functools.partial(model, **settings)
    structure, network = constructor(), rater() if options["rater"] != "none" else None
    if network is None:
        problem = KerasProblem(keras.Sequential(), structure, loss, optimizer)()
        problem = dataclasses.replace(
            problem, score=lambda eta, batch: tf.gather(eta[0], batch["row"])
        )
        eta = [tf.random.stateless_normal([options["batch_size"]], seed=(0, 0))]
    else:
        problem = KerasProblem(network, structure, loss, optimizer)()
        eta = [tf.identity(v.value) for v in network.trainable_variables]
    theta, non_trainable = initial_values(constructor, 0)
    return problem, eta, InnerState(theta, non_trainable, optimizer.init(theta), tf.constant(0))


def plain_case(options, model, loss, batches) -> Case:
    bare = {"recompute_blocks": False, "chunked_logits": False, "rater": "none"}
    problem, _, state = prepared(vars(options) | bare, model, None, loss)

    def plain_step(state, batch):
        weights = tf.fill([options.batch_size], 1 / options.batch_size)
        return inner_update(problem, InnerState(*state), weights, batch)

    return Case(plain_step, (tuple(state), batches()))


def meta_steps(options, common: dict) -> None:
    """Every estimator at every T, with and without the rater's share."""
    model, rater, loss, batches = build(options)
    plain = plain_case(options, model, loss, batches)
    line = against(plain, plain, 1, options.repeats)
    print(json.dumps({**common, "case": "plain_step", **plain.facts(), **line}), flush=True)
    for name, share, length in itertools.product(options.estimator, options.rater, options.unroll):
        settings = {}
        if name != "nested_tape":
            every = options.checkpoint_every
            if every:
                settings["checkpoint_every"] = int(every) if every.isdigit() else every
            if options.micro_batches > 1:
                settings["micro_batches"] = options.micro_batches
        estimator = ESTIMATORS[name](**settings)
        problem, eta, state = prepared(vars(options) | {"rater": share}, model, rater, loss)

        def meta_step(state, eta, inner, outer, estimator=estimator, problem=problem):
            return estimator(problem, InnerState(*state), eta, inner, {"outer": outer})

        case = Case(meta_step, (tuple(state), eta, batches(length), batches()))
        saved = estimator.saved_bytes(state, length)
        line = {**common, "case": name, **settings, "rater": share, "unroll": length}
        line |= case.facts() | {"saved_state_bytes": saved}
        line |= against(case, plain, length, options.repeats)
        ratio = case.compile_seconds / plain.compile_seconds
        line["compile_to_plain_step"] = round(ratio, 2)
        if case.temp_bytes and plain.temp_bytes:
            ratio = (case.temp_bytes - saved) / plain.temp_bytes
            line["temp_without_saved_to_plain_step"] = round(ratio, 2)
        print(json.dumps(line), flush=True)


def populations(options, common: dict) -> None:
    """Meta-steps of whole trainers, the input pipeline and the outer optimizer included."""
    model, rater, loss, batches = build(options)
    if options.rater == ["none"]:
        raise SystemExit("--members needs a rater: leave out --rater or give a size")
    rows = 8 * options.batch_size
    features = {k: v.reshape(rows, *v.shape[2:]) for k, v in batches(8).items()}
    names = np.array([str(row) for row in range(rows)], object)
    examples = ExampleSet(features, names, names, names, name="random")
    trainers = {}
    for count in options.members:
        trainer = MetaTrainer(
            rater(),
            inner_model=model,
            per_example_loss=loss,
            inner_optimizer=adam(learning_rate=1e-3),
            estimator=ESTIMATORS[options.estimator[0]](),
            unroll_length=options.unroll[0],
            population_size=count,
            inner_batch_size=options.batch_size,
            outer_batch_size=options.batch_size,
        )
        trainer.fit(examples, examples, meta_steps=2)
        trainers[count] = trainer
    seconds = {count: [] for count in options.members}

    class Clock(keras.callbacks.Callback):
        """CPU seconds of each meta-step; what `fit` checks before the first is not one."""

        def on_train_batch_begin(self, batch, logs=None):
            self.started = time.process_time()

        def on_train_batch_end(self, batch, logs=None):
            seconds[count].append(time.process_time() - self.started)

    for _ in range(options.repeats):
        for count, trainer in trainers.items():  # noqa: B007
            until = int(trainer.meta_step.numpy()) + 3
            trainer.fit(examples, examples, meta_steps=until, callbacks=[Clock()])
    middles = {count: statistics.median(found) for count, found in seconds.items()}
    unit = middles[options.members[0]] / options.members[0]
    for count, middle in middles.items():
        line = {**common, "case": "population", "estimator": options.estimator[0]}
        line |= {"unroll": options.unroll[0], "members": count, "cpu_seconds": round(middle, 4)}
        line["cpu_to_members_times_first"] = round(middle / count / unit, 3)
        print(json.dumps(line), flush=True)


def learnable(options, seed: int, *shape) -> dict:
    """Rows that count upwards from random starts; of every second one the half is noise."""
    rng = np.random.default_rng(seed)
    size = (*shape, options.batch_size, options.sequence)
    tokens = rng.integers(1, options.vocabulary, (*size[:-1], 1)) + np.arange(options.sequence)
    tokens = tokens % (options.vocabulary - 1) + 1
    noisy = rng.random(size) < 0.5 * (np.arange(options.batch_size) % 2)[:, None]
    tokens = np.where(noisy, rng.integers(1, options.vocabulary, size), tokens)
    return {"tokens": tf.constant(tokens, tf.int32), "row": row_numbers(size[:-1])}


def precision(options, common: dict) -> None:
    """Relative error of the meta-gradient with the inner model in bfloat16, against float32.

    For a member of age 50, the same in both: Adam's first updates are signs, whose derivatives say
    nothing. The meta-gradient is that of B scores, each of the size of a difference between
    examples.
    """
    model, rater, loss, _ = build(options)
    plain = vars(options) | {"rater": "none"}
    problem, _, state = prepared(plain, model, rater, loss, "float32")

    @tf.function(jit_compile=True)
    def update(state, batch):
        weights = tf.fill([options.batch_size], 1 / options.batch_size)
        return tuple(inner_update(problem, InnerState(*state), weights, batch)[0])

    for step in range(50):
        state = InnerState(*update(tuple(state), learnable(options, step)))
    for length in options.unroll:
        inner, outer = learnable(options, 100, length), learnable(options, 101)
        found = {}
        for dtype in ("float32", "mixed_bfloat16"):
            problem, eta, _ = prepared(plain, model, rater, loss, dtype)

            @tf.function(jit_compile=True)
            def run(state, eta, problem=problem):
                estimator = ESTIMATORS[options.estimator[0]]()
                return estimator(problem, InnerState(*state), eta, inner, {"outer": outer})

            outer_loss, gradient, *_ = run(tuple(state), eta)
            found[dtype] = float(outer_loss), gradient[0].numpy()
        (loss32, g32), (loss16, g16) = found.values()
        cosine = g32 @ g16 / np.linalg.norm(g32) / np.linalg.norm(g16)
        line = {**common, "case": "mixed_bfloat16", "estimator": options.estimator[0]}
        line |= {"unroll": length, "outer_loss_difference": loss16 - loss32}
        line["meta_gradient_relative_error"] = float(
            np.linalg.norm(g16 - g32) / np.linalg.norm(g32)
        )
        line["meta_gradient_cosine"] = float(cosine)
        print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", default="0.4m", help=f"{', '.join(TEXT)}, conv, or WIDTHxLAYERSxHEADS"
    )
    parser.add_argument("--estimator", nargs="+", choices=ESTIMATORS, default=[*DEFAULT])
    parser.add_argument("--unroll", nargs="+", type=int, default=[2])
    parser.add_argument("--checkpoint_every", help="a number, or sqrt; not for nested_tape")
    parser.add_argument("--micro_batches", type=int, default=1, help="not for nested_tape")
    parser.add_argument("--recompute_blocks", action="store_true")
    parser.add_argument("--chunked_logits", action="store_true")
    parser.add_argument("--chunk", type=int, default=256, help="positions, of chunked logits")
    parser.add_argument(
        "--rater", nargs="+", default=["none", "tenth"], help="none, tenth, WIDTHxLAYERSxHEADS"
    )
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--vocabulary", type=int, default=258)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--members", nargs="+", type=int)
    parser.add_argument("--precision", action="store_true")
    parser.add_argument("--keep_dumps", help="folder for XLA's dumps")
    options = parser.parse_args()

    model = build(options)[0]()
    common = {
        "model": options.model,
        "parameters": model.count_params(),
        "batch_size": options.batch_size,
    }
    for name in ("recompute_blocks", "chunked_logits"):
        if getattr(options, name):
            common[name] = True
    if options.members:
        populations(options, common)
    elif options.precision:
        precision(options, common)
    else:
        meta_steps(options, common)


if __name__ == "__main__":
    main()
