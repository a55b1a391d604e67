"""A program that tests start: meta-trains a tiny rater under a strategy of its own process.

strategy_program.py compare FOLDER
    One device against two logical CPUs, in float64; checkpoints from one to the other; a
    member that blows up. Writes FOLDER/report.json. Then `split` in FOLDER/split and
    `language_model`, with their defaults: one process starts up sooner than three.
strategy_program.py noise FOLDER
    One device against two logical CPUs, in float32. Writes FOLDER/noise.json.
strategy_program.py split FOLDER [--members N] [--estimator NAME] [--jit]
    Each of N members on two logical CPUs of 2 N, against one device, in float64; checkpoints
    and a member that blows up likewise. Writes FOLDER/split.json.
strategy_program.py language_model FOLDER [--dtype float32] [--jit]
    A LanguageModelTrainer on two logical CPUs against one device. Writes
    FOLDER/language_model.json.
strategy_program.py worker FOLDER INDEX PORT PORT [--steps N] [--pause SECONDS] [--members N]
    One of two workers in float64, whose run lies in FOLDER/run; resumes where it stands.
    Writes FOLDER/worker-INDEX.json.
strategy_program.py one_device FOLDER [--steps N] [--members N]
    The same run on one device, from the same state.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import ConfigurationError, DrKerasError
from dr_keras.meta import estimators
from dr_keras.meta.checkpoints import Checkpoints
from dr_keras.meta.devices.strategies import mirrored_strategy, multi_worker_strategy
from dr_keras.meta.draws import listed, uniform
from dr_keras.meta.optimizers import OuterAdam, adam
from dr_keras.meta.seeds import seeded
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.losses import squared_error
from dr_keras.models.text_models import language_model
from dr_keras.system import program_names
from dr_keras.training.trainers import ExampleTrainer, LanguageModelTrainer, example_sums

RATE = 0.01
program_names.install()  # several trainers here compile one program


def in_precision(dtype: str) -> None:
    keras.config.set_floatx(dtype)
    keras.config.set_dtype_policy(dtype)


def sets(dtype: str) -> tuple[ExampleSet, ExampleSet]:
    rng = np.random.default_rng(0)

    def build(count, lying, name):
        x = rng.normal(size=(count, 3)).astype(dtype)
        target = x @ np.array([[1.0], [-2.0], [0.5]], dtype)
        target[:lying] += 4
        words = np.array([f"{name}-{row}" for row in range(count)], object)
        return ExampleSet({"x": x, "target": target}, words, words, words, name=name)

    return build(40, 20, "train"), build(24, 0, "outer")


def rater() -> keras.Model:
    x, y = keras.Input((3,), name="x"), keras.Input((1,), name="target")
    hidden = keras.layers.Dense(4, activation="tanh")(keras.layers.Concatenate()([x, y]))
    return keras.Model({"x": x, "target": y}, keras.layers.Dense(1)(hidden), name="rater")


def inner_model(middle=lambda: keras.layers.Dropout(0.1)) -> keras.Model:
    x = keras.Input((3,), name="x")
    hidden = middle()(keras.layers.Dense(4, activation="tanh")(x))
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="inner")


def plain_model() -> keras.Model:
    return inner_model(keras.layers.Identity)


def normalised_model() -> keras.Model:
    return inner_model(keras.layers.BatchNormalization)


def trainer_of(strategy, inner_model=inner_model, **arguments) -> MetaTrainer:
    with seeded(1):
        model = rater()
    settings = dict(
        inner_optimizer=adam(0.02),
        outer_optimizer=OuterAdam(RATE, warmup=2, clip_norm=1.0),
        population_size=4,
        lifetime=16,
        inner_batch_size=8,
        outer_batch_size=8,
        on_nonfinite="reinit",
        strategy=strategy,
    )
    return MetaTrainer(model, inner_model, squared_error, **(settings | arguments))


def flat(variables) -> np.ndarray:
    return np.concatenate([np.ravel(v.numpy()).astype(np.float64) for v in variables])


class Records(keras.callbacks.Callback):
    """What every meta-step reported."""

    def __init__(self, pause: float = 0.0):
        super().__init__()
        self.rows, self.losses, self.ages, self._pause = [], [], [], pause

    def set_trainer(self, trainer):
        self._trainer = trainer

    def on_train_batch_end(self, batch, logs=None):
        record = self._trainer.last_record
        self.rows.append(record.rows.tolist())
        self.losses.append(record.members["outer_loss"].tolist())
        self.ages.append(record.ages)
        print(f"step {record.meta_step}", flush=True)
        time.sleep(self._pause)


def count_bytes(strategy) -> list[int]:
    """Bytes handed to each sum over replicas from now on, as it is traced."""
    found, reduce = [], strategy.sum

    def counting(tensors):
        found.append(sum(t.shape.num_elements() * t.dtype.size for t in tensors))
        return reduce(tensors)

    strategy.sum = counting
    return found


def against_one_device(folder: pathlib.Path, strategy, dtype: str) -> tuple[dict, list]:
    """What 20 meta-steps on one device and on `strategy` have in common; the two trainers."""
    import tensorflow as tf

    in_precision(dtype)
    train, outer = sets(dtype)
    trainers, records, sums = [], [], count_bytes(strategy)
    for name, where in (("one", None), ("two", strategy)):
        trainers.append(trainer_of(where))
        records.append(Records())
        start = flat(trainers[-1].rater.trainable_variables)
        checkpoints = Checkpoints(folder / name, keep=9)
        trainers[-1].fit(train, outer, 20, 10, [checkpoints, records[-1]])
    one, two = (flat(trainer.rater.trainable_variables) for trainer in trainers)
    replica_0, replica_1 = (
        [copy.values[r].numpy().tolist() for copy in trainers[1]._replica_eta] for r in (0, 1)
    )
    first, second = records
    report = {
        "bytes": sum(sums) / strategy.replica_count,  # every replica traces the step
        "moved": float(np.abs(one - start).max()),
        # The last number is the bias of all scores, which the softmax does not see.
        "difference": float(np.abs(one - two)[:-1].max()),
        "bias_difference": float(np.abs(one - two)[-1]),
        "copies_equal": replica_0 == replica_1,
        "devices": [
            sorted({v.device[-5:] for v in tf.nest.flatten(member.variables())})
            for member in trainers[1].population.members
        ],
        "rows_equal": first.rows == second.rows,
        "ages_equal": first.ages == second.ages,
        "losses": float(np.abs(np.subtract(first.losses, second.losses)).max()),
        "rows": second.rows[:2],
    }
    return report, trainers


def resumed(folder: pathlib.Path, trainers: list, sets: tuple, expected: np.ndarray) -> dict:
    """How far either trainer ends from `expected` when it goes on from the other's meta-step 10."""
    import tensorflow as tf

    differences = {}
    for origin, trainer in zip(("one", "two"), reversed(trainers), strict=True):
        for file in (folder / origin / "checkpoints").glob("state-20.*"):
            file.unlink()
        for variable in tf.nest.flatten(trainer.variables()):
            variable.assign(tf.ones_like(variable))
        checkpoints = Checkpoints(folder / origin)
        checkpoints.set_trainer(trainer)
        assert checkpoints.restore() == 10
        trainer.fit(*sets, 20)
        end = flat(trainer.rater.trainable_variables)
        differences[f"resumed_from_{origin}"] = float(np.abs(end - expected).max())
    return differences


