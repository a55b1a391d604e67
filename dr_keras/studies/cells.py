"""Cells of a study: one training run of one arm at one size, discard fraction and seed each.

    <base_dir>/cells/<size>/<arm>-<percent>-<seed>.json     what came of it, written whole
    <base_dir>/summaries/cells/<size>/<arm>-<percent>-<seed>/   its curves, for TensorBoard

A cell's file holds the names of the cell and a fingerprint of all that its figures depend on, the
run's `TrainingRecord` with the curve on the test part, the data budget, the threads that the model
had (0, and the device, where another machine trained it), and where the study asks for them the
losses on the validation part and on other corpora and the figures of tasks, at the end and while it
trained: what `summaries` reads. It is used again where the fingerprint is the same.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import pathlib
import shutil

import keras
import numpy as np
from tensorboard.plugins.hparams import api as hparams
import tensorflow as tf

from dr_keras.data.columns import Column, value_counts
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.streams import rows_of
from dr_keras.errors import CheckpointError
from dr_keras.rating.fractions import exact_fraction
from dr_keras.studies.arm_streams import UNFILTERED, Draw, MixedIn, data_budget
from dr_keras.studies.stages import LAYOUT
from dr_keras.studies.summaries import metrics_of
from dr_keras.system import whole_files
from dr_keras.training.records import Losses, TrainingRecord
from dr_keras.training.target_counts import total_targets
from dr_keras.training.tasks import TaskScorer, TaskWindows
from dr_keras.training.trainers import RepeatedTrainer

# What the sets are called that losses are measured on.
TEST, VALIDATION, CORPORA = "test", "validation", "corpora/"
# What ends the name of a size whose batches have a share of the target's text in every arm.
WITH_TARGET = " + target"


@dataclasses.dataclass(frozen=True, order=True)
class Cell:
    """Names of one run; `fraction` is 0 for the unfiltered arm.

    A run with a `steps_share` below 1 goes through the whole schedule in so much of the steps.
    """

    size: str
    arm: str
    fraction: float
    seed: int
    steps_share: float = 1.0

    @property
    def name(self) -> str:
        """As in file names."""
        short = "" if self.steps_share == 1 else f"-in_{_percent(self.steps_share)}"
        return f"{self.size}/{self.arm}-{_percent(self.fraction)}-{self.seed}{short}"

    @property
    def label(self) -> str:
        """As people read it."""
        share = f" {100 * self.fraction:g}%" if self.fraction else ""
        return f"{self.size} {self.arm}{share}, seed {self.seed}"


def percent(share: float) -> str:
    """A share of the examples or of the steps, exactly, without its sign: "12.5"."""
    return f"{float(100 * exact_fraction(share)):g}"


def _percent(share: float) -> str:
    return percent(share).replace(".", "_")


def cell(size: str, arm: str, fraction: float, seed: int, steps_share: float = 1.0) -> Cell:
    """A cell; the unfiltered arm has no fraction."""
    return Cell(size, arm, 0.0 if arm == UNFILTERED else fraction, seed, steps_share)


@dataclasses.dataclass(frozen=True, eq=False)
class Material:
    """What all cells of a study are trained and measured on; it is sent to other processes.

    Attributes:
      train: the train part.
      test: the curves are of it, thinned out.
      validation: measured at the end, where it is given.
      corpora: name -> windows of other corpora, measured at the end.
      tasks: asked at the end.
      asked: how often tasks are asked before that, evenly spread over the evaluations.
      equal_tokens: whether batches are of full windows, see `full_windows`.
      target: what all arms train on where a size's name ends with `WITH_TARGET`.
    """

    train: ExampleSet
    test: ExampleSet
    validation: ExampleSet | None = None
    corpora: Mapping[str, ExampleSet] = dataclasses.field(default_factory=dict)
    tasks: Sequence[TaskWindows] = ()
    equal_tokens: bool = False
    target: MixedIn | None = None
    asked: int = 0

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all data; the target's text by itself, see `mixed_into`."""
        sets = [self.train, self.test, self.validation, *self.corpora.values()]
        facts = ["" if s is None else s.fingerprint for s in sets]
        facts += [*self.corpora, *(windows.task.fingerprint for windows in self.tasks)]
        facts += ["equal tokens"] * self.equal_tokens
        facts += [f"asked {self.asked} times before the end"] * bool(self.asked and self.tasks)
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def measured(self) -> dict[str, ExampleSet]:
        """Name -> set that losses are measured on, the test part first."""
        found = {TEST: self.test}
        if self.validation is not None:
            found[VALIDATION] = self.validation
        return found | {CORPORA + name: examples for name, examples in self.corpora.items()}

    def mixed_into(self, size: str) -> MixedIn | None:
        """What the batches of a size have a share of beside what an arm chose."""
        return self.target if size.endswith(WITH_TARGET) else None

    def bare(self) -> "Material":
        """Without what only people read, which other processes need not have."""

        def stripped(examples: ExampleSet | None) -> ExampleSet | None:
            return examples and dataclasses.replace(examples, render=None, labels={})

        corpora = {name: stripped(examples) for name, examples in self.corpora.items()}
        sets = {name: stripped(getattr(self, name)) for name in ("train", "test", "validation")}
        target = self.target
        if target is not None:
            target = dataclasses.replace(target, examples=stripped(target.examples))
        return dataclasses.replace(self, corpora=corpora, target=target, **sets)


