"""What an evidence study runs, in which order, and its results: see `dr_keras.studies.evidence`."""

from collections.abc import Callable, Sequence
import dataclasses

from dr_keras.config import run_configuration
from dr_keras.data.examples import Parts
from dr_keras.errors import ConfigurationError
from dr_keras.runs.experiment import experiment
from dr_keras.studies import cell_summaries, evidence_rater, findings, summaries, verdicts
from dr_keras.studies.arm_streams import is_unfiltered, scored_examples
from dr_keras.studies.costs import Cost
from dr_keras.studies.evidence_cells import UNFILTERED, Cell, Cells, cell
from dr_keras.studies.evidence_findings import what_the_rater_learned
from dr_keras.studies.learned import FRACTIONS
from dr_keras.studies.results import Compute, Rater, Results, Stage, TaskFacts, read
from dr_keras.studies.sizes import Protocol, Size, SizeFacts
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.training import flops
from dr_keras.training.language_model_training import count_targets

CANDIDATE, RANDOM = "rater", "random"
_USES_RATER = ("rater", "rater_inverted", "random_as_rater", "heuristics_then_rater")
_DESCRIPTIONS = {
    "unfiltered": "all of the train part",
    "rater": "what the rater scores highest",
    "rater_inverted": "what the rater scores lowest: a check that its order means something",
    "random": "as much of every source, chosen by hash",
    "random_as_rater": "chosen by hash, as much of every source as the rater kept",
    "perplexity_lowest": "the likeliest text under a small model trained on other documents",
    "perplexity_middle": "text of middling likelihood under such a model",
    "perplexity_highest": "the least likely text under such a model",
    "heuristics_c4": "what breaks fewest of C4's rules",
    "heuristics_gopher": "what breaks fewest of Gopher's rules",
    "heuristics": "what breaks fewest of C4's and Gopher's rules",
    "heuristics_then_rater": "what breaks rules goes first, then what the rater scores lowest",
    "least_damaged": "the least damaged, as known from how the corpus was made: no filter, a limit",
    "classifier": "most like the outer part to a linear n-gram classifier",
}


def _runs(sizes: Sequence[Size]) -> dict[str, Stage]:
    """Time of the training runs of every size, as a stage; the sweep's other runs not counted."""
    return {
        f"training runs, {size.name}": Stage(
            sum(arm.seconds * len(arm.curves) for arm in size.arms.values())
        )
        for size in sizes
    }


