"""Does a rater get better with meta-steps, and with the size of the inner models it is made with?

    <base_dir>/raters/<inner model>/   a run of meta_train each
    <base_dir>/scores/                 of the train part, by every checkpoint that is looked at
    <base_dir>/cells/<size>/           one training run each (see studies.cells)
    <base_dir>/results.json, report.html

A rater is meta-trained with inner models of every size named, all from the same weights and on the
same data. Checkpoints of each run choose what models are trained on; an arm is called "<inner
model>@<meta-step>". The improvement on the unfiltered arm, in loss and in the likelihood of right
answers, is what Calian et al. (2025) show against meta-steps and inner-model size (figure 9).
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import functools
import hashlib
import io
import pathlib

import keras
import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import Candidates, window_candidates
from dr_keras.baselines.scores import Scores
from dr_keras.baselines.selection import batch_fraction
from dr_keras.config import configuration
from dr_keras.data.examples import Parts
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights, rater_path, rater_steps
from dr_keras.meta.checks import at_least
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.meta_training import MAY_DIFFER, meta_train
from dr_keras.studies import findings, rater, verdicts
from dr_keras.studies.arm_streams import DESCRIPTIONS, RANDOM, UNFILTERED, Draws
from dr_keras.studies.bias import audited
from dr_keras.studies.cells import Cell, Material, cell, describe
from dr_keras.studies.grid import Grid
from dr_keras.studies.results import Rater, Results, TaskFacts, WriteReport
from dr_keras.studies.sizes import Protocol, Size
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.system import locks, whole_files
from dr_keras.training.tasks import Task, task_windows
from dr_keras.training.trainers import LanguageModelTrainer
import gin

_RUNS = "raters"
# What a later call in the same folder may change, beside what meta-training lets differ: cells that
# are there stay good.
_MAY_DIFFER = ("checkpoint_study.seeds", "checkpoint_study.title", "SEEDS")


@gin.configurable("checkpoint_study", denylist=["say"])
@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointStudy:
    """The settings of a study of checkpoints, and `run`.

    Args:
      inner_models: name -> builds the inner model that a rater is meta-trained with, the smallest
        first; the bindings that `meta_train` reads say all else.
      sizes: name -> builds the trainer of models that are trained on what raters keep.
      tokenizer: of the data, for tasks.
      checkpoints: of every run, evenly spread over those that it kept, the last among them.
      discard_fraction: share that every rater drops.
      seeds: of every arm; at least three, or there is no verdict.
      tasks: multiple-choice tasks, such as @jsonl_tasks().
      test_size: at most so many examples of the test part, evenly spread.
      title: of the report.
      say: prints a line for the user.

    Raises:
      ConfigurationError: a setting out of its range.
    """

    inner_models: Mapping[str, Callable[[], keras.Model]] = gin.REQUIRED
    sizes: Mapping[str, Callable[[], LanguageModelTrainer]] = gin.REQUIRED
    tokenizer: Tokenizer = gin.REQUIRED
    checkpoints: int = 3
    discard_fraction: float = 0.5
    seeds: Sequence[int] = (0, 1, 2)
    tasks: Sequence[Task] = ()
    test_size: int | None = 1024
    title: str = "Do raters get better with meta-steps and with larger inner models?"
    say: Callable[[str], None] = print

    def __post_init__(self):
        for name in ("inner_models", "sizes", "seeds"):
            if not getattr(self, name):
                raise ConfigurationError(f"checkpoint_study.{name} is empty: name at least one.")
        at_least("checkpoint_study.checkpoints", self.checkpoints, 1)
        for name in (*self.inner_models, *self.sizes):
            if not name or set(name) & set("/\\@ ") or name[0] == ".":
                raise ConfigurationError(
                    f"checkpoint_study: {name!r} cannot name a folder or be part of an arm's name:"
                    " leave out slashes, blanks and @."
                )

    @locks.alone_at("base_dir", "a study of checkpoints", CheckpointError)
    def run(self, base_dir, write_report: WriteReport | None = None) -> Results:
        """Runs what is left of the study in `base_dir` and writes its report.

        Args:
          base_dir: the study's folder.
          write_report: writes <base_dir>/report.html from the results; None leaves it out.

        Returns:
          The results as written to results.json.

        Raises:
          ConfigurationError: a setting out of its range, or base_dir holds a study with others.
          CheckpointError: another process works in base_dir; a run kept no rater.
        """
        base_dir = pathlib.Path(base_dir)
        configuration.check_same_config(base_dir, may_differ=(*MAY_DIFFER, *_MAY_DIFFER))
        return _Study(self, base_dir).run().publish(base_dir, write_report)


class _Study:
    """A study in its folder; arguments as of `CheckpointStudy.run`."""

    def __init__(self, given: CheckpointStudy, base_dir: pathlib.Path):
        self._given, self._base_dir = given, base_dir
        self._stages = Stages(base_dir, given.say)
        self._setup: Experiment = experiment()
        self._parts: Parts = self._setup.parts
        self._runs: dict[str, dict] = {}

    def run(self) -> Results:
        """Runs what is left; the results."""
        given, stages = self._given, self._stages
        described = stages.run("corpus", lambda: describe(self._parts))
        for name, build in given.inner_models.items():
            made = functools.partial(self._meta_train, name, build)
            self._runs[name] = stages.run(f"meta_train-{name}", made)
        arms = [UNFILTERED, RANDOM, *(arm for run in self._runs.values() for arm in run["arms"])]
        material = Material(
            self._parts.train,
            self._parts.test.thinned(given.test_size),
            tasks=[task_windows(task, given.tokenizer, self._length) for task in given.tasks],
            equal_tokens=True,
        )
        draws = Draws(
            lambda: self._baselines,
            lambda size, fraction: batch_fraction(grid.trainer(size).batch_size, fraction),
        )
        grid = Grid(
            self._base_dir, given.sizes, lambda: material, draws, self._chosen_by,
            sizes_binding=("checkpoint_study", "sizes"), say=given.say,
        )  # fmt: skip
        cells = {size: {arm: self._cells(size, arm) for arm in arms} for size in given.sizes}
        sizes: list[Size] = []
        with grid:
            for size, of_arms in cells.items():
                # Seed by seed, so that a study that was stopped has whole seeds.
                grid.run([cell for of_seed in zip(*of_arms.values()) for cell in of_seed])
                facts = grid.facts(size)
                known = {arm: ArmFacts(self._description(arm)) for arm in of_arms}
                sizes.append(grid.section(facts, of_arms, known, self._protocol))
        return self._results(described, sizes, {size: grid.threads(size) for size in given.sizes})

    @property
    def _length(self) -> int:
        return int(self._parts.train.features["tokens"].shape[1])

    def _cells(self, size: str, arm: str) -> list[Cell]:
        return [cell(size, arm, self._given.discard_fraction, seed) for seed in self._given.seeds]

    def _meta_train(self, name: str, build: Callable[[], keras.Model]) -> dict:
        """Makes a rater with one inner model, and scores by its checkpoints.

        Returns:
          {"parameters" of the inner model, "meta_steps", "arms", "flops" of all meta-steps}.
        """
        run = self._base_dir / _RUNS / name
        setup = dataclasses.replace(experiment(data=lambda: self._parts), inner_model=build)
        trainer = meta_train(run, setup, judged=False)
        steps = rater_steps(run)
        if not steps:
            raise CheckpointError(f"{run} kept no rater: raise meta_train.meta_steps.")
        count = min(self._given.checkpoints, len(steps))
        chosen = [steps[round((k + 1) * len(steps) / count) - 1] for k in range(count)]
        for step in chosen:
            load_rater_weights(setup.rater, run, step)
            scores = np.asarray(setup.scorer()(self._parts.train), np.float64)
            _write_scores(self._scores_path(f"{name}@{step}"), scores)
        inner = trainer.inner_model
        return {
            "parameters": int(sum(np.prod(v.shape) for v in inner.trainable_variables)),
            "meta_steps": chosen,
            "arms": [f"{name}@{step}" for step in chosen],
            "flops": rater.meta_flops(run, setup, trainer)["total"],
        }

    def _scores_path(self, arm: str) -> pathlib.Path:
        return self._base_dir / "scores" / f"{arm}.npy"

    def _scores(self, arm: str) -> np.ndarray:
        path = self._scores_path(arm)
        try:
            scores = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise CheckpointError(
                f"{path} cannot be read ({error}): remove {self._base_dir / 'stages'}, and the"
                " checkpoints score again."
            ) from error
        if scores.shape != (len(self._parts.train),):
            raise CheckpointError(f"{path} is of other data: name a new base_dir.")
        return scores

    @functools.cached_property
    def _baselines(self) -> Baselines:
        arms = [arm for run in self._runs.values() for arm in run["arms"]]
        scorers = {arm: functools.partial(_known, self._scores(arm)) for arm in arms}
        return Baselines(window_candidates(self._parts.train), more_scorers=scorers)

    def _chosen_by(self, cell: Cell) -> list[str]:
        return [] if cell.arm == RANDOM else [rater.scores_fingerprint(self._scores(cell.arm))]

    def _description(self, arm: str) -> str:
        name, at, step = arm.partition("@")
        if not at:
            return DESCRIPTIONS[arm]
        return f"scored highest after {step} meta-steps with inner models {name}"

    @property
    def _candidate(self) -> str:
        """The last checkpoint with the largest inner model: named before anything is trained."""
        return list(self._runs.values())[-1]["arms"][-1]

    @property
    def _protocol(self) -> Protocol:
        return Protocol(
            reference=UNFILTERED,
            candidate=self._candidate,
            baselines=[RANDOM],
            seeds=list(self._given.seeds),
            discard_fraction=self._given.discard_fraction,
            chosen_by="the user",
        )

    def _results(self, described: dict, sizes: list[Size], threads: dict) -> Results:
        """All sections of results.json."""
        train, candidate = self._parts.train, self._candidate
        scores, (levels, kinds) = self._scores(candidate), findings.levels_and_kinds(train)
        name, _, step = candidate.partition("@")
        weights = rater_path(self._base_dir / _RUNS / name, int(step))
        where = f"all {len(train):,} windows of the train part"
        fraction = self._given.discard_fraction
        return Results.assemble(
            study="checkpoints",
            title=self._given.title,
            answer=verdicts.answer(sizes, self._protocol),
            corpus=described,
            rater=Rater(
                self._setup.rater.count_params(),
                hashlib.sha256(weights.read_bytes()).hexdigest(),
                findings.quality(scores, levels, kinds, where, train.sources),
                int(step),
                f"the last one with inner models of {name}, named beforehand",
            ),
            protocol=self._protocol,
            sizes=sizes,
            tasks={
                task.name: TaskFacts(len(task.questions), task.available, task.chance)
                for task in self._given.tasks
            },
            findings=findings.of_scores(scores, train.sources, levels, kinds)
            | {
                "checkpoints": self._runs,
                "audit": audited(train, self._parts.outer, scores, fraction),
            },
            stages=self._stages.timings(),
            settings={"threads_a_model": threads, "configuration": configuration.parsed_config()},
        )


def _known(scores: np.ndarray, candidates: Candidates, outer=None, *, seed: int = 0) -> Scores:
    """A scorer that knows its scores: what `Baselines` makes an arm of."""
    return Scores(candidates.of_examples(scores))


def _write_scores(path: pathlib.Path, scores: np.ndarray) -> None:
    buffer = io.BytesIO()
    np.save(buffer, scores)
    whole_files.write_bytes(path, buffer.getvalue())
