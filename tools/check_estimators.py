#!/usr/bin/env python3
"""Compares estimators of the meta-gradient where labels are wrong: docs/extensions/estimators.md.

    tools/check_estimators.py learn                raters by estimator and objective, three seeds
    tools/check_estimators.py learn --arms exact evolution --seeds 0
    tools/check_estimators.py agree                meta-gradients against a long exact unroll

The task, of text that every Python installation has: from the counts of bytes in 48 bytes of text,
which of four kinds it is (docstrings of the standard library, of NumPy, of Keras, or code). Of the
training windows 45% have the label of the next kind. The inner model is a network of one hidden
layer, the rater another that reads counts and label; outer batches are of windows with right
labels, and so is the test part, of documents of its own.

`learn` prints a JSON line for each arm and seed, and one with the means and Student's 95% interval:

  auc             how well scores tell right labels from wrong ones, 0.5 by chance
  test_error      share of test windows that a fresh model gets wrong, trained as the rater weighs
  forward_passes  of the inner model, a member's meta-step (the outer batch counted by its size)
  seconds         of meta-training, of which `compile_seconds` until its first meta-step was done

`agree` trains a member on windows weighed by an untrained rater, takes the meta-gradient of
estimators on four batches, and prints the cosines with that of an exact unroll of many updates that
goes on over the same four batches, and lengths relative to its: a line for each age of the member.
Each value is a mean over draws of batches and its standard error.
"""

import argparse
import dataclasses
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
from scipy import stats
import tensorflow as tf

from dr_keras.data.corpora.embedded import embedded_code, embedded_corpus
from dr_keras.data.examples import ExampleSet, objects
from dr_keras.data.splits import unit_hash
from dr_keras.data.streams import BatchStream
from dr_keras.meta import pytrees
from dr_keras.meta.estimators import EvolutionStrategies, ImplicitGradient, NestedTape, Recompute
from dr_keras.meta.keras_problem import KerasProblem
from dr_keras.meta.optimizers import OuterAdam, adam, cosine_rate, sgd
from dr_keras.meta.population import initial_values
from dr_keras.meta.problem import InnerState, inner_update
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import classification_loss
from dr_keras.models.objectives import error_rate, mean_loss

WINDOW, KINDS, WRONG = 48, 4, 0.45
BATCH, OUTER_BATCH, UNROLL = 32, 256, 2
SIZES = {"train": 16384, "outer": 4096, "test": 8192}


@dataclasses.dataclass(frozen=True)
class Arm:
    """An estimator, and the objective it is told to lower; None: no rater at all."""

    estimator: object
    objective: object = mean_loss()
    unroll: int = UNROLL


ARMS = {
    "all weigh the same": None,
    "right labels": None,  # as good as it gets
    "exact, loss": Arm(NestedTape()),
    "evolution, error rate": Arm(EvolutionStrategies(pairs=16, spread=1.0), error_rate()),
    "exact, loss, T = 8": Arm(Recompute(save_gradients=True), unroll=8),
    "evolution, error rate, T = 8": Arm(EvolutionStrategies(pairs=16, spread=1.0), error_rate(), 8),
    "implicit, loss": Arm(ImplicitGradient(iterations=5, damping=0.01)),
    "evolution, loss": Arm(EvolutionStrategies(pairs=16, spread=1.0)),
    "evolution of parameters, error rate": Arm(
        EvolutionStrategies(pairs=16, spread=0.05, perturbed="parameters"), error_rate()
    ),
}


# ------------------------------------------------------------------------------------------- data


