"""What an evidence study runs, in which order, and its results: see `dr_keras.studies.evidence`."""

from collections.abc import Sequence
import dataclasses
import functools
import os
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.baselines.arms import LEAST_DAMAGED, RATER, Baselines
from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.selection import batch_fraction
from dr_keras.config import configuration
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.examples import ExampleSet
from dr_keras.data.full_windows import full_windows
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.runs.experiment import experiment
from dr_keras.runs.meta_training import judgement_of
from dr_keras.runs.verdict import Judgement
from dr_keras.studies import findings, rater, summaries, verdicts
from dr_keras.studies.arm_streams import (
    CANDIDATE,
    DESCRIPTIONS,
    RANDOM,
    UNFILTERED,
    Draws,
    MixedIn,
    is_unfiltered,
    scored_examples,
)
from dr_keras.studies.bias import audited
from dr_keras.studies.cells import Cell, Material, cell, describe, own_test
from dr_keras.studies.costs import Cost
from dr_keras.studies.grid import Grid
from dr_keras.studies.judged import judged_first
from dr_keras.studies.learned import FRACTIONS
from dr_keras.studies.learned_fraction import LEARNED, learned_fraction
from dr_keras.studies.results import Compute, Results, ScorerCost, Stage, TaskFacts, read, to_json
from dr_keras.studies.sizes import Protocol, Size, SizeFacts
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.system.claims import Claims
from dr_keras.training.target_counts import count_targets
from dr_keras.training.tasks import task_windows

if TYPE_CHECKING:
    from dr_keras.studies.evidence import Evidence

_RATER = "rater"  # folder of its meta-training
# Who chose the discard fraction, by what was given for it.
_CHOOSERS = {None: "the sweep, on the validation part", LEARNED: "the rater's own weights"}