def compare(folder: pathlib.Path) -> None:
    import tensorflow as tf

    strategy = mirrored_strategy(logical_cpus=2)
    report, trainers = against_one_device(folder, strategy, "float64")
    train, outer = sets("float64")
    expected = flat(trainers[0].rater.trainable_variables)
    report |= resumed(folder, trainers, (train, outer), expected)
    # A member that blows up on the second replica is counted, and nobody else is touched.
    trainer = trainers[1]
    generations = [int(m.generation) for m in trainer.population.members]
    theta = trainer.population.members[3].state.theta[0]
    theta.assign(tf.fill(theta.shape, tf.constant(np.nan, theta.dtype)))
    trainer.fit(train, outer, 21)
    report["blown_up"] = {
        "finite": trainer.last_record.members["finite"].tolist(),
        "count": int(trainer.nonfinite_count),
        "rater_finite": bool(np.isfinite(flat(trainer.rater.trainable_variables)).all()),
        "restarted": [
            int(m.generation) - before - (index in trainer.last_record.reinitialised)
            for index, (m, before) in enumerate(zip(trainer.population.members, generations))
        ],
    }
    report["refused"] = [
        refusal(strategy, population_size=3),
        refusal(strategy, population_size=1, inner_batch_size=7),
        refusal(strategy, population_size=1, outer_batch_size=6,
                estimator=estimators.MixedMode(micro_batches=2)),
        refusal(strategy, population_size=1, estimator=lambda *arguments: None),
        refusal(strategy, population_size=1, inner_model=normalised_model),
    ]  # fmt: skip
    report["asked_again"] = mirrored_strategy(logical_cpus=2) is strategy
    (folder / "report.json").write_text(json.dumps(report))


