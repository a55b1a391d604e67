"""A program that tests start: meta-trains a tiny rater under a strategy of its own process.

    strategy_program.py compare FOLDER
        One device against two logical CPUs, in float64; checkpoints from one to the other; a
        member that blows up. Writes FOLDER/report.json.
    strategy_program.py noise FOLDER
        One device against two logical CPUs, in float32. Writes FOLDER/noise.json.
    strategy_program.py worker FOLDER INDEX PORT PORT [--steps N] [--pause SECONDS]
        One of two workers in float64, whose run lies in FOLDER/run; resumes where it stands.
        Writes FOLDER/worker-INDEX.json.
    strategy_program.py one_device FOLDER [--steps N]
        The same run on one device, from the same state.
"""

import argparse
import json
import os
import pathlib
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import numpy as np  # noqa: E402

from dr_keras.data.examples import ExampleSet  # noqa: E402
from dr_keras.distribution.strategies import (  # noqa: E402
    mirrored_strategy,
    multi_worker_strategy,
)
from dr_keras.errors import ConfigurationError, DrKerasError  # noqa: E402
from dr_keras.meta.checkpoints import Checkpoints  # noqa: E402
from dr_keras.meta.inner_optimizers import adam  # noqa: E402
from dr_keras.meta.outer_optimizer import OuterAdam  # noqa: E402
from dr_keras.meta.seeds import seeded  # noqa: E402
from dr_keras.meta.trainer import MetaTrainer  # noqa: E402
from dr_keras.models.losses import squared_error  # noqa: E402

RATE = 0.01


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


def inner_model() -> keras.Model:
    x = keras.Input((3,), name="x")
    hidden = keras.layers.Dropout(0.1)(keras.layers.Dense(4, activation="tanh")(x))
    return keras.Model({"x": x}, keras.layers.Dense(1)(hidden), name="inner")


def trainer_of(strategy, **arguments) -> MetaTrainer:
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


def against_one_device(folder: pathlib.Path, strategy, dtype: str) -> tuple[dict, np.ndarray]:
    """What 20 meta-steps on `strategy` and on one device have in common; the latter's rater."""
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
    return report, one


def compare(folder: pathlib.Path) -> None:
    import tensorflow as tf

    strategy = mirrored_strategy(logical_cpus=2)
    report, one = against_one_device(folder, strategy, "float64")
    train, outer = sets("float64")
    # Each goes on from the other's state of meta-step 10.
    for origin, where in (("one", strategy), ("two", None)):
        for file in (folder / origin / "checkpoints").glob("state-20.*"):
            file.unlink()
        trainer = trainer_of(where)  # compiled code has random numbers of its own
        for variable in tf.nest.flatten(trainer.variables()):
            variable.assign(tf.ones_like(variable))
        checkpoints = Checkpoints(folder / origin)
        checkpoints.set_trainer(trainer)
        assert checkpoints.restore() == 10
        trainer.fit(train, outer, 20)
        end = flat(trainer.rater.trainable_variables)
        report[f"resumed_from_{origin}"] = float(np.abs(end - one).max())
    # A member that blows up on the second replica is counted, and nobody else is touched.
    trainer = trainer_of(strategy, jit_compile=False)
    theta = trainer.population.members[3].state.theta[0]
    theta.assign(tf.fill(theta.shape, tf.constant(np.nan, theta.dtype)))
    trainer.fit(train, outer, 1)
    report["blown_up"] = {
        "finite": trainer.last_record.members["finite"].tolist(),
        "count": int(trainer.nonfinite_count),
        "rater_finite": bool(np.isfinite(flat(trainer.rater.trainable_variables)).all()),
        "generations": [int(m.generation) for m in trainer.population.members],
    }
    for size in (1, 3):
        try:
            trainer_of(strategy, population_size=size)
        except ConfigurationError as error:
            report[f"population_{size}"] = str(error)
    (folder / "report.json").write_text(json.dumps(report))


def noise(folder: pathlib.Path) -> None:
    report, _ = against_one_device(folder, mirrored_strategy(logical_cpus=2), "float32")
    (folder / "noise.json").write_text(json.dumps(report))


def train_run(folder: pathlib.Path, name: str, strategy, steps: int, pause: float) -> None:
    in_precision("float64")
    trainer, records = trainer_of(strategy), Records(pause)
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
    arguments = parser.parse_args()
    if arguments.what in ("compare", "noise"):
        {"compare": compare, "noise": noise}[arguments.what](arguments.folder)
        return
    strategy, name = None, "one_device"
    if arguments.what == "worker":
        workers = [f"127.0.0.1:{port}" for port in arguments.ports]
        strategy = multi_worker_strategy(workers, arguments.index)
        name = f"worker-{arguments.index}"
    try:
        train_run(arguments.folder, name, strategy, arguments.steps, arguments.pause)
    except DrKerasError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        raise SystemExit(2)


if __name__ == "__main__":
    main()