class Study:
    """A study in its folder.

    Args:
      settings: of the study.
      base_dir: its folder.

    Raises:
      CheckpointError: the folder holds a study on other data, or of an earlier version.
      ConfigurationError: an arm needs what the data does not have.
    """

    def __init__(self, settings: "Evidence", base_dir: pathlib.Path):
        self._given, self._base_dir, self._say = settings, base_dir, settings.say
        claims = Claims(os.path.join(base_dir, "claims"), settings.stale_after)
        self._stages = Stages(base_dir, self._say, claims)
        self._parts = parts = settings.data() if callable(settings.data) else settings.data
        levels, _ = findings.levels_and_kinds(parts.train)
        if LEAST_DAMAGED in settings.arms(settings.smallest) and np.isnan(levels).any():
            raise ConfigurationError(
                f"evidence: the arm {LEAST_DAMAGED} needs a corpus whose damage is known, such as"
                " @damaged_corpus(): leave it out of core_arms and more_arms."
            )
        self._described = self._stages.shared("corpus", lambda: describe(parts))
        known = self._described["fingerprint"]
        if known != parts.fingerprint:
            raise CheckpointError(
                f"{base_dir} holds a study on other data (fingerprint {known[:12]},"
                f" now {parts.fingerprint[:12]}): give back the corpus it began with, or name a new"
                " base_dir."
            )
        self._same_as_unfiltered: list[tuple[str, str]] = []

    def run(self) -> Results:
        """Runs what is left; the results."""
        given = self._given
        facts = self._described["parts"]["train"]
        self._say(f"  {facts['examples']:,} windows, {facts['unique_tokens']:,} tokens to train on")
        self._open_rater()
        draws = Draws(
            lambda: self._baselines,
            lambda size, fraction: batch_fraction(self._grid.trainer(size).batch_size, fraction),
            given.online_arms,
            self._base_dir / "kept",
        )
        scores, material = rater.scores_fingerprint(self._scores), self._material()
        self._grid = Grid(
            self._base_dir,
            given.sizes,
            lambda: material,
            draws,
            lambda cell: [scores, str(cell.arm in given.online_arms)],
            sizes_binding=("evidence", "sizes"),
            stale_after=given.stale_after,
            say=self._say,
        )
        for name in self._scorers:
            self._stages.shared(
                f"scores-{name}", lambda name=name: to_json(self._scorer_cost(name))
            )
        with self._grid:
            return self._results(self._run_cells())

    def _open_rater(self) -> None:
        """Meta-trains or loads the rater, and scores the train part."""
        given, train, stages = self._given, self._parts.train, self._stages
        path = given.rater
        total = {"total": given.meta_training_flops, "reason": "a rater was given"}
        self._made = {"path": path, "flops": total}
        if path is None:
            self._made = stages.shared("meta_train", self._train_rater)
            path = str(self._base_dir / self._made["path"])
            if self._judgement:
                self._say(f"  {self._judgement.text}")
        self._rater = rater.open_rater(path, train, given.tokenizer)
        self._scored = stages.shared(
            "score", lambda: rater.score_train(self._base_dir, self._rater, train)
        )
        _, self._scores = rater.read_scores(self._base_dir, train)

    def _train_rater(self) -> dict:
        run, setup = self._base_dir / _RATER, experiment(data=lambda: self._parts)
        trained = rater.trained(run, setup, count_flops=True)
        return trained | rater.exported(self._base_dir, run, setup)

    @property
    def _judgement(self) -> Judgement | None:
        """Of the rater made here."""
        made_here = self._given.rater is None
        return judgement_of(self._base_dir / _RATER) if made_here else None

    def _material(self) -> Material:
        given, parts = self._given, self._parts
        length = parts.train.features["tokens"].shape[1]
        return Material(
            parts.train,
            parts.test.thinned(given.test_size),
            parts.validation.thinned(given.validation_size),
            {
                corpus.name: other_corpus(corpus, given.tokenizer, parts.train, given.test_size)
                for corpus in given.corpora
            }
            | own_test(parts, self._described["name"], given.test_size),
            [task_windows(task, given.tokenizer, length) for task in given.tasks],
            given.equal_tokens,
            self._target(),
            given.ask_tasks,
        )

    def _target(self) -> MixedIn | None:
        """The text of the outer part, for the sizes that train on it too."""
        if not self._given.with_target:
            return None
        outer = self._parts.outer
        if not len(outer):
            raise ConfigurationError(
                "evidence.with_target: the outer part has no examples like those of the train part"
                " that models could train on. Leave evidence.with_target out."
            )
        text = full_windows(outer) if self._given.equal_tokens else outer
        return MixedIn(dataclasses.replace(text, weights=None), self._given.with_target)

    @functools.cached_property
    def _baselines(self) -> Baselines:
        return Baselines(
            window_candidates(self._parts.train),
            window_candidates(self._parts.outer),
            self._scores,
            cache_dir=self._base_dir / "baselines",
        )

    @functools.cached_property
    def _scorers(self) -> list[str]:
        """What scores for the arms of this study, apart from the rater."""
        arms = self._given.arms(self._given.smallest)
        names = dict.fromkeys(self._baselines.scored_by(arm) for arm in arms)
        return [name for name in names if name not in (None, RATER)]

    def _scorer_cost(self, name: str) -> ScorerCost:
        """Scores the train part, kept on disk; what that cost."""
        found = self._baselines.scores(name)
        scoring = found.forward_flops * len(self._parts.train)
        return ScorerCost(found.training_flops, found.forward_flops, scoring)

    def _cost_of(self, name: str) -> ScorerCost:
        return read(ScorerCost, self._stages.result(f"scores-{name}"), f"scores-{name}")

    def _facts(self, size: str) -> SizeFacts:
        return read(SizeFacts, self._stages.result(f"size-{size}"), f"size-{size}")

    def _run_cells(self) -> float:
        """Runs every cell; returns the fraction that was chosen."""
        given, grid, chosen = self._given, self._grid, self._given.discard_fraction
        if chosen == LEARNED:
            chosen = min(max(round(self._learned_fraction["discard_fraction"], 2), 0.01), 0.99)
            self._say(f"  discard fraction that the rater has learned: {chosen:g}")
        for size in given.all_sizes:
            self._stages.shared(
                f"size-{size}", lambda size=size: to_json(grid.facts(size, count_flops=True))
            )
            facts = self._facts(size)
            tried = [c for cells in self._swept(size).values() for c in cells]
            if size == given.smallest:
                grid.run(tried)
                if chosen is None:
                    chosen = summaries.best_fraction(self._found_sweep(size))
                    self._say(f"  discard fraction by validation loss at {size}: {chosen:g}")
            arms = given.arms(size)
            if RANDOM in arms and RANDOM in given.online_arms:
                examples = len(self._parts.train)
                if is_unfiltered(facts.steps, facts.batch_size, chosen, examples):
                    self._same_as_unfiltered.append((size, RANDOM))
                    arms.remove(RANDOM)
            # Seed by seed, so that a study that was stopped has whole seeds.
            seeds = given.seeds_of(size)
            grid.run([cell(size, arm, chosen, seed) for seed in seeds for arm in arms])
            shorter = self._shorter_cells(size, chosen, arms).values()
            grid.run([cell for by_arm in shorter for cells in by_arm.values() for cell in cells])
            grid.run(tried)
        return chosen

    def _shorter_cells(
        self, size: str, fraction: float, arms: Sequence[str]
    ) -> dict[float, dict[str, list[Cell]]]:
        """Share of the steps, rising -> arm -> its cells."""
        given = self._given
        return {
            share: {
                arm: [cell(size, arm, fraction, seed, share) for seed in given.seeds_of(size)]
                for arm in dict.fromkeys(given.shorter_arms)
                if arm in arms
            }
            for share in sorted(set(given.shorter_runs))
        }

    @functools.cached_property
    def _learned_fraction(self) -> dict[str, float]:
        return learned_fraction(self._scores, count_targets(self._parts.train))

    def _swept(self, size: str) -> dict[float, list[Cell]]:
        given = self._given
        if not given.is_swept(size):
            return {}
        seeds = given.sweep_seeds or given.seeds
        return {f: [cell(size, CANDIDATE, f, seed) for seed in seeds] for f in given.tried}

    def _found_sweep(self, size: str) -> dict[float, dict]:
        return {fraction: self._grid.found(cells) for fraction, cells in self._swept(size).items()}

    def _size(self, name: str, fraction: float, protocol: Protocol) -> Size:
        """One size of the results."""
        facts = self._facts(name)
        skipped = [arm for size, arm in self._same_as_unfiltered if size == name]
        arms = [arm for arm in self._given.arms(name) if arm not in skipped]
        cells = {a: [cell(name, a, fraction, s) for s in self._given.seeds_of(name)] for a in arms}
        cost = {arm: self._cost(arm, facts, cells[arm]) for arm in arms}
        known = {arm: ArmFacts(self._description(arm), cost[arm]) for arm in arms}
        size = self._grid.section(facts, cells, known, protocol)
        shorter = {
            f"{share:g}": {
                arm: summaries.shorter_run(self._grid.found(found), size, UNFILTERED, cost[arm])
                for arm, found in by_arm.items()
            }
            for share, by_arm in self._shorter_cells(name, fraction, arms).items()
        }
        return dataclasses.replace(size, shorter_runs=shorter)

    def _results(self, fraction: float) -> Results:
        """All sections of results.json."""
        given, train = self._given, self._parts.train
        core = list(dict.fromkeys(given.core_arms))
        protocol = Protocol(
            reference=UNFILTERED,
            candidate=CANDIDATE,
            baselines=[RANDOM] if RANDOM in core else [],
            seeds=given.seeds_of(given.smallest),
            core_arms=core,
            more_arms=[arm for arm in given.arms(given.smallest) if arm not in core],
            online_arms=list(given.online_arms),
            discard_fraction=fraction,
            chosen_by=_CHOOSERS.get(given.discard_fraction, "the user"),
            same_as_unfiltered=self._same_as_unfiltered,
        )
        sizes = [self._size(name, fraction, protocol) for name in given.all_sizes]
        own = given.rater is None
        where = f"all {len(train):,} windows of the train part"
        return Results.assemble(
            study="evidence",
            title=given.title,
            answer=judged_first(
                verdicts.on_target(verdicts.answer(sizes, protocol), self._parts.target),
                self._judgement,
            ),
            corpus=self._described,
            rater=findings.of_rater(
                self._rater.metadata,
                findings.quality(
                    self._scores, *findings.levels_and_kinds(train), where, train.sources
                ),
                source=None if own else self._made["path"],
            ),
            protocol=dataclasses.replace(
                protocol, warnings=summaries.budget_warnings(sizes, UNFILTERED)
            ),
            sweep={
                size: summaries.sweep_section(self._found_sweep(size), fraction)
                for size in given.sizes
                if given.is_swept(size)
            },
            sizes=sizes,
            compute=Compute(
                "matrix products of the networks, two operations a multiplication and addition; a"
                " training step is three forward passes",
                self._scored["forward_flops"],
                self._scored["examples"],
                self._scored["flops"],
                self._made["flops"],
                {name: self._cost_of(name) for name in self._scorers},
            ),
            tasks={
                task.name: TaskFacts(len(task.questions), task.available, task.chance)
                for task in given.tasks
            },
            findings=findings.what_the_rater_learned(
                self._base_dir / _RATER if own else None,
                lambda: experiment(data=lambda: self._parts).rater,
                self._parts,
                self._scores,
                self._baselines,
                self._scorers,
                sorted({0.0, fraction, *FRACTIONS}),
            )
            | {
                "audit": audited(train, self._parts.outer, self._scores, fraction),
                "learned_fraction": self._learned_fraction,
            },
            stages=self._stages.timings() | _runs(sizes),
            settings={
                "threads_a_model": {name: self._grid.threads(name) for name in given.all_sizes},
                "configuration": configuration.parsed_config(),
            },
        )

    def _description(self, arm: str) -> str:
        online = arm in self._given.online_arms
        where = "chosen in oversized batches" if online else "chosen beforehand"
        text = DESCRIPTIONS.get(arm, "an arm of the user's own")
        return text if arm == UNFILTERED else f"{text}; {where}"

    def _cost(self, arm: str, facts: SizeFacts, cells: Sequence[Cell]) -> Cost:
        scoring, making, name = 0, 0.0, self._baselines.scored_by(arm)
        if name == RATER:
            scoring, making = self._scored["forward_flops"], self._made["flops"]["total"]
        elif name is not None:
            cost = self._cost_of(name)
            scoring, making = cost.forward, cost.training
        online, examples = arm in self._given.online_arms, len(self._parts.train)
        passes = [found["budget"]["passes"] for found in self._grid.found(cells).values()]
        count = scored_examples(float(np.mean(passes)) * examples / facts.steps, online, examples)
        return Cost(scoring, count, making)