def refusal(strategy, inner_model=inner_model, **arguments) -> str:
    try:
        trainer_of(strategy, inner_model, **arguments)
    except ConfigurationError as error:
        return str(error)
    return ""


def copies_equal(trainer, members: int) -> bool:
    """Whether the two replicas that carry a member have the same state of it."""
    import tensorflow as tf

    held = tf.nest.flatten(trainer.population.slots[0].variables())
    return all(
        np.array_equal(leaf.values[2 * m].numpy(), leaf.values[2 * m + 1].numpy())
        for m in range(members)
        for leaf in held
    )


def split(folder: pathlib.Path, members: int, name: str, jit: bool) -> None:
    """Three updates a meta-step, of which the second and third share a segment."""
    import tensorflow as tf

    strategy = mirrored_strategy(logical_cpus=2 * members)
    in_precision("float64")
    train, outer = sets("float64")
    settings = dict(
        population_size=members, unroll_length=3, advance_updates=1, jit_compile=jit,
        inner_model=plain_model,
        lifetime=25,  # no member starts again after 20 meta-steps, when one is made to blow up
    )  # fmt: skip
    # NestedTape knows no micro-batches, and dropout draws for each part of a batch anew.
    two, one = getattr(estimators, name)(), getattr(estimators, name)()
    if name == "MixedMode":
        settings |= dict(inner_model=inner_model, advance_updates=0)
        two = estimators.MixedMode(checkpoint_every=2)
        one = estimators.MixedMode(micro_batches=2)
    sums, trainers, records = count_bytes(strategy), [], []
    for where, estimator in ((None, one), (strategy, two)):
        trainers.append(trainer_of(where, estimator=estimator, **settings))
        records.append(Records())
        start = flat(trainers[-1].rater.trainable_variables)
        folder_of = folder / ("one" if where is None else "two")
        trainers[-1].fit(train, outer, 20, 10, [Checkpoints(folder_of, keep=9), records[-1]])
    expected, found = (flat(trainer.rater.trainable_variables) for trainer in trainers)
    report = {
        "bytes": sum(sums) / strategy.replica_count,
        "inner_parameters": flat(trainers[0].population.members[0].state.theta).size,
        "moved": float(np.abs(expected - start).max()),
        "difference": float(np.abs(found - expected)[:-1].max()),
        "bias_difference": float(np.abs(found - expected)[-1]),
        "losses": float(np.abs(np.subtract(records[0].losses, records[1].losses)).max()),
        "rows_equal": records[0].rows == records[1].rows,
        "ages_equal": records[0].ages == records[1].ages,
        "copies_equal": copies_equal(trainers[1], members),
    }
    report |= resumed(folder, trainers, (train, outer), expected)
    trainer = trainers[1]
    last = trainer.population.members[-1].state.theta[0]
    last.assign(tf.fill(last.shape, tf.constant(np.nan, last.dtype)))
    before = flat(trainer.rater.trainable_variables)
    trainer.fit(train, outer, 21)
    finite = trainer.last_record.members["finite"].tolist()
    trainer.fit(train, outer, 22)
    report["blown_up"] = {
        "finite": [finite, trainer.last_record.members["finite"].tolist()],
        "count": int(trainer.nonfinite_count),
        "rater_moved": bool((flat(trainer.rater.trainable_variables) != before).any()),
        "rater_finite": bool(np.isfinite(flat(trainer.rater.trainable_variables)).all()),
        "copies_equal": copies_equal(trainer, members),
    }
    (folder / "split.json").write_text(json.dumps(report))


