"""Cells of the evidence protocol: one run of one arm at one size, fraction and seed.

    <base_dir>/cells/<size>/<arm>-<percent>-<seed>.json    what came of it, written whole
    <base_dir>/claims/...                                  who is at it, see `claims`

A cell's file holds the curve on the test part, losses on the validation part and on other corpora,
the tasks' figures, and the data budget. It is used again where data, scores, tasks and corpora are
what they were; settings cannot differ inside one base_dir.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import json
import pathlib

import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.selection import Selection, batch_fraction
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.streams import BatchStream
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import CheckpointError
from dr_keras.rating.fractions import exact_fraction, oversized_batch
from dr_keras.studies.arm_streams import TopKStream, data_budget
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training.language_model_training import LanguageModelTrainer
from dr_keras.training.task_scoring import TaskScorer
from dr_keras.training.tasks import Task

UNFILTERED = "unfiltered"
# What chooses anew for every seed; the choice of the others depends on the text alone.
_DRAWN = ("random", "random_as_rater")


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


def _percent(share: float) -> str:
    return f"{float(100 * exact_fraction(share)):g}".replace(".", "_")


def cell(size: str, arm: str, fraction: float, seed: int, steps_share: float = 1.0) -> Cell:
    """A cell; the unfiltered arm has no fraction."""
    return Cell(size, arm, 0.0 if arm == UNFILTERED else fraction, seed, steps_share)


@dataclasses.dataclass(frozen=True)
class Measures:
    """What every cell is measured on.

    Attributes:
      test, validation: parts of the corpus, thinned out.
      corpora: name -> windows of other corpora.
      tasks: asked at the end of training.
      tokenizer: for the tasks.
    """

    test: ExampleSet
    validation: ExampleSet
    corpora: Mapping[str, ExampleSet]
    tasks: Sequence[Task]
    tokenizer: Tokenizer | None

    @functools.cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all of it."""
        sets = [self.test, self.validation, *self.corpora.values()]
        facts = [s.fingerprint for s in sets]
        facts += [*self.corpora, *(task.fingerprint for task in self.tasks)]
        return hashlib.sha256("\n".join(facts).encode()).hexdigest()