@functools.cache
def windows() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Part -> (counts of bytes [N, 96] in float32, kinds int32 [N]), as many of each kind."""
    corpora = [embedded_corpus([p], name=p) for p in ("stdlib", "numpy", "keras")]
    corpora.append(embedded_code())
    found: dict[str, list] = {part: [] for part in SIZES}
    for kind, corpus in enumerate(corpora):
        wanted = {part: size // KINDS for part, size in SIZES.items()}
        for document in corpus.documents():
            place = unit_hash("part", document.id)
            part = "train" if place < 0.6 else "outer" if place < 0.75 else "test"
            text = " ".join(document.text.split()).encode("ascii", "ignore")
            for start in range(0, len(text) - WINDOW + 1, 2 * WINDOW):
                if wanted[part]:
                    wanted[part] -= 1
                    found[part].append((text[start : start + WINDOW], kind))
    return {part: _counted(part, rows) for part, rows in found.items()}


def _counted(part: str, rows: list) -> tuple[np.ndarray, np.ndarray]:
    order = np.random.default_rng(derive_seed(0, part)).permutation(len(rows))
    letters = np.array([np.frombuffer(rows[n][0], np.uint8) for n in order])
    counts = (letters[:, :, None] == np.arange(32, 128)).sum(axis=1)
    return np.sqrt(counts).astype(np.float32), np.array([rows[n][1] for n in order], np.int32)


def example_set(counts, label, name: str) -> ExampleSet:
    names = objects(f"{name}-{row}" for row in range(len(label)))
    features = {"counts": counts, "label": label}
    return ExampleSet(features, names, names, names, name=name)


def sets(seed: int) -> tuple[ExampleSet, ExampleSet, np.ndarray]:
    """(train set with wrong labels, outer set, which of the training labels are wrong)."""
    counts, kinds = windows()["train"]
    random = np.random.default_rng(derive_seed(seed, "wrong"))
    wrong = random.random(len(kinds)) < WRONG
    label = np.where(wrong, (kinds + 1) % KINDS, kinds).astype(np.int32)
    return example_set(counts, label, "train"), example_set(*windows()["outer"], "outer"), wrong


# ----------------------------------------------------------------------------------------- models


def classifier() -> keras.Model:
    counts = keras.Input((96,), name="counts")
    hidden = keras.layers.Dense(32, activation="tanh")(counts)
    return keras.Model({"counts": counts}, keras.layers.Dense(KINDS)(hidden), name="classifier")


def label_rater(seed: int) -> keras.Model:
    """A score for each of the kinds, of which the label picks one; at first all are 0."""
    with seeded(derive_seed(seed, "rater")):
        counts = keras.Input((96,), name="counts")
        label = keras.Input((), dtype="int32", name="label")
        hidden = keras.layers.Dense(32, activation="tanh")(counts)
        of_kinds = keras.layers.Dense(KINDS, kernel_initializer="zeros")(hidden)
        score = keras.ops.sum(of_kinds * keras.ops.one_hot(label, KINDS), axis=1)
    return keras.Model({"counts": counts, "label": label}, score, name="label_rater")


# ------------------------------------------------------------------------------------------ learn


class _FirstStep(keras.callbacks.Callback):
    """When the first meta-step was done."""

    def __init__(self):
        super().__init__()
        self.seconds = None

    def on_train_batch_end(self, batch, logs=None):
        self.seconds = self.seconds or time.perf_counter()


def learn(name: str, seed: int, meta_steps: int) -> dict:
    """What a line of an arm and seed says."""
    arm, (train, outer, wrong) = ARMS[name], sets(seed)
    if name == "right labels":
        train = example_set(*windows()["train"], "train")
    line = {"arm": name, "seed": seed}
    rater = label_rater(seed)
    if arm is not None:
        trainer = MetaTrainer(
            rater,
            classifier,
            classification_loss,
            adam(1e-2),
            OuterAdam(cosine_rate(1e-2, meta_steps, 20, final_fraction=0.02), clip_norm=None),
            arm.estimator,
            arm.unroll,
            population_size=4,
            lifetime=200,
            inner_batch_size=BATCH,
            outer_batch_size=OUTER_BATCH,
            objective=arm.objective,
            seed=seed,
        )
        first, begun = _FirstStep(), time.perf_counter()
        trainer.fit(train, outer, meta_steps, callbacks=[first])
        passes = arm.estimator.forward_passes(arm.unroll)
        line["forward_passes"] = passes.inner + passes.outer * OUTER_BATCH / BATCH
        line["seconds"] = time.perf_counter() - begun
        line["compile_seconds"] = first.seconds - begun
    scores = np.asarray(rater(dict(train.features)))
    ranks = stats.rankdata(scores)
    right = (~wrong).sum()
    line["auc"] = (ranks[~wrong].sum() - right * (right + 1) / 2) / (right * wrong.sum())
    line["test_error"] = fresh_error(rater, train, seed)
    return line


def fresh_error(rater, train: ExampleSet, seed: int, updates: int = 600) -> float:
    """Error rate of a fresh model, trained on batches that the rater weighs."""
    with seeded(derive_seed(seed, "fresh")):
        model = classifier()
    optimizer = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(1e-2, updates))
    stream = BatchStream(train, BATCH, derive_seed(seed, "fresh batches"))

    @tf.function(jit_compile=True)
    def update(batch):
        weights = tf.nn.softmax(rater(batch))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(
                weights * classification_loss(model({"counts": batch["counts"]}), batch)
            )
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)

    optimizer.build(model.trainable_variables)
    for number in range(updates):
        update({n: tf.constant(v) for n, v in stream.batch(number).items()})
    counts, kinds = windows()["test"]
    return float((np.asarray(model({"counts": counts})).argmax(axis=1) != kinds).mean())


def over_seeds(lines: list[dict]) -> dict:
    """Means of the figures of an arm, and for more than one seed Student's 95% interval."""
    summary = {"arm": lines[0]["arm"], "seeds": len(lines)}
    for name in [key for key in lines[0] if key not in ("arm", "seed")]:
        values = [line[name] for line in lines]
        summary[name] = {"mean": float(np.mean(values))}
        if len(values) > 1:
            reach = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
            summary[name]["95"] = [summary[name]["mean"] - reach, summary[name]["mean"] + reach]
    return summary