def language_models(folder: pathlib.Path, dtype: str, jit: bool) -> None:
    """Weights and curves of two runs on one device and on two; what is refused."""
    strategy = mirrored_strategy(logical_cpus=2)
    in_precision(dtype)
    rng = np.random.default_rng(0)
    tokens = ((rng.integers(0, 16, (40, 1)) + np.arange(12)) % 16 + 1).astype(np.int32)
    tokens[::5, 6:] = 0  # parts of a batch that hold less text than others
    words = np.array([str(row) for row in range(40)], object)
    text = ExampleSet({"tokens": tokens}, words, words, words, name="text")

    def build(where, dropout=0.0, batch_size=8):
        return LanguageModelTrainer(
            lambda: language_model(17, 12, width=16, layer_count=1, heads=2, dropout=dropout),
            steps=20, batch_size=batch_size, evaluate_every=10, clip_norm=0.5, strategy=where,
            jit_compile=jit,
        )  # fmt: skip

    trainers = [build(None), build(strategy)]
    found = []
    for trainer in trainers:
        records = [trainer.train(text, text, seed) for seed in (1, 2)]
        found.append((flat(trainer.model.trainable_variables), records))
    (one, alone), (two, together) = found
    copies = trainers[1]._wrapped._copies
    report = {
        "difference": float(np.abs(one - two).max()),
        "gain": alone[1].curve[0][1] - alone[1].curve[-1][1],
        "curves": [
            float(np.abs(np.subtract(getattr(a, curve), getattr(b, curve))).max())
            for a, b in zip(alone, together)
            for curve in ("curve", "train_curve")
        ],
        "fingerprints": len({trainer.fingerprint for trainer in trainers}),
        "devices": [c.model.trainable_variables[0].value.device[-5:] for c in copies],
        "copies_equal": all(
            np.array_equal(a, b) for a, b in zip(*(c.model.variables for c in copies))
        ),
    }
    trainer = build(strategy, dropout=0.3)
    trainer.reset(1)
    seeds = [
        [v.numpy().tolist() for v in copy.model.non_trainable_variables]
        for copy in trainer._wrapped._copies
    ]
    report["seeds_differ"] = bool(seeds[0]) and all(a != b for a, b in zip(*seeds))
    report["refused"] = []
    for refused in (
        lambda: build(strategy, batch_size=7),
        lambda: ExampleTrainer(
            normalised_model, loss_sums=example_sums, batch_size=8, strategy=strategy
        ),
    ):
        try:
            refused()
        except ConfigurationError as error:
            report["refused"].append(str(error))
    (folder / "language_model.json").write_text(json.dumps(report))


def noise(folder: pathlib.Path) -> None:
    report, _ = against_one_device(folder, mirrored_strategy(logical_cpus=2), "float32")
    (folder / "noise.json").write_text(json.dumps(report))


def train_run(
    folder: pathlib.Path, name: str, strategy, steps: int, pause: float, members: int
) -> None:
    in_precision("float64")
    settings = {
        "start_ages": 3,
        "lifetime": listed([16, 13]),
        "learning_rates": uniform(0.01, 0.03),
    }
    if members == 1:  # which the two workers share
        micro_batches = 2 if strategy is None else 1
        settings["estimator"] = estimators.MixedMode(micro_batches=micro_batches)
    trainer = trainer_of(strategy, population_size=members, **settings)
    records = Records(pause)
    checkpoints = Checkpoints(folder / "run", keep=99)
    checkpoints.set_trainer(trainer)
    began = checkpoints.restore() or 0
    print(f"from {began}", flush=True)
    validate = {"validation_loss": 1.5}.copy
    history = trainer.fit(*sets("float64"), steps, 5, [checkpoints, records], validate)
    result = {
        "began": began,
        "rater": flat(trainer.rater.trainable_variables).tolist(),
        "rows": records.rows,
        "losses": records.losses,
        "ages": records.ages,
        "validation": history.history.get("validation_loss"),
        "members_here": [i for i, m in enumerate(trainer.population.members) if m],
    }
    (folder / f"{name}.json").write_text(json.dumps(result))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("index", nargs="?", type=int)
    parser.add_argument("ports", nargs="*", type=int)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--pause", type=float, default=0.0)
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--estimator", default="MixedMode")
    parser.add_argument("--dtype", default="float64")
    parser.add_argument("--jit", action="store_true")
    arguments = parser.parse_args()
    if arguments.what == "compare":
        compare(arguments.folder)
        (arguments.folder / "split").mkdir()
        split(arguments.folder / "split", 1, arguments.estimator, arguments.jit)
        language_models(arguments.folder, arguments.dtype, arguments.jit)
        return
    if arguments.what == "noise":
        noise(arguments.folder)
        return
    if arguments.what == "language_model":
        language_models(arguments.folder, arguments.dtype, arguments.jit)
        return
    if arguments.what == "split":
        split(arguments.folder, arguments.members, arguments.estimator, arguments.jit)
        return
    strategy, name = None, "one_device"
    if arguments.what == "worker":
        workers = [f"127.0.0.1:{port}" for port in arguments.ports]
        strategy = multi_worker_strategy(workers, arguments.index)
        name = f"worker-{arguments.index}"
    try:
        train_run(
            arguments.folder, name, strategy, arguments.steps, arguments.pause, arguments.members
        )
    except DrKerasError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
