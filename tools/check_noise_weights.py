#!/usr/bin/env python3
"""Checks what weights a rater learns where examples are noisy copies of clean ones: docs/theory.md.

    tools/check_noise_weights.py                              all cases, five seeds: ten minutes
    tools/check_noise_weights.py --cases targets --seeds 0    one of them

A regression on a few clean points. Each training example is a copy of one of them with Gaussian
noise of its own deviation, log-uniform from 0.1 to 3, in its target or in its inputs; the outer
batch is the clean points. The rater is a small network that sees the logarithm of that deviation
and nothing else. One JSON line a case and seed:

  slope                   of log weight on log noise within batches, with 95% of its bootstrap over
                          batches; 0: equal weights, -1: inverse deviation, -2: inverse variance
  correlation             of these logarithms
  gradient_slope          the same on the log deviation of the gradient's noise, at the members' end
  best_slope              of the weights that lower the expected outer loss most in the next update,
                          computed at the members' end, not fitted; null where some of them are 0
  best_correlation        of the learned weights (not logs) with those
  clean_loss              mean outer loss of fresh members under the learned weights, and under
                          powers of the noise ("0", "-1", "-2")

and one line a case with the mean of the slopes over seeds and Student's 95% interval of it.
"""

import argparse
import dataclasses
import functools
import json
import os
from pathlib import Path
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import keras
import numpy as np
from scipy import optimize, stats

from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.streams import BatchStream
from dr_keras.meta.optimizers import (
    InnerOptimizer,
    OuterAdam,
    Schedule,
    adam,
    constant_rate,
    cosine_rate,
    sgd,
)
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import squared_error
from dr_keras.training.metrics import pearson, regression

POINTS, ROWS, BATCH = 16, 32768, 64
SMALLEST, LARGEST = 0.1, 3.0
LEVELS = np.geomspace(SMALLEST, LARGEST, 25)
POWERS = (0, -1, -2)


@dataclasses.dataclass(frozen=True)
class Case:
    """Where the noise is, how the inner model is trained, and whether it can interpolate.

    Attributes:
      noise: in the "targets" or in the "inputs".
      optimizer: of the inner model.
      width: inputs and parameters of the inner model, which is linear: from 16 on, as many as there
        are clean points, it interpolates them.
    """

    noise: str
    optimizer: InnerOptimizer
    width: int = 32


CASES = {
    "targets": Case("targets", sgd(4.0)),
    "targets, small steps": Case("targets", sgd(1.0)),
    "targets, Adam": Case("targets", adam(0.05)),
    "targets, no interpolation": Case("targets", sgd(0.5), width=4),
    "inputs": Case("inputs", sgd(4.0)),
}


@dataclasses.dataclass(frozen=True)
class Points:
    """The clean points of a seed: inputs [16, width] of length 1, and any targets [16]."""

    x: np.ndarray
    y: np.ndarray

    def copies(self, noise: str, deviations: np.ndarray, random) -> tuple[np.ndarray, ...]:
        """(numbers of the points copied [N], noisy inputs, noisy targets), N as `deviations`."""
        rows = random.integers(0, POINTS, len(deviations))
        x, y = self.x[rows], self.y[rows]
        if noise == "targets":
            return rows, x, y + deviations * random.normal(size=y.shape)
        scale = deviations[:, None] / np.sqrt(x.shape[1])  # so that a row is moved by a deviation
        return rows, x + scale * random.normal(size=x.shape), y

    def gradients(self, theta, x, y) -> np.ndarray:
        """Gradients [N, width] of squared errors of the linear model with these parameters."""
        return 2 * (x @ theta - y)[:, None] * x


def clean_points(case: Case, random) -> Points:
    x = random.normal(size=(POINTS, case.width))
    return Points(x / np.linalg.norm(x, axis=1, keepdims=True), random.normal(size=POINTS))


def example_set(x, y, deviations, name: str) -> ExampleSet:
    names = objects(f"{name}-{row}" for row in range(len(y)))
    columns = {"x": x, "target": y, "log_noise": np.log(deviations)[:, None]}
    features = {key: np.float32(values) for key, values in columns.items()}
    return ExampleSet(features, names, names, names, name=name)


def data(case: Case, seed: int) -> tuple[Points, ExampleSet, ExampleSet]:
    """(clean points, training examples, the clean points as examples)"""
    random = np.random.default_rng(seed)
    points = clean_points(case, random)
    deviations = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST), ROWS))
    _, x, y = points.copies(case.noise, deviations, random)
    clean = example_set(points.x, points.y, np.full(POINTS, SMALLEST), "clean")
    return points, example_set(x, y, deviations, "copies"), clean


