"""The evidence protocol: does the filtered corpus train better models for less compute?

    <base_dir>/rater/               a run of meta_train, where no rater was given
    <base_dir>/scores.npz           of the train part
    <base_dir>/cells/<size>/        one training run each (see evaluation.evidence_cells)
    <base_dir>/claims/              which process is at what
    <base_dir>/stages/, baselines/  what else is done once
    <base_dir>/summaries/           TensorBoard: curves and HParams of every cell
    <base_dir>/results.json, report.html

Any number of processes, on machines that share the folder, may run the same command: each takes
what is not done and not claimed, and all of them write the same report at the end. A stopped study
goes on with the next call.
"""

from collections.abc import Callable, Mapping, Sequence
import functools
import pathlib

import gin
import numpy as np

from dr_keras import evidence_rater, run_configuration
from dr_keras.analysis import evidence_report
from dr_keras.analysis.evidence_findings import what_the_rater_learned
from dr_keras.analysis.learned import FRACTIONS
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.evaluation import cell_summaries, evidence_results, flops, verdict
from dr_keras.evaluation.arm_streams import is_unfiltered, scored_examples
from dr_keras.evaluation.baselines.candidates import window_candidates
from dr_keras.evaluation.baselines.perplexity import cross_perplexity
from dr_keras.evaluation.baselines.study import ARMS, Baselines
from dr_keras.evaluation.claims import Claims
from dr_keras.evaluation.evidence_cells import UNFILTERED, Cell, Cells, Measures, cell, thinned
from dr_keras.evaluation.language_model_training import LanguageModelTrainer, count_targets
from dr_keras.evaluation.stages import Stages
from dr_keras.evaluation.tasks import Task
from dr_keras.experiment import experiment
from dr_keras.filtering.fractions import exact_fraction
from dr_keras.retraining_study import read_scores

CANDIDATE, RANDOM = "rater", "random"
FOLDS = 2
# What a later call in the same folder may change: cells that are there stay good.
MAY_DIFFER = (
    "evidence.seeds", "evidence.sweep_seeds", "evidence.core_arms", "evidence.more_arms",
    "evidence.title", "evidence.stale_after", "evidence.sweep_sizes", "SEEDS",
)
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
    "classifier": "most like the outer part to a linear n-gram classifier",
}


