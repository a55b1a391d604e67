#!/usr/bin/env python3
"""Measures meta-gradients against plain training steps: one JSON line a case.

    tools/bench_meta_step.py --model 0.4m --estimator nested_tape recompute mixed_mode --unroll 2 4

Seconds are those of this process (cpu) and of the clock (wall), the least of --repeats runs of one
compiled member's meta-gradient. `temp_bytes` is what XLA's buffer assignment sets aside for temporary
values; `saved_state_bytes`, a part of it, is what the estimator keeps from its forward loop and grows
with T. Ratios: seconds to T plain inner updates of the same process, temporaries without saved
states to one plain update. With --rater none the scores are a table and cost nothing; `tenth` is a
rater of about a tenth of the inner model's size. The outer batch is as large as an inner one.
Compile seconds include tracing, and writing XLA's dumps, which are removed in the end.
"""

import argparse
import atexit
import functools
import json
import os
from pathlib import Path
import re
import shutil
import sys
import tempfile
import time

DUMPS = Path(tempfile.mkdtemp(prefix="bench_meta_step_"))
atexit.register(shutil.rmtree, DUMPS, ignore_errors=True)
# Read once, when TensorFlow first compiles: buffer assignments are written as files.
os.environ["XLA_FLAGS"] = (
    os.environ.get("XLA_FLAGS", "") + f" --xla_dump_to={DUMPS} --xla_dump_hlo_pass_re=^$"
)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

from dr_keras.meta import estimators  # noqa: E402
from dr_keras.meta.inner_optimizers import adam  # noqa: E402
from dr_keras.meta.population import initial_values  # noqa: E402
from dr_keras.meta.problem import InnerState, MetaProblem, inner_update, keras_problem  # noqa: E402
from dr_keras.models.language_model import language_model  # noqa: E402
from dr_keras.models.losses import classification_loss, next_token_loss  # noqa: E402
from dr_keras.models.rater import text_rater  # noqa: E402

VOCABULARY = 258
# name -> (inner model, rater), each (width, layers, heads).
TEXT = {
    "0.4m": ((128, 2, 4), (40, 2, 2)),
    "1m": ((160, 3, 4), (56, 2, 2)),
    "10m": ((384, 6, 6), (160, 3, 4)),
}
ESTIMATORS = {
    "nested_tape": estimators.NestedTape,
    "recompute": estimators.Recompute,
    "mixed_mode": estimators.MixedMode,
    "mixed_mode_lean": functools.partial(estimators.MixedMode, save_gradients=False),
    "first_order": estimators.FirstOrder,
}


def conv_net(channels: int, outputs: int) -> keras.Model:
    image = keras.Input((32, 32, 3), name="image")
    hidden = image
    for factor in (1, 2, 4):
        hidden = keras.layers.Conv2D(factor * channels, 3, strides=2, activation="silu")(hidden)
    hidden = keras.layers.GlobalAveragePooling2D()(hidden)
    return keras.Model({"image": image}, keras.layers.Dense(outputs)(hidden))


def build(name: str, batch_size: int, sequence: int):
    """(inner model constructor, rater, loss, function from leading dimensions to a batch)."""
    rng = np.random.default_rng(0)
    if name == "conv":

        def images(*shape):
            return {
                "image": rng.normal(size=(*shape, batch_size, 32, 32, 3)).astype(np.float32),
                "label": rng.integers(0, 10, (*shape, batch_size)).astype(np.int32),
            }

        return lambda: conv_net(48, 10), conv_net(16, 1), classification_loss, images
    inner, outer = TEXT[name]

    def tokens(*shape):
        size = (*shape, batch_size, sequence)
        return {"tokens": rng.integers(1, VOCABULARY, size).astype(np.int32)}

    return (
        lambda: language_model(VOCABULARY, sequence, *inner),
        text_rater(VOCABULARY, sequence, *outer),
        next_token_loss,
        tokens,
    )


def size(tree) -> int:
    return sum(leaf.shape.num_elements() * leaf.dtype.size for leaf in tf.nest.flatten(tree))