def linear_model(width: int) -> keras.Model:
    x = keras.Input((width,), name="x")
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    return keras.Model({"x": x}, layer(x))


def noise_rater(seed: int) -> keras.Model:
    """From the log of the noise to a score; at first all scores are 0."""
    with seeded(derive_seed(seed, "rater")):
        log_noise = hidden = keras.Input((1,), name="log_noise")
        for _ in range(2):
            hidden = keras.layers.Dense(16, activation="silu")(hidden)
        score = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
    return keras.Model({"log_noise": log_noise}, score)


def make_trainer(case: Case, seed: int, rater, rate: Schedule) -> MetaTrainer:
    return MetaTrainer(
        rater,
        inner_model=functools.partial(linear_model, case.width),
        per_example_loss=squared_error,
        inner_optimizer=case.optimizer,
        outer_optimizer=OuterAdam(rate, clip_norm=None, weight_decay=0.0, beta_2=0.99),
        population_size=4,
        lifetime=None,
        inner_batch_size=BATCH,
        outer_batch_size=POINTS,
        seed=seed,
    )


def train(trainer: MetaTrainer, sets, steps: int) -> float:
    """So many further meta-steps; the mean outer loss of the last 300 of them."""
    losses = []
    seen = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: losses.append(logs["outer_loss"])
    )
    done = int(trainer.meta_step.numpy())
    trainer.fit(*sets, meta_steps=done + steps, callbacks=[seen])
    return float(np.mean(losses[-300:]))


def learn(case: Case, seed: int, sets, steps: int, rate: float = 1e-2) -> MetaTrainer:
    """A trainer whose rater has learned."""
    schedule = cosine_rate(rate, steps, warmup=20, final_fraction=0.02)
    trainer = make_trainer(case, seed, noise_rater(seed), schedule)
    train(trainer, sets, steps)
    return trainer


def losses_under(case: Case, seed: int, sets, learned: keras.Model) -> dict[str, float]:
    """Outer losses of fresh members under weights that stay: the learned ones, and powers."""
    log_noise = keras.Input((1,), name="log_noise")
    power, share = (keras.layers.Dense(1, use_bias=False) for _ in range(2))
    scores = keras.layers.Add()([power(log_noise), share(learned(log_noise))])
    rater = keras.Model({"log_noise": log_noise}, scores)
    trainer = make_trainer(case, seed, rater, constant_rate(0.0))
    losses = {}
    for name, factors in {"learned": (0, 1), **{str(p): (p, 0) for p in POWERS}}.items():
        for layer, factor in zip((power, share), factors):
            layer.set_weights([np.full((1, 1), factor)])
        for member in range(trainer.population.size):
            trainer.population.reinitialise(member)
        losses[name] = train(trainer, sets, 400)
    return losses


def within_batches(log_weights, log_noise, random, resamples: int = 1000) -> dict:
    """Slope of log weights on log noise, both [batches, B], each batch about its own mean.

    Weights of a batch sum to 1, so that only differences within it say anything.

    Returns:
      {"slope", "slope_95": [low, high] of a bootstrap over batches, "correlation"}
    """
    y, x = (v - v.mean(axis=1, keepdims=True) for v in (log_weights, log_noise))
    products, squares = (x * y).sum(axis=1), (x * x).sum(axis=1)
    drawn = random.integers(0, len(x), (resamples, len(x)))
    slopes = products[drawn].sum(axis=1) / squares[drawn].sum(axis=1)
    found = regression(x.ravel(), y.ravel())
    return {
        "slope": found["slope"],
        "slope_95": [float(edge) for edge in np.quantile(slopes, [0.025, 0.975])],
        "correlation": found["pearson"],
    }


@dataclasses.dataclass(frozen=True)
class AtLevels:
    """Of the gradient of copies with each noise of `LEVELS`, at parameters of a member.

    Attributes:
      noise: E|gradient of the copy - gradient of its clean point|^2, [levels].
      means: [levels, width].
      spreads: E(g - mean)^T H (g - mean), H the Hessian of the outer loss; [levels].
    """

    noise: np.ndarray
    means: np.ndarray
    spreads: np.ndarray


def at_levels(case: Case, points: Points, theta, random, draws: int = 4000) -> AtLevels:
    hessian = 2 * points.x.T @ points.x / POINTS
    clean = points.gradients(theta, points.x, points.y)
    noise, means, spreads = [], [], []
    for level in LEVELS:
        rows, x, y = points.copies(case.noise, np.full(draws, level), random)
        gradients = points.gradients(theta, x, y)
        noise.append(np.square(gradients - clean[rows]).sum(axis=1).mean())
        # Noise in inputs meets itself in the product of error and input: it is no zero mean then.
        bias = 2 * level**2 * theta / case.width if case.noise == "inputs" else 0
        means.append(clean.mean(axis=0) + bias)
        apart = gradients - means[-1]
        spreads.append(((apart @ hessian) * apart).sum(axis=1).mean())
    return AtLevels(np.array(noise), np.array(means), np.array(spreads))