class CellTrainer:
    """Trains cells one after the other; one size's compiled step is kept at a time.

    Args:
      trainers: size -> builds its trainer, smallest size first.
      material: what they are trained on; called where a cell is to be run.
    """

    def __init__(
        self,
        trainers: Mapping[str, Callable[[], RepeatedTrainer]],
        material: Callable[[], Material],
    ):
        self._trainers, self._material = trainers, material
        self._size: str | None = None

    def trainer(self, size: str) -> RepeatedTrainer:
        """The trainer of a size; the one before it is let go."""
        size = size.removesuffix(WITH_TARGET)
        if size != self._size:
            self._trainer = self._scorer = None
            self._trainer, self._size = self._trainers[size](), size
        return self._trainer

    def run(self, cell: Cell, draw: Draw, progress=None) -> dict:
        """Trains and measures one; what came of it, JSON-able.

        Args:
          cell: its names.
          draw: what its batches are drawn from.
          progress: as for `RepeatedTrainer.train`.
        """
        given, trainer = self._material(), self.trainer(cell.size)
        stream, steps = self.stream(cell, draw)
        asking = self._asking(trainer, steps)
        callbacks = [] if asking is None else [asking]
        record = trainer.train(
            stream, given.test, cell.seed, progress, callbacks, steps_share=cell.steps_share
        )
        found = self._found(cell, draw, stream, steps, record)
        found["corpora"] = {name: mean_loss(trainer, s) for name, s in given.corpora.items()}
        found["tasks"] = self._ask(trainer, given.tasks)
        if given.validation is not None:
            found["validation_loss"] = mean_loss(trainer, given.validation)
        if asking is not None:
            found["task_curves"] = asking.curves(steps, found["tasks"])
        return found

    def stream(self, cell: Cell, draw: Draw) -> tuple:
        """(the batches of a cell: anything with `examples` and `indices(step)`, steps)."""
        given, trainer = self._material(), self.trainer(cell.size)
        batch, train = trainer.batch_size, given.train
        mixed, steps = given.mixed_into(cell.size), trainer.steps_of(cell.steps_share)
        stream = draw.stream(
            train, cell.fraction, batch, cell.seed, cell.arm, given.equal_tokens, mixed, steps
        )
        return stream, steps

    def _found(self, cell: Cell, draw: Draw, stream, steps: int, record: TrainingRecord) -> dict:
        given = self._material()
        mixed, train = given.mixed_into(cell.size), given.train
        budget = data_budget(
            stream,
            steps,
            draw.read_a_step(stream, len(train), mixed),
            len(train),
            len(mixed.examples) if mixed else 0,
        )
        return {
            "cell": dataclasses.asdict(cell),
            "record": dataclasses.asdict(record),
            "budget": dataclasses.asdict(budget),
            "discard_fraction": float(draw.discard_fraction),
        }

    def taken(self, cell: Cell, draw: Draw, outcome) -> dict:
        """What `run` returns, of a cell that was trained elsewhere.

        Args:
          outcome: `elsewhere.Outcome`.
        """
        given, (stream, steps) = self._material(), self.stream(cell, draw)
        losses = outcome.losses
        record = TrainingRecord.of(
            cell.seed,
            stream.examples,
            rows_of(stream, steps),
            outcome.curve,
            outcome.train_curve,
            given.test.sources,
            losses[TEST],
            outcome.seconds,
        )
        found = self._found(cell, draw, stream, steps, record)
        found["corpora"] = {name: losses[CORPORA + name].mean for name in given.corpora}
        found |= {"tasks": {}, "device": outcome.device}
        if given.validation is not None:
            found["validation_loss"] = losses[VALIDATION].mean
        return found

    def _asking(self, trainer: RepeatedTrainer, steps: int) -> "_Asking | None":
        given = self._material()
        if not given.asked or not given.tasks:
            return None
        return _Asking(lambda: self._ask(trainer, given.tasks), trainer, steps, given.asked)

    def _ask(self, trainer: RepeatedTrainer, tasks: Sequence[TaskWindows]) -> dict[str, dict]:
        if tasks and self._scorer is None:
            self._scorer = TaskScorer(trainer.model, trainer.evaluation_batch_size)
        return {windows.task.name: self._scorer(windows) for windows in tasks}