def _runs(sizes: Sequence[Size]) -> dict[str, Stage]:
    """Time of the training runs of every size, as a stage; the sweep's other runs not counted."""
    return {
        f"training runs, {size.name}": Stage(
            sum(arm.seconds * len(arm.curves) for arm in size.arms.values())
        )
        for size in sizes
    }


def other_corpus(
    corpus: Corpus, tokenizer: Tokenizer, train: ExampleSet, size: int | None
) -> ExampleSet:
    """Windows of another corpus, without those that the train part has; at most `size` of them."""
    length = train.features["tokens"].shape[1]
    examples = window_documents(corpus.documents(), tokenizer, length, name=corpus.name)
    # The other corpus is the smaller one: train may be larger than memory.
    places: dict[bytes, list[int]] = {}
    for place, row in enumerate(examples.features["tokens"]):
        places.setdefault(row.tobytes(), []).append(place)
    fresh = np.ones(len(examples), bool)
    for row in train.features["tokens"]:
        if known := places.pop(row.tobytes(), None):
            fresh[known] = False
    if not fresh.any():
        raise ConfigurationError(
            f"evidence.corpora: every window of '{corpus.name}' is in the train part too: name a"
            " corpus that the models do not train on."
        )
    return examples.take(fresh).thinned(size)