def saved_bytes(estimator, state: InnerState, length: int) -> int:
    """Bytes that the estimator's arrays hold at once: states, and gradients where it saves them."""
    if not isinstance(estimator, estimators.unroll.LoopedUnroll):
        return 0
    one = size((state.theta, state.non_trainable, state.slots))
    entering = one + (size(state.theta) if estimator.save_gradients else 0)
    segment = estimator.segment_length(length)
    if segment == length:
        return entering * length if length > 1 or estimator.save_gradients else 0
    return entering * segment + one * -(-length // segment)


def temporaries(before: set) -> int | None:
    """Bytes of temporaries in the largest buffer assignment written since `before` was listed."""
    sizes = [
        sum(int(n) for n in re.findall(r"size (\d+),[^\n]*preallocated-temp", path.read_text()))
        for path in set(DUMPS.glob("*buffer-assignment.txt")) - before
    ]
    return max(sizes, default=None)


def measure(function, arguments, repeats: int) -> dict:
    """Compiles and runs `function`."""
    before = set(DUMPS.glob("*buffer-assignment.txt"))
    compiled = tf.function(function, jit_compile=True)
    started = time.perf_counter()
    compiled(*arguments)
    first = time.perf_counter() - started
    cpu, wall = [], []
    for _ in range(repeats):
        at_cpu, at_wall = time.process_time(), time.perf_counter()
        tf.nest.map_structure(lambda leaf: leaf.numpy(), compiled(*arguments))
        cpu.append(time.process_time() - at_cpu)
        wall.append(time.perf_counter() - at_wall)
    return {
        "cpu_seconds": round(min(cpu), 4),
        "wall_seconds": round(min(wall), 4),
        "compile_seconds": round(first - min(wall), 2),
        "temp_bytes": temporaries(before),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=[*TEXT, "conv"], default="0.4m")
    parser.add_argument("--estimator", nargs="+", choices=ESTIMATORS, default=[*ESTIMATORS][:3])
    parser.add_argument("--unroll", nargs="+", type=int, default=[2])
    parser.add_argument("--checkpoint_every", help="a number, or sqrt; not for nested_tape")
    parser.add_argument("--rater", choices=["none", "tenth"], default="none")
    parser.add_argument("--batch_size", type=int, default=16)
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()

    model, rater, loss, batches = build(options.model, options.batch_size, options.sequence)
    optimizer = adam(learning_rate=1e-3)
    problem = keras_problem(rater, model(), loss, optimizer)
    eta = [tf.identity(v.value) for v in rater.trainable_variables]
    if options.rater == "none":
        problem = MetaProblem(
            lambda eta, batch: eta[0], problem.inner_loss, problem.outer_loss, optimizer
        )
        eta = [tf.random.normal([options.batch_size])]
    theta, non_trainable = initial_values(model, 0)
    theta, non_trainable = [[tf.identity(x) for x in part] for part in (theta, non_trainable)]
    state = InnerState(theta, non_trainable, optimizer.init(theta), tf.constant(0))
    common = {
        "model": options.model,
        "parameters": size(theta) // 4,
        "rater": options.rater,
        "batch_size": options.batch_size,
    }

    def plain_step(state, batch):
        weights = tf.fill([options.batch_size], 1 / options.batch_size)
        return inner_update(problem, InnerState(*state), weights, batch)

    plain = measure(plain_step, (tuple(state), batches()), options.repeats)
    print(json.dumps({**common, "case": "plain_step", **plain}), flush=True)

    for name in options.estimator:
        settings = {}
        if options.checkpoint_every and name != "nested_tape":
            every = options.checkpoint_every
            settings["checkpoint_every"] = int(every) if every.isdigit() else every
        estimator = ESTIMATORS[name](**settings)
        for length in options.unroll:

            def meta_step(state, eta, inner_batches, outer_batch, estimator=estimator):
                return estimator(problem, InnerState(*state), eta, inner_batches, outer_batch)

            found = measure(
                meta_step, (tuple(state), eta, batches(length), batches()), options.repeats
            )
            saved = saved_bytes(estimator, state, length)
            line = {**common, "case": name, **settings, "unroll": length, **found}
            line["saved_state_bytes"] = saved
            for kind in ("cpu", "wall"):
                ratio = found[f"{kind}_seconds"] / (length * plain[f"{kind}_seconds"])
                line[f"{kind}_to_plain_steps"] = round(ratio, 2)
            line["compile_to_plain_step"] = round(
                found["compile_seconds"] / plain["compile_seconds"], 2
            )
            if found["temp_bytes"] and plain["temp_bytes"]:
                ratio = (found["temp_bytes"] - saved) / plain["temp_bytes"]
                line["temp_without_saved_to_plain_step"] = round(ratio, 2)
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