# ------------------------------------------------------------------------------------------ agree

AGREEING = {
    "exact, 4 updates": NestedTape(),
    "implicit, conjugate gradients": ImplicitGradient(iterations=10, damping=0.1),
    "implicit, conjugate gradients, no damping": ImplicitGradient(iterations=10, damping=0.0),
    "implicit, Neumann": ImplicitGradient("neumann", iterations=40, step=0.1, damping=0.0),
}


def agree(
    ages: list[int], updates: int, draws: int, rate: float, ridge: float, seed: int = 0
) -> None:
    """Prints cosines by the member's age, means over draws of the four batches.

    Batches are of 256 examples, so that the four of them are not far from all there are. Inner
    updates are SGD's at a rate at which the loss falls steadily: where it does not, the exact
    meta-gradient of a long unroll grows without bounds. The ridge is of the inner loss: without, a
    network fits the four batches whatever their weights.
    """
    train, outer, _ = sets(seed)
    with seeded(derive_seed(seed, "structure")):
        structure = classifier()
    rater = label_rater(seed)
    make = KerasProblem(rater, structure, classification_loss, sgd(rate))
    plain = make()

    def inner_loss(theta, statistics, batch):
        losses, statistics = plain.inner_loss(theta, statistics, batch)
        return losses + ridge / 2 * tf.square(pytrees.global_norm(theta)), statistics

    problem = dataclasses.replace(plain, inner_loss=inner_loss)
    random = np.random.default_rng(seed)
    # A rater that says something, or every example would weigh the same.
    variables = rater.trainable_variables
    eta = [tf.constant(random.normal(0, 0.3, v.shape), tf.float32) for v in variables]
    theta, others = initial_values(classifier, seed)
    statistics = make.parts.statistics(others)
    state = InnerState(theta, statistics, problem.optimizer.init(theta), tf.constant(0))

    def compiled(function):
        return tf.function(function, jit_compile=True, autograph=False)

    def estimated(estimator):
        def call(state, inner, held_out):
            _, gradient, _, metrics = estimator(
                problem, InnerState(*state), eta, inner, {"outer": held_out}
            )
            return tf.concat([tf.reshape(leaf, [-1]) for leaf in gradient], 0), metrics.get(
                "reported", {}
            )

        return compiled(call)

    @compiled
    def advance(state, batch):
        state = InnerState(*state)
        weights, _ = problem.weigh(eta, state, batch)
        return tuple(inner_update(problem, state, weights, batch)[0])

    functions = {name: estimated(estimator) for name, estimator in AGREEING.items()}
    long = estimated(Recompute(checkpoint_every="sqrt"))
    stream = BatchStream(train, OUTER_BATCH, derive_seed(seed, "ageing"))
    held_out = BatchStream(outer, OUTER_BATCH, derive_seed(seed, "held out"))
    age, state = 0, tuple(state)
    for wanted in ages:
        while age < wanted:
            state = advance(state, {n: tf.constant(v) for n, v in stream.batch(age).items()})
            age += 1
        found: dict[str, list] = {}
        for draw in range(draws):
            rows = [stream.batch(10**6 + 4 * draw + n) for n in range(4)]
            inner = {n: tf.constant(np.stack([row[n] for row in rows])) for n in rows[0]}
            outside = {n: tf.constant(v) for n, v in held_out.batch(draw).items()}
            again = {n: tf.tile(v, [updates // 4] + [1] * (v.ndim - 1)) for n, v in inner.items()}
            target = np.float64(long(state, again, outside)[0])
            for name, function in functions.items():
                gradient, reported = function(state, inner, outside)
                gradient = np.float64(gradient)
                own, wanted_length = np.linalg.norm(gradient), np.linalg.norm(target)
                cosine = gradient @ target / (own * wanted_length)
                found.setdefault(name, []).append(float(cosine))
                found.setdefault(f"{name}: length", []).append(float(own / wanted_length))
                if reported:
                    residual = float(reported["implicit_residual"])
                    found.setdefault(f"{name}: residual", []).append(residual)
        line = {"age": wanted, "updates": updates, "draws": draws}
        line |= {name: [np.mean(v), stats.sem(v)] for name, v in found.items()}
        print(json.dumps(rounded(line)), flush=True)


def rounded(value, digits: int = 3):
    if isinstance(value, dict):
        return {key: rounded(each, digits) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(each, digits) for each in value]
    return float(f"{value:.{digits}g}") if isinstance(value, float) else value


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    of_learn = verbs.add_parser("learn")
    of_learn.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS), metavar="ARM")
    of_learn.add_argument("--seeds", nargs="+", type=int, default=list(range(3)))
    of_learn.add_argument("--meta_steps", type=int, default=300)
    of_agree = verbs.add_parser("agree")
    of_agree.add_argument("--ages", nargs="+", type=int, default=[0, 30, 100, 300])
    of_agree.add_argument("--updates", type=int, default=256)
    of_agree.add_argument("--draws", type=int, default=8)
    of_agree.add_argument("--rate", type=float, default=0.1, help="of inner updates")
    of_agree.add_argument("--ridge", type=float, default=0.2)
    flags = parser.parse_args(argv)
    if flags.verb == "agree":
        agree(sorted(flags.ages), flags.updates, flags.draws, flags.rate, flags.ridge)
        return
    for name in flags.arms:
        lines = []
        for seed in flags.seeds:
            lines.append(learn(name, seed, flags.meta_steps))
            print(json.dumps(rounded(lines[-1])), flush=True)
        print(json.dumps(rounded(over_seeds(lines))), flush=True)


if __name__ == "__main__":
    main()
