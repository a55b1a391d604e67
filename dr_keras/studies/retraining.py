"""The retraining study: does a model trained without the lowest-rated examples do better?

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/scores.npz           ids and scores of the train part
    <base_dir>/cells/model/         one training run of one arm and seed each (see studies.cells)
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Arms: everything; without the lowest-rated share f, for several f; without a random share f. Every
stage resumes or is reused by a later call with the same configuration. Nothing here knows what kind
of data it is; images add their pictures (`report.images`).
"""

from collections.abc import Callable, Sequence
import contextlib
import dataclasses
import functools
import pathlib

import numpy as np

from dr_keras.baselines.arms import Baselines
from dr_keras.baselines.candidates import window_candidates
from dr_keras.config import configuration
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights
from dr_keras.rating.fractions import exact_fraction
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.meta_training import MAY_DIFFER, choose_step, judgement_of
from dr_keras.serving.folder import read as read_metadata
from dr_keras.studies import findings, rater, verdicts
from dr_keras.studies.arm_streams import UNFILTERED, Draws
from dr_keras.studies.bias import audited
from dr_keras.studies.cells import Cell, Material, cell, describe, percent
from dr_keras.studies.grid import Grid
from dr_keras.studies.judged import judged_first
from dr_keras.studies.results import Line, Picture, Results, WriteReport, read, to_json
from dr_keras.studies.sizes import Dropped, Protocol, Size
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.system import locks
from dr_keras.training.trainers import ExampleTrainer
import gin

SIZE = "model"