class Study:
    """What is to be run, in which order, and what came of it; arguments as of `evidence`."""

    def __init__(
        self,
        base_dir,
        sizes,
        seeds,
        core_arms,
        more_arms,
        online_arms,
        sweep_sizes,
        shorter_runs,
        claims,
        say,
    ):
        if not sizes or not seeds:
            raise ConfigurationError("evidence.sizes and evidence.seeds must not be empty.")
        missing = [arm for arm in (UNFILTERED, CANDIDATE) if arm not in core_arms]
        if missing:
            raise ConfigurationError(
                f"evidence.core_arms lacks {' and '.join(missing)}: nothing could be compared."
            )
        if sweep_sizes not in ("all", "smallest"):
            raise ConfigurationError(
                f"evidence.sweep_sizes is {sweep_sizes!r}: it must be 'all' or 'smallest'."
            )
        if UNFILTERED in online_arms:
            raise ConfigurationError("evidence.online_arms: unfiltered chooses nothing.")
        unknown = [name for name in sizes if not name or set(name) & set("/\\") or name[0] == "."]
        if unknown:
            raise ConfigurationError(f"evidence.sizes: {unknown[0]!r} cannot name a folder.")
        self.base_dir, self.sizes, self.seeds = base_dir, sizes, list(seeds)
        self.core_arms = list(dict.fromkeys(core_arms))
        self.more_arms = [arm for arm in dict.fromkeys(more_arms) if arm not in self.core_arms]
        self.online_arms, self.sweep_sizes = tuple(online_arms), sweep_sizes
        self.shorter_runs = sorted(set(shorter_runs))
        wrong = [share for share in self.shorter_runs if not 0 < share < 1]
        if wrong:
            raise ConfigurationError(
                f"evidence.shorter_runs: {wrong[0]:g} is no share of the steps between 0 and 1."
            )
        self.claims, self.say = claims, say
        self.stages = Stages(base_dir, say)
        self.same_as_unfiltered: list[list[str]] = []

    @property
    def all_arms(self) -> list[str]:
        """Of the smallest size."""
        return self.core_arms + self.more_arms

    def shared(self, name: str, work: Callable[[], dict]) -> dict:
        """A stage that one of the processes does."""
        self.claims.share(
            [name], self.stages.is_done, lambda stage: self.stages.run(stage, work), self.say
        )
        return self.stages.result(name)

    def arms(self, size: str) -> list[str]:
        """Arms of a size."""
        return self.all_arms if size == next(iter(self.sizes)) else self.core_arms

    def check(self) -> None:
        """Builds every trainer, so that settings which cannot work are found before the work."""
        for size, build in self.sizes.items():
            trainer = build()
            for share in self.shorter_runs:
                try:
                    trainer.steps_of(share)
                except ConfigurationError as error:
                    raise ConfigurationError(f"evidence.shorter_runs, {size}: {error}") from error

    def run(self, cells: Cells, parts: Parts, fraction, sweep, sweep_seeds) -> float:
        """Runs every cell; returns the fraction that was chosen."""
        smallest, chosen = next(iter(self.sizes)), fraction
        for size in self.sizes:
            facts = self.shared(f"size-{size}", lambda size=size: self._facts(size, cells, parts))
            tried = (
                [cell(size, CANDIDATE, f, seed) for f in sweep for seed in sweep_seeds]
                if size == smallest or self.sweep_sizes == "all"
                else []
            )
            if size == smallest:
                self._share(cells, tried)
                if chosen is None:
                    swept = self._sweep(cells, size, sweep, sweep_seeds)
                    chosen = summaries.best_fraction(swept)
                    self.say(f"  discard fraction by validation loss at {size}: {chosen:g}")
            arms = []
            for arm in self.arms(size):
                if (
                    arm == RANDOM
                    and arm in self.online_arms
                    and is_unfiltered(facts["steps"], facts["batch_size"], chosen, len(parts.train))
                ):
                    self.same_as_unfiltered.append([size, arm])
                else:
                    arms.append(arm)
            # Seed by seed, so that a study that was stopped has whole seeds.
            self._share(cells, [cell(size, a, chosen, seed) for seed in self.seeds for a in arms])
            for share in self.shorter_runs:
                self._share(cells, self._shorter(size, chosen, share))
            self._share(cells, tried)
        return chosen

    def _shorter(self, size: str, fraction, share: float) -> list[Cell]:
        return [cell(size, CANDIDATE, fraction, seed, share) for seed in self.seeds]

    def _share(self, cells: Cells, wanted: Sequence[Cell]) -> None:
        by_name = {c.name: c for c in wanted}

        def run(name: str) -> None:
            found = cells.run(by_name[name])
            cell_summaries.write(self.base_dir, found)

        self.claims.share(
            by_name, lambda name: cells.read(by_name[name]) is not None, run, self.say
        )

    def _facts(self, size: str, cells: Cells, parts: Parts) -> dict:
        trainer = cells.trainer(size)
        features = parts.train.features
        length = int(features["tokens"].shape[1])
        return {
            "name": size,
            "parameters": trainer.parameters,
            "steps": trainer.steps,
            "batch_size": trainer.batch_size,
            "sequence_length": length,
            "tokens_a_run": trainer.steps * trainer.batch_size * length,
            "forward_flops": flops.forward_flops(trainer.model, flops.feature_shapes(features)),
        }

    def _sweep(self, cells: Cells, size: str, fractions, seeds) -> dict:
        return {
            f: {seed: cells.read(cell(size, CANDIDATE, f, seed)) for seed in seeds}
            for f in fractions
        }

    def results(
        self,
        cells,
        parts,
        described,
        scored,
        made,
        loaded,
        fraction,
        sweep,
        sweep_seeds,
        by_sweep,
        title,
        measures,
        baselines,
        scores,
    ) -> Results:
        """All sections of results.json."""
        skipped = {tuple(pair) for pair in self.same_as_unfiltered}
        perplexity = self.stages.result("perplexity") if self.stages.is_done("perplexity") else None
        tokens = int(count_targets(measures.test).sum())
        given = Protocol(
            reference=UNFILTERED,
            candidate=CANDIDATE,
            baselines=[RANDOM] if RANDOM in self.core_arms else [],
            seeds=self.seeds,
            core_arms=self.core_arms,
            more_arms=self.more_arms,
            online_arms=list(self.online_arms),
            discard_fraction=fraction,
            chosen_by="the sweep, on the validation part" if by_sweep else "the user",
            same_as_unfiltered=sorted(skipped),
        )
        sizes, sweeps = [], {}
        for name in self.sizes:
            facts = read(SizeFacts, self.stages.result(f"size-{name}"), f"size-{name}")
            arms = [arm for arm in self.arms(name) if (name, arm) not in skipped]
            found = {
                arm: {s: cells.read(cell(name, arm, fraction, s)) for s in self.seeds}
                for arm in arms
            }
            cost = {
                arm: self._cost(arm, facts, scored, made, perplexity, fraction, len(parts.train))
                for arm in arms
            }
            smallest_pool = min(
                int(c["budget"]["pool_examples"]) for runs in found.values() for c in runs.values()
            )
            too_small = verdicts.too_small_for_verdict(
                smallest_pool, tokens, facts.steps, facts.batch_size
            )
            known = {arm: ArmFacts(self._description(arm), cost[arm]) for arm in arms}
            size = summaries.size_section(facts, found, known, given, too_small)
            shorter = {
                f"{share:g}": summaries.shorter_run(
                    {c.seed: cells.read(c) for c in self._shorter(name, fraction, share)},
                    size,
                    UNFILTERED,
                    cost[CANDIDATE],
                )
                for share in self.shorter_runs
            }
            sizes.append(dataclasses.replace(size, shorter_runs=shorter))
            if sweep and (name == next(iter(self.sizes)) or self.sweep_sizes == "all"):
                by_fraction = self._sweep(cells, name, sweep, sweep_seeds)
                sweeps[name] = summaries.sweep_section(by_fraction, fraction)
        training = loaded.metadata["training"]
        own = self.stages.is_done("meta_train")
        levels, kinds = findings.levels_and_kinds(parts.train)
        where = f"all {len(parts.train):,} windows of the train part"
        return Results.assemble(
            study="evidence",
            title=title,
            answer=verdicts.answer(sizes, given),
            corpus=described,
            rater=Rater(
                loaded.metadata["parameters"],
                loaded.fingerprint,
                findings.quality(scores, levels, kinds, where),
                training.get("meta_step"),
                training.get("chosen"),
                None if own else made["path"],
            ),
            protocol=dataclasses.replace(
                given, warnings=summaries.budget_warnings(sizes, UNFILTERED)
            ),
            sweep=sweeps,
            sizes=sizes,
            compute=Compute(
                "matrix products of the networks, two operations a multiplication and addition; a"
                " training step is three forward passes",
                scored["forward_flops"],
                scored["examples"],
                scored["flops"],
                made["flops"],
                perplexity,
            ),
            tasks={
                task.name: TaskFacts(len(task.questions), task.available, task.chance)
                for task in measures.tasks
            },
            findings=what_the_rater_learned(
                self.base_dir / evidence_rater.FOLDER if own else None,
                lambda: experiment(data=lambda: parts).rater,
                parts,
                scores,
                baselines(),
                perplexity is not None,
                sorted({0.0, fraction, *FRACTIONS}),
            ),
            stages=self.stages.timings() | _runs(sizes),
            settings={"configuration": run_configuration.parsed_config()},
        )

    def _description(self, arm: str) -> str:
        where = "chosen in oversized batches" if arm in self.online_arms else "chosen beforehand"
        text = _DESCRIPTIONS.get(arm, "an arm of the user's own")
        return text if arm == UNFILTERED else f"{text}; {where}"

    def _cost(self, arm, facts: SizeFacts, scored, made, perplexity, fraction, examples) -> Cost:
        scoring, meta_training = 0, 0.0
        if arm in _USES_RATER:
            scoring, meta_training = scored["forward_flops"], made["flops"]["total"]
        elif arm.startswith("perplexity_"):
            scoring = perplexity["forward_flops"]
        count = scored_examples(facts.batch_size, fraction, arm in self.online_arms, examples)
        return Cost(scoring, count, meta_training)