class _Asking(keras.callbacks.Callback):
    """Asks tasks while a model trains.

    Args:
      ask: returns task -> figures of the present weights.
      trainer: whose evaluations are the epochs.
      steps: of the run.
      times: before its end, or as often as there are evaluations.
    """

    def __init__(self, ask: Callable[[], dict], trainer: RepeatedTrainer, steps: int, times: int):
        super().__init__()
        self._ask, self._every = ask, trainer.evaluate_every
        epochs = steps // self._every
        self._at = {round(k * epochs / (times + 1)) for k in range(1, times + 1)} - {0, epochs}
        self._found: list[tuple[int, dict]] = []

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 in self._at:
            self._found.append(((epoch + 1) * self._every, self._ask()))

    def curves(self, steps: int, last: dict) -> dict[str, dict[str, list]]:
        """Task -> figure -> [[step, value]], to the figures at the end."""
        every = [*self._found, (steps, last)]
        return {
            task: {name: [[step, found[task][name]] for step, found in every] for name in figures}
            for task, figures in last.items()
        }


def mean_loss(trainer: RepeatedTrainer, examples: ExampleSet) -> float:
    """Loss per target of the trainer's present weights on a set."""
    return Losses(*trainer.losses(examples)).mean


def counts(values) -> dict[str, int]:
    """Value -> how often it is there; None is not counted."""
    if values is None:
        return {}
    known = value_counts(values) if isinstance(values, Column | np.ndarray) else Counter(values)
    found: Counter = Counter()
    for value, number in known.items():
        if value is not None:
            found[str(value)] += number
    return dict(sorted(found.items()))


def own_test(parts: Parts, corpus: str, size: int | None) -> dict[str, ExampleSet]:
    """With a target, the test part of the corpus itself, by what losses on it are called.

    Args:
      parts: of the corpus and the target.
      corpus: its name.
      size: at most so many examples; None takes all.
    """
    own = parts.own_test
    return {} if own is None else {f"{corpus}, its own test part": own.thinned(size)}


def describe(parts: Parts, name: str | None = None) -> dict:
    """The `corpus` section of the results.

    Args:
      parts: of the corpus.
      name: of the corpus; None for the names that the train part has.
    """
    return {
        "name": name or ", ".join(sorted(value_counts(parts.train.corpora))[:20]),
        "fingerprint": parts.fingerprint,
        "target": parts.target,
        "remarks": list(parts.notes),
        "parts": {
            part: {
                "examples": len(examples),
                "unique_tokens": total_targets(examples),
                "by_source": examples.counts_by_source(),
                "by_damage": counts(examples.labels.get("damage")),
            }
            for part, examples in parts.items()
        },
    }


class CellFiles:
    """What came of cells, on disk.

    Args:
      base_dir: of the study.
      key: cell -> all that its figures depend on.
    """

    def __init__(self, base_dir, key: Callable[[Cell], Sequence[str]]):
        self._base_dir, self._key = pathlib.Path(base_dir), key

    def path(self, cell: Cell) -> pathlib.Path:
        """The file of a cell."""
        return self._base_dir / "cells" / f"{cell.name}.json"

    def fingerprint(self, cell: Cell) -> str:
        """Hex SHA-256 of all that a cell's figures depend on."""
        facts = [str(LAYOUT), cell.name, *self._key(cell)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()

    def read(self, cell: Cell) -> dict | None:
        """What came of a cell; None where it was not run, or on something else.

        Raises:
          CheckpointError: its file is damaged.
        """
        path = self.path(cell)
        try:
            stored = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path} is damaged ({error}): remove it and call again."
            ) from error
        return stored if stored.get("fingerprint") == self.fingerprint(cell) else None

    def write(self, cell: Cell, found: Mapping) -> None:
        """Writes what came of a cell, and its summaries before it, in place of earlier ones."""
        self._summaries(cell, found)
        stored = {"fingerprint": self.fingerprint(cell), **found}
        whole_files.write_text(self.path(cell), json.dumps(stored) + "\n")

    def _summaries(self, cell: Cell, found: Mapping) -> None:
        folder = self._base_dir / "summaries" / "cells" / cell.name
        shutil.rmtree(folder, ignore_errors=True)
        writer = tf.summary.create_file_writer(str(folder))
        with writer.as_default():
            settings = dataclasses.asdict(cell)
            settings["discard_fraction"] = float(settings.pop("fraction"))
            hparams.hparams(settings, trial_id=cell.name)
            for step, loss in found["record"]["curve"]:
                tf.summary.scalar("test/loss", loss, step=int(step))
            for step, loss in found["record"]["train_curve"]:
                tf.summary.scalar("train/loss", loss, step=int(step))
            last = int(found["record"]["curve"][-1][0])
            for name, (value, _) in metrics_of(found).items():
                tf.summary.scalar("final/" + name.replace(" ", "_"), value, step=last)
        writer.close()