@gin.configurable(denylist=["base_dir", "say"])
def evidence(
    base_dir,
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    sizes: Mapping[str, Callable[[], LanguageModelTrainer]] = gin.REQUIRED,
    tokenizer: Tokenizer = gin.REQUIRED,
    rater: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    core_arms: Sequence[str] = ("unfiltered", "rater", "random"),
    more_arms: Sequence[str] = tuple(a for a in ARMS if a not in ("unfiltered", "rater", "random")),
    online_arms: Sequence[str] = (),
    discard_fraction: float | None = None,
    sweep: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    sweep_seeds: Sequence[int] | None = None,
    sweep_sizes: str = "all",
    test_size: int | None = 1024,
    validation_size: int | None = 1024,
    corpora: Sequence[Corpus] = (),
    tasks: Sequence[Task] = (),
    perplexity_trainer: Callable[[], LanguageModelTrainer] = LanguageModelTrainer,
    meta_training_flops: float | None = None,
    stale_after: float = 600.0,
    title: str = "Does the filtered corpus train better models for less compute?",
    say=print,
) -> dict:
    """Runs what is left of the study in `base_dir` and writes its report.

    Args:
      base_dir: the study's folder; several processes may share it.
      data: the four parts, or a function that returns them, such as @text_data.
      sizes: name -> builds the trainer of a size, smallest first, such as
        {'1M': @medium/LanguageModelTrainer}.
      tokenizer: of the data, for tasks and other corpora.
      rater: path of an exported rater, or the name of one that ships; None meta-trains one here, by
        the bindings that `meta_train` reads.
      seeds: of every arm; at least three for a verdict worth the name.
      core_arms: run at every size; "unfiltered" and "rater" must be among them.
      more_arms: run at the smallest size; names are those of `baselines.study.Baselines`.
      online_arms: arms that choose within oversized batches while training; the others choose a
        subset beforehand. A random arm among them that makes a single pass is the unfiltered arm,
        and is not run.
      discard_fraction: share to drop; None takes the best of `sweep` on the smallest size by the
        loss on the validation part.
      sweep: fractions to try for the rater's arm; empty tries none.
      sweep_seeds: seeds of the sweep; None for `seeds`.
      sweep_sizes: "all" repeats the sweep at every size, to see whether the choice is the best
        there too; "smallest" does not.
      test_size, validation_size: at most so many examples of these parts, evenly spread.
      corpora: other corpora on which losses are reported; windows that the train part has are left
        out.
      tasks: multiple-choice tasks, such as @jsonl_tasks().
      perplexity_trainer: builds the model that scores for the perplexity arms.
      meta_training_flops: what meta-training cost, for a rater that is given.
      stale_after: seconds without a sign of life after which a process's cell is taken over.
      title: of the report.
      say: prints a line for the user.

    Returns:
      The results as written to results.json.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: the data cannot be used.
      CheckpointError: a file of the study is damaged.
    """
    study = _Study(
        pathlib.Path(base_dir), sizes, seeds, core_arms, more_arms, online_arms, sweep_sizes,
        Claims(pathlib.Path(base_dir) / "claims", stale_after), say,
    )  # fmt: skip
    if discard_fraction is None and not sweep:
        raise ConfigurationError(
            "evidence.discard_fraction is None and evidence.sweep is empty: give one of them."
        )
    for fraction in (*sweep, *([] if discard_fraction is None else [discard_fraction])):
        if exact_fraction(fraction) == 0:
            raise ConfigurationError("a discard fraction is 0: unfiltered is an arm of its own.")
    run_configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
    parts = data() if callable(data) else data
    described = study.shared("corpus", lambda: describe(parts))
    if described["fingerprint"] != parts.fingerprint:
        raise CheckpointError(
            f"{base_dir} holds a study on other data (fingerprint {described['fingerprint'][:12]},"
            f" now {parts.fingerprint[:12]}): give back the corpus it began with, or name a new"
            " base_dir."
        )
    train = described["parts"]["train"]
    say(f"  {train['examples']:,} windows, {train['unique_tokens']:,} tokens to train on")
    made = {"path": rater, "flops": {"total": meta_training_flops, "reason": "a rater was given"}}
    if rater is None:
        made = study.shared(
            "meta_train", lambda: evidence_rater.train_rater(study.base_dir, parts)
        )
        rater = str(study.base_dir / made["path"])
    loaded = evidence_rater.open_rater(rater, parts.train, tokenizer)
    scored = study.shared(
        "score", lambda: evidence_rater.score_train(study.base_dir, loaded, parts.train)
    )
    ids, scores = read_scores(study.base_dir)
    if not np.array_equal(ids, parts.train.ids.astype(str)):
        raise CheckpointError(f"{base_dir}/scores.npz is of other data: remove it and stages/.")
    measures = Measures(
        thinned(parts.test, test_size),
        thinned(parts.validation, validation_size),
        {c.name: other_corpus(c, tokenizer, parts.train, test_size) for c in corpora},
        list(tasks),
        tokenizer,
    )
    baselines = functools.cache(
        lambda: Baselines(
            window_candidates(parts.train), window_candidates(parts.outer), scores,
            cache_dir=study.base_dir / "baselines",
            perplexity=functools.partial(
                cross_perplexity, trainer=perplexity_trainer, folds=FOLDS
            ),
        )
    )
    cells = Cells(
        base_dir, sizes, parts, measures, baselines, online_arms,
        evidence_rater.scores_fingerprint(scores),
    )
    if any(arm.startswith("perplexity_") for arm in study.all_arms):
        study.shared(
            "perplexity", lambda: _perplexity(baselines(), perplexity_trainer, parts.train)
        )
    fraction = study.run(cells, parts, discard_fraction, sweep, sweep_seeds or seeds)
    found = study.results(
        cells, parts, described, scored, made, loaded, fraction, sweep, sweep_seeds or seeds,
        discard_fraction is None, title, measures, baselines, scores,
    )
    evidence_results.write(found, study.base_dir / "results.json")
    evidence_report.write(found, study.base_dir / "report.html")
    return found