@gin.configurable("retraining_study", denylist=["say"])
@dataclasses.dataclass(frozen=True, kw_only=True)
class Retraining:
    """A study of one size of model, trained without several shares of any kind of examples.

    Args:
      discard_fractions: shares of the train part to drop, each by every arm.
      candidate: the one of them that the verdict is about. Name it before looking at results.
      seeds: one training run per arm and seed, of initial weights, batches and random arms.
      metric: of `ExampleTrainer.metrics`, by which arms are compared.
      higher_is_better: whether a larger metric is better.
      more_arms: of `baselines.arms.ARMS`, beside the rater's and the random one.
      title: of the report.
      measure: called with (base_dir, setup, scores of the train part), returns
        how scores follow damage of known level, and pictures of the data, such as
        @image_pictures. None leaves them out.
      say: prints a line for the user.
    """

    discard_fractions: Sequence[float] = (0.1, 0.25, 0.5)
    candidate: float = 0.5
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    metric: str = "accuracy"
    higher_is_better: bool = True
    more_arms: Sequence[str] = ()
    title: str = "Retraining without the lowest-rated examples"
    measure: Callable[..., tuple[Line, list[Picture]]] | None = None
    say: Callable[[str], None] = print

    @locks.alone_at("base_dir", "a retraining study", CheckpointError)
    def run(self, base_dir, write_report: WriteReport | None = None) -> Results:
        """Runs all stages in `base_dir`; what is done already is reused.

        Args:
          base_dir: the run directory.
          write_report: writes <base_dir>/report.html from the results; None leaves it out.

        Returns:
          The results as written to results.json.

        Raises:
          ConfigurationError: a setting out of its range.
          CheckpointError: another process works in base_dir, or it is of an earlier version.
        """
        self._check()
        base_dir = pathlib.Path(base_dir)
        configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
        stages = Stages(base_dir, self.say)
        setup = functools.cache(experiment)
        described = stages.run("data", lambda: describe(setup().parts))
        self.say(f"  {described['parts']['train']['examples']:,} examples to train on")
        with contextlib.ExitStack() as stack:
            grid = None
            if not stages.is_done("retrain"):
                grid = stack.enter_context(self._grid(base_dir, setup().parts))
                grid.begin(self._cells(UNFILTERED, 0.0))
            stages.run("meta_train", lambda: rater.trained(base_dir, setup()))
            judgement = judgement_of(base_dir)
            if judgement:
                self.say(f"  {judgement.text}")
            exported = stages.run("export", lambda: rater.exported(base_dir, base_dir, setup()))
            stages.run("score", lambda: _score(base_dir, setup()))
            retrained = stages.run("retrain", lambda: self._retrain(grid, setup().parts.train))
        train = setup().parts.train
        _, scores = rater.read_scores(base_dir, train)
        load_rater_weights(setup().rater, base_dir, exported["meta_step"])
        line, pictures = None, []
        if self.measure is not None:
            line, pictures = self.measure(base_dir, setup(), scores)
        size = read(Size, retrained["size"], "retrain")
        metadata = read_metadata(str(base_dir / exported["path"]))
        levels, kinds = findings.levels_and_kinds(train)
        where = f"all {len(scores):,} examples of the train part"
        found = Results.assemble(
            study="retraining",
            title=self.title,
            answer=judged_first(verdicts.answer([size], self._protocol), judgement),
            corpus=described,
            rater=findings.of_rater(
                metadata, findings.quality(scores, levels, kinds, where, train.sources), line=line
            ),
            protocol=self._protocol,
            sizes=[size],
            stages=stages.timings(),
            settings={
                "threads_a_model": retrained["threads_a_model"],
                "configuration": configuration.PARSED_CONFIG,
            },
            findings=findings.of_scores(scores, train.sources, levels, kinds)
            | findings.of_run(base_dir)
            | {"audit": audited(train, setup().parts.outer, scores, self.candidate)},
            pictures=pictures,
        )
        return found.publish(base_dir, write_report)

    def _check(self) -> None:
        for fraction in self.discard_fractions:
            if exact_fraction(fraction) == 0:
                raise ConfigurationError(
                    "discard_fractions holds 0: everything is an arm of its own."
                )
        if self.candidate not in self.discard_fractions:
            raise ConfigurationError(
                f"retraining_study.candidate is {self.candidate}: it must be one of"
                f" discard_fractions, {list(self.discard_fractions)}."
            )
        if not self.seeds:
            raise ConfigurationError("retraining_study.seeds is empty: name at least one seed.")

    @property
    def _protocol(self) -> Protocol:
        return Protocol(
            reference=UNFILTERED,
            candidate=arm_name("rater", self.candidate),
            baselines=[arm_name("random", self.candidate)],
            seeds=list(self.seeds),
            metric=self.metric,
            higher_is_better=self.higher_is_better,
        )

    def _cells(self, arm: str, fraction: float) -> list[Cell]:
        return [cell(SIZE, arm, fraction, seed) for seed in self.seeds]

    def _grid(self, base_dir: pathlib.Path, parts: Parts) -> Grid:
        @functools.cache
        def scores() -> np.ndarray:
            return rater.read_scores(base_dir, parts.train)[1]

        @functools.cache
        def baselines() -> Baselines:
            candidates, outer = window_candidates(parts.train), window_candidates(parts.outer)
            return Baselines(candidates, outer, scores())

        material = Material(parts.train, parts.test)
        draws = Draws(baselines, lambda size, fraction: fraction)
        grid = Grid(
            base_dir, {SIZE: ExampleTrainer}, lambda: material, draws,
            lambda cell: [rater.scores_fingerprint(scores())], say=self.say,
        )  # fmt: skip
        if self.metric not in grid.trainer(SIZE).metrics:
            raise ConfigurationError(
                f"retraining_study.metric is {self.metric!r}, and ExampleTrainer.metrics has"
                f" {sorted(grid.trainer(SIZE).metrics)}: add it there."
            )
        return grid

    def _retrain(self, grid: Grid, train: ExampleSet) -> dict:
        """Trains every cell; {"size", "threads_a_model"}."""
        kinds = ["rater", "random", *self.more_arms]
        arms = [(UNFILTERED, 0.0)]
        arms += [(kind, fraction) for fraction in self.discard_fractions for kind in kinds]
        cells = {arm_name(*arm): self._cells(*arm) for arm in arms}
        # Seed by seed, so that an interrupted study has whole seeds.
        grid.run([cell for of_seed in zip(*cells.values()) for cell in of_seed])
        known = {
            arm: ArmFacts(
                _description(found[0]), dropped=_dropped(train, grid.draw(found[-1]).rows)
            )
            for arm, found in cells.items()
        }
        size = grid.section(grid.facts(SIZE), cells, known, self._protocol, may_be_too_small=False)
        return {"size": to_json(size), "threads_a_model": grid.threads(SIZE)}


def _score(base_dir: pathlib.Path, setup: Experiment) -> dict:
    step, _ = choose_step(base_dir)
    load_rater_weights(setup.rater, base_dir, step)
    train = setup.parts.train
    rater.write_scores(base_dir, train, setup.scorer()(train))
    return {"examples": len(train)}


def arm_name(kind: str, fraction: float) -> str:
    """ "rater 25%": what an arm is called in the results."""
    return f"{kind} {percent(fraction)}%" if fraction else kind


def _description(cell: Cell) -> str:
    share = f"{percent(cell.fraction)}%"
    return {
        UNFILTERED: "all of the train part",
        "rater": f"without the lowest-rated {share}",
        "random": f"without a random {share}, another for each seed",
    }.get(cell.arm, f"without {share}, chosen by {cell.arm}")


def _dropped(train: ExampleSet, kept: np.ndarray | None) -> Dropped | None:
    """How many examples an arm leaves out, and how many of them are known to be bad."""
    if kept is None:
        return None
    dropped = np.ones(len(train), bool)
    dropped[kept] = False
    known = {name: train.labels.get(name) for name in ("corrupted", "mislabelled")}
    numbers = {n: int((dropped & v).sum()) for n, v in known.items() if v is not None}
    return Dropped(int(dropped.sum()), **numbers)