def best_weights(rate: float, points: Points, members: list) -> np.ndarray:
    """Weights at `LEVELS`, with mean 1, that lower the expected outer loss most in one SGD update.

    Let an example of level k weigh f_k / B, and m(f) be the mean over levels of f_k times the mean
    gradient there. Of the outer loss L with Hessian H, after an update with learning rate a,

        a m(f)^T H m(f) / 2 + a (mean of f_k^2 spread_k) / 2B - m(f)^T grad L

    is the expected change divided by a: quadratic in f, to be lowest over f >= 0 with mean 1.

    Args:
      members: (theta, AtLevels) of each; the objective is their mean.
    """
    count = len(LEVELS)
    hessian = 2 * points.x.T @ points.x / POINTS
    square, linear = np.zeros((count, count)), np.zeros(count)
    for theta, levels in members:
        slope = points.gradients(theta, points.x, points.y).mean(axis=0)
        square += rate * levels.means @ hessian @ levels.means.T / count**2
        square += rate * np.diag(levels.spreads) / (BATCH * count)
        linear += levels.means @ slope / count
    # Least squares with f >= 0; the last row holds the mean at 1.
    root = np.linalg.cholesky(square)
    firm = 1e3 * np.sqrt(square.max()) * count
    system = np.vstack([root.T, np.full(count, firm / count)])
    return optimize.nnls(system, np.append(np.linalg.solve(root, linear), firm))[0]


def measured(rater, examples: ExampleSet, seed: int, batches: int = 200) -> tuple:
    """(scores, log noise), both [batches, B]: log weights, but for a constant of each batch."""
    stream = BatchStream(examples, BATCH, derive_seed(seed, "measured batches"))
    log_noise = np.stack([stream.batch(n)["log_noise"][:, 0] for n in range(batches)])
    scores = np.asarray(rater({"log_noise": log_noise.reshape(-1, 1)}))
    return scores.reshape(log_noise.shape), log_noise


def run(case: Case, seed: int, meta_steps: int) -> dict:
    """What a seed's line says, apart from its names."""
    random = np.random.default_rng(derive_seed(seed, "measuring"))
    points, *sets = data(case, seed)
    trainer = learn(case, seed, sets, meta_steps)
    rater = trainer.rater
    scores, log_noise = measured(rater, sets[0], seed)
    line = within_batches(scores, log_noise, random)

    thetas = [member.state.theta[0].numpy()[:, 0] for member in trainer.population.members]
    members = [(theta, at_levels(case, points, theta, random)) for theta in thetas]
    gradient_noise = np.log(np.mean([levels.noise for _, levels in members], axis=0)) / 2
    of_gradient = np.interp(log_noise, np.log(LEVELS), gradient_noise)
    line["gradient_slope"] = within_batches(scores, of_gradient, random)["slope"]

    best = best_weights(case.optimizer.learning_rate, points, members)
    at = {"log_noise": np.log(LEVELS)[:, None].astype(np.float32)}
    learned = np.exp(np.asarray(rater(at))[:, 0])
    positive = best.min() > 1e-6
    line["best_slope"] = regression(np.log(LEVELS), np.log(best))["slope"] if positive else None
    line["best_correlation"] = pearson(learned, best)
    line["clean_loss"] = losses_under(case, seed, sets, rater)
    return line


def rounded(value, digits: int = 4):
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def over_seeds(values: list[float]) -> dict:
    """Mean of a figure, and Student's 95% interval of it; none of one seed."""
    line = {"mean": float(np.mean(values))}
    if len(values) > 1:
        reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
        line["95"] = [line["mean"] - reach, line["mean"] + reach]
    return rounded(line)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), metavar="CASE")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5)))
    parser.add_argument("--meta_steps", type=int, default=2000)
    options = parser.parse_args(argv)
    for name in options.cases:
        lines = []
        for seed in options.seeds:
            lines.append(run(CASES[name], seed, options.meta_steps))
            print(json.dumps({"case": name, "seed": seed, **rounded(lines[-1])}), flush=True)
        figures = ("slope", "gradient_slope", "best_slope")
        known = {key: [line[key] for line in lines] for key in figures}
        summary = {key: over_seeds(found) for key, found in known.items() if None not in found}
        print(json.dumps({"case": name, "seeds": len(lines), **summary}), flush=True)


if __name__ == "__main__":
    main()