def describe(parts: Parts) -> dict:
    """The `corpus` section of the results."""
    return {
        "name": ", ".join(sorted(set(parts.train.corpora.tolist()))[:20]),
        "fingerprint": parts.fingerprint,
        "parts": {
            part: {
                "examples": len(examples),
                "unique_tokens": int(count_targets(examples).sum()),
                "by_source": examples.counts_by_source(),
                "by_damage": _counts(examples.labels.get("damage")),
            }
            for part, examples in parts.items()
        },
    }


def _counts(values) -> dict[str, int]:
    if values is None:
        return {}
    names, counts = np.unique([str(v) for v in values if v is not None], return_counts=True)
    return {str(name): int(count) for name, count in zip(names, counts)}


def other_corpus(
    corpus: Corpus, tokenizer: Tokenizer, train: ExampleSet, size: int | None
) -> ExampleSet:
    """Windows of another corpus, without those that the train part has; at most `size` of them."""
    length = train.features["tokens"].shape[1]
    examples = window_documents(corpus.documents(), tokenizer, length, name=corpus.name)
    known = {row.tobytes() for row in train.features["tokens"]}
    fresh = [row.tobytes() not in known for row in examples.features["tokens"]]
    if not any(fresh):
        raise ConfigurationError(
            f"evidence.corpora: every window of '{corpus.name}' is in the train part too: name a"
            " corpus that the models do not train on."
        )
    return thinned(examples.take(np.array(fresh)), size)


def _perplexity(baselines: Baselines, trainer: Callable, train: ExampleSet) -> dict:
    """Scores by the small model, kept on disk; what training it and scoring cost."""
    assert baselines.nats_per_token is not None
    built = trainer()
    forward = flops.forward_flops(built.model, flops.feature_shapes(train.features))
    return {
        "forward_flops": int(forward),
        "training_flops": FOLDS * flops.training_flops(forward, built.steps * built.batch_size),
        "flops": int(forward) * len(train),
    }


def _runs(sections: Sequence[Mapping]) -> dict[str, dict]:
    """Time of the training runs of every size, as a stage; the sweep's other runs not counted."""
    return {
        f"training runs, {section['name']}": {
            "seconds": sum(
                arm["seconds"] * len(arm["curves"]) for arm in section["arms"].values()
            ),
            "peak_memory_bytes": None,
        }
        for section in sections
    }