class Cells:
    """Runs cells and reads what came of them.

    Args:
      base_dir: of the study.
      sizes: name -> builds the trainer of a size; one is kept at a time, with its compiled step.
      parts: of the corpus.
      measures: see there.
      baselines: selects what an arm keeps; built when first asked for.
      online: arms that choose in oversized batches and not beforehand.
      scores_fingerprint: of the rater's scores.
    """

    def __init__(
        self,
        base_dir,
        sizes: Mapping[str, Callable[[], LanguageModelTrainer]],
        parts: Parts,
        measures: Measures,
        baselines: Callable[[], Baselines],
        online: Sequence[str],
        scores_fingerprint: str,
    ):
        self._folder = pathlib.Path(base_dir) / "cells"
        self._sizes, self._parts, self._measures = sizes, parts, measures
        self._baselines, self.online = functools.cache(baselines), tuple(online)
        self._scores_fingerprint = scores_fingerprint
        self._trainers: dict[str, LanguageModelTrainer] = {}
        self._scorers: dict[str, TaskScorer] = {}
        self._selections: dict[tuple, Selection] = {}

    def path(self, cell: Cell) -> pathlib.Path:
        """The file of a cell."""
        return self._folder / f"{cell.name}.json"

    def fingerprint(self, cell: Cell) -> str:
        """Hex SHA-256 of what the cell's figures depend on, settings apart."""
        facts = [
            cell.name,
            str(cell.arm in self.online),
            self._parts.train.fingerprint,
            self._measures.fingerprint,
            "" if cell.arm == UNFILTERED else self._scores_fingerprint,
        ]
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

    def trainer(self, size: str) -> LanguageModelTrainer:
        """The trainer of a size; the one before it is let go."""
        if size not in self._trainers:
            self._trainers.clear()
            self._scorers.clear()
            self._trainers[size] = self._sizes[size]()
        return self._trainers[size]

    def discard_fraction(self, size: str, fraction: float):
        """The exact share that all arms of a size drop: what batch top-K achieves."""
        return batch_fraction(self.trainer(size).batch_size, fraction)

    def selection(self, cell: Cell) -> Selection:
        """What the arm keeps of the train part; kept while a size lasts."""
        fraction = self.discard_fraction(cell.size, cell.fraction)
        seed = cell.seed if cell.arm in _DRAWN else 0
        key = (cell.arm, fraction, seed)
        if key not in self._selections:
            while len(self._selections) > 8:
                self._selections.pop(next(iter(self._selections)))
            self._selections[key] = self._baselines().select(cell.arm, fraction, seed)
        return self._selections[key]

    def stream(self, cell: Cell):
        """Batches of a cell."""
        batch_size = self.trainer(cell.size).batch_size
        if cell.arm == UNFILTERED:
            return BatchStream(self._parts.train, batch_size, cell.seed)
        if cell.arm not in self.online:
            return BatchStream(self.selection(cell).examples(), batch_size, cell.seed)
        scores = None if cell.arm in _DRAWN else self.selection(cell).scores
        return TopKStream(self._parts.train, scores, cell.fraction, batch_size, cell.seed)

    def run(self, cell: Cell) -> dict:
        """Trains, measures, writes; returns what was written."""
        trainer, stream = self.trainer(cell.size), self.stream(cell)
        label = f"{cell.size} {cell.arm}"
        if cell.fraction:
            label += f" {100 * cell.fraction:g}%"
        steps = trainer.steps_of(cell.steps_share)
        shown, note = Progress(f"  {label}, seed {cell.seed}:", steps), ""

        def progress(step: int, steps: int, logs: dict[str, float]) -> None:
            nonlocal note
            if "test_loss" in logs:
                note = f"test loss {logs['test_loss']:.3f}"
            shown.update(step, note)

        record = trainer.train(
            stream, self._measures.test, cell.seed, progress, steps_share=cell.steps_share
        )
        read = trainer.batch_size
        if cell.fraction:
            read = oversized_batch(trainer.batch_size, cell.fraction)
        budget = data_budget(stream, steps, read, len(self._parts.train))
        found = {
            "fingerprint": self.fingerprint(cell),
            "cell": dataclasses.asdict(cell),
            "record": record.to_dict(),
            "budget": dataclasses.asdict(budget),
            "discard_fraction": float(self.discard_fraction(cell.size, cell.fraction)),
            "validation_loss": mean_loss(trainer, self._measures.validation),
            "corpora": {
                name: mean_loss(trainer, examples)
                for name, examples in self._measures.corpora.items()
            },
            "tasks": self._ask(cell.size, trainer),
        }
        shown.close(note)
        whole_files.write_text(self.path(cell), json.dumps(found) + "\n")
        return found

    def _ask(self, size: str, trainer: LanguageModelTrainer) -> dict[str, dict]:
        if not self._measures.tasks:
            return {}
        if size not in self._scorers:
            length = self._parts.train.features["tokens"].shape[1]
            self._scorers[size] = TaskScorer(
                trainer.model, self._measures.tokenizer, length, trainer.evaluation_batch_size
            )
        return {task.name: self._scorers[size](task) for task in self._measures.tasks}


def mean_loss(trainer: LanguageModelTrainer, examples: ExampleSet) -> float:
    """Nats per token of the trainer's present weights on a set."""
    sums, counts = trainer.losses(examples)
    return float(sums.sum() / max(counts.sum(), 1))


def thinned(examples: ExampleSet, size: int | None) -> ExampleSet:
    """At most `size` examples, evenly spread; None takes all."""
    if size is None or size >= len(examples):
        return examples
    return examples.take(np.unique(np.linspace(0, len(examples) - 1, size).astype(int)))