class _Study:
    """What is to be run, in which order, and what came of it."""

    def __init__(
        self, base_dir, sizes, seeds, core_arms, more_arms, online_arms, sweep_sizes, claims, say
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

    def run(self, cells: Cells, parts: Parts, fraction, sweep, sweep_seeds) -> float:
        """Runs every cell; returns the fraction that was chosen."""
        smallest, chosen = next(iter(self.sizes)), fraction
        for size in self.sizes:
            facts = self.shared(f"size-{size}", lambda size=size: self._facts(size, cells, parts))
            tried = [
                cell(size, CANDIDATE, f, seed) for f in sweep for seed in sweep_seeds
            ] if size == smallest or self.sweep_sizes == "all" else []
            if size == smallest:
                self._share(cells, tried)
                if chosen is None:
                    swept = self._sweep(cells, size, sweep, sweep_seeds)
                    chosen = evidence_results.best_fraction(swept)
                    self.say(f"  discard fraction by validation loss at {size}: {chosen:g}")
            arms = []
            for arm in self.arms(size):
                if arm == RANDOM and arm in self.online_arms and is_unfiltered(
                    facts["steps"], facts["batch_size"], chosen, len(parts.train)
                ):
                    self.same_as_unfiltered.append([size, arm])
                else:
                    arms.append(arm)
            # Seed by seed, so that a study that was stopped has whole seeds.
            self._share(cells, [cell(size, a, chosen, seed) for seed in self.seeds for a in arms])
            self._share(cells, tried)
        return chosen

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
        self, cells, parts, described, scored, made, loaded, fraction, sweep, sweep_seeds,
        by_sweep, title, measures, baselines, scores,
    ) -> dict:
        """All sections of results.json."""
        skipped = {tuple(pair) for pair in self.same_as_unfiltered}
        sections, sweeps = [], {}
        perplexity = (
            self.stages.result("perplexity") if self.stages.is_done("perplexity") else None
        )
        tokens = int(count_targets(measures.test).sum())
        for size in self.sizes:
            facts = self.stages.result(f"size-{size}")
            arms = [arm for arm in self.arms(size) if (size, arm) not in skipped]
            found = {
                arm: {s: cells.read(cell(size, arm, fraction, s)) for s in self.seeds}
                for arm in arms
            }
            cost = {
                arm: self._cost(arm, facts, scored, made, perplexity, fraction, len(parts.train))
                for arm in arms
            }
            smallest_pool = min(
                int(c["budget"]["pool_examples"]) for runs in found.values() for c in runs.values()
            )
            too_small = verdict.too_small_for_verdict(
                smallest_pool, tokens, facts["steps"], facts["batch_size"]
            )
            facts = facts | {
                "discard_fraction": found[CANDIDATE][self.seeds[0]]["discard_fraction"]
            }
            rivals = [RANDOM] if RANDOM in arms else []
            descriptions = {arm: self._description(arm) for arm in arms}
            sections.append(
                evidence_results.size_section(
                    facts, found, descriptions, UNFILTERED, CANDIDATE, rivals, cost, too_small
                )
            )
            if sweep and (size == next(iter(self.sizes)) or self.sweep_sizes == "all"):
                by_fraction = self._sweep(cells, size, sweep, sweep_seeds)
                sweeps[size] = evidence_results.sweep_section(by_fraction, fraction)
        baselines_used = [RANDOM] if RANDOM in self.core_arms else []
        training = loaded.metadata["training"]
        own = self.stages.is_done("meta_train")
        return evidence_results.assemble(
            title=title,
            answer=evidence_results.answer(
                sections, UNFILTERED, CANDIDATE,
                [b for b in baselines_used if all(b in s["arms"] for s in sections)],
            ),
            corpus=described,
            rater={
                "source": "meta-trained in this study" if own else made["path"],
                "parameters": loaded.metadata["parameters"],
                "fingerprint": loaded.fingerprint,
                "meta_step": training.get("meta_step"),
                "chosen": training.get("chosen"),
            },
            protocol={
                "candidate": CANDIDATE,
                "reference": UNFILTERED,
                "baselines": baselines_used,
                "seeds": self.seeds,
                "core_arms": self.core_arms,
                "more_arms": self.more_arms,
                "online_arms": list(self.online_arms),
                "discard_fraction": fraction,
                "chosen_by": "the sweep, on the validation part" if by_sweep else "the user",
                "same_as_unfiltered": self.same_as_unfiltered,
                "warnings": evidence_results.budget_warnings(sections, UNFILTERED),
            },
            sweep=sweeps,
            sizes=sections,
            compute={
                "counted": "matrix products of the networks, two operations a multiplication and"
                " addition; a training step is three forward passes",
                "rater_forward_flops": scored["forward_flops"],
                "meta_training": made["flops"],
                "score_corpus": {"flops": scored["flops"], "examples": scored["examples"]},
                "perplexity": perplexity,
            },
            tasks={
                task.name: {
                    "questions": len(task.questions), "available": task.available,
                    "chance": task.chance,
                }
                for task in measures.tasks
            },
            analysis=what_the_rater_learned(
                self.base_dir / evidence_rater.FOLDER if own else None,
                lambda: experiment(data=lambda: parts).rater,
                parts,
                scores,
                baselines(),
                perplexity is not None,
                sorted({0.0, fraction, *FRACTIONS}),
            ),
            stages=self.stages.timings() | _runs(sections),
            settings={"configuration": run_configuration.parsed_config()},
        )

    def _description(self, arm: str) -> str:
        where = "chosen in oversized batches" if arm in self.online_arms else "chosen beforehand"
        text = _DESCRIPTIONS.get(arm, "an arm of the user's own")
        return text if arm == UNFILTERED else f"{text}; {where}"

    def _cost(self, arm, facts, scored, made, perplexity, fraction, examples) -> dict:
        scoring, meta_training = 0, 0.0
        if arm in _USES_RATER:
            scoring, meta_training = scored["forward_flops"], made["flops"]["total"]
        elif arm.startswith("perplexity_"):
            scoring = perplexity["forward_flops"]
        online = arm in self.online_arms
        count = scored_examples(facts["batch_size"], fraction, online, examples)
        return {"scoring": scoring, "scored": count, "meta_training": meta_training}
