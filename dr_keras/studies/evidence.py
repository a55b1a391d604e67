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
import os
import pathlib

import numpy as np

from dr_keras.baselines.arms import ARMS, LEAST_DAMAGED, Baselines
from dr_keras.baselines.candidates import window_candidates
from dr_keras.baselines.perplexity import cross_perplexity
from dr_keras.config import run_configuration
from dr_keras.data.corpora.base import Corpus
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.data.windows import window_documents
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.devices import strategies
from dr_keras.rating.fractions import exact_fraction
from dr_keras.studies import evidence_rater
from dr_keras.studies.evidence_cells import Cells, Measures, thinned
from dr_keras.studies.evidence_run import Study
from dr_keras.studies.results import Results
from dr_keras.studies.retraining import read_scores
from dr_keras.system.claims import Claims
from dr_keras.training import flops
from dr_keras.training.language_model_training import LanguageModelTrainer, count_targets
from dr_keras.training.tasks import Task
import gin

FOLDS = 2
# What a later call in the same folder may change: cells that are there stay good.
MAY_DIFFER = (
    "evidence.seeds",
    "evidence.sweep_seeds",
    "evidence.core_arms",
    "evidence.more_arms",
    "evidence.title",
    "evidence.stale_after",
    "evidence.sweep_sizes",
    "evidence.shorter_runs",
    "SEEDS",
    *strategies.BINDINGS,
)


@gin.configurable(denylist=["base_dir", "say", "write_report"])
def evidence(
    base_dir,
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    sizes: Mapping[str, Callable[[], LanguageModelTrainer]] = gin.REQUIRED,
    tokenizer: Tokenizer = gin.REQUIRED,
    rater: str | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    core_arms: Sequence[str] = ("unfiltered", "rater", "random"),
    more_arms: Sequence[str] = tuple(
        a for a in ARMS if a not in ("unfiltered", "rater", "random", LEAST_DAMAGED)
    ),
    online_arms: Sequence[str] = (),
    discard_fraction: float | None = None,
    sweep: Sequence[float] = (0.1, 0.25, 0.5, 0.75, 0.9),
    sweep_seeds: Sequence[int] | None = None,
    sweep_sizes: str = "all",
    shorter_runs: Sequence[float] = (),
    test_size: int | None = 1024,
    validation_size: int | None = 1024,
    corpora: Sequence[Corpus] = (),
    tasks: Sequence[Task] = (),
    perplexity_trainer: Callable[[], LanguageModelTrainer] = LanguageModelTrainer,
    meta_training_flops: float | None = None,
    stale_after: float = 600.0,
    title: str = "Does the filtered corpus train better models for less compute?",
    write_report: Callable[[Results, pathlib.Path], None] | None = None,
    say=print,
) -> Results:
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
      shorter_runs: shares of the steps in which the rater's arm is trained again, with the whole
        schedule of the learning rate: does it get as low as the unfiltered arm in its full run?
      test_size, validation_size: at most so many examples of these parts, evenly spread.
      corpora: other corpora on which losses are reported; windows that the train part has are left
        out.
      tasks: multiple-choice tasks, such as @jsonl_tasks().
      perplexity_trainer: builds the model that scores for the perplexity arms.
      meta_training_flops: what meta-training cost, for a rater that is given.
      stale_after: seconds without a sign of life after which a process's cell is taken over.
      title: of the report.
      write_report: writes <base_dir>/report.html from the results; None leaves it out.
      say: prints a line for the user.

    Returns:
      The results as written to results.json.

    Raises:
      ConfigurationError: a setting out of its range.
      DataError: the data cannot be used.
      CheckpointError: a file of the study is damaged.
    """
    study = Study(
        pathlib.Path(base_dir), sizes, seeds, core_arms, more_arms, online_arms, sweep_sizes,
        shorter_runs, Claims(os.path.join(base_dir, "claims"), stale_after), say,
    )  # fmt: skip
    if discard_fraction is None and not sweep:
        raise ConfigurationError(
            "evidence.discard_fraction is None and evidence.sweep is empty: give one of them."
        )
    for fraction in (*sweep, *([] if discard_fraction is None else [discard_fraction])):
        if exact_fraction(fraction) == 0:
            raise ConfigurationError("a discard fraction is 0: unfiltered is an arm of its own.")
    study.check()
    run_configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
    parts = data() if callable(data) else data
    levels = np.asarray(parts.train.labels.get("level", np.nan), float)
    if LEAST_DAMAGED in study.all_arms and np.isnan(levels).any():
        raise ConfigurationError(
            f"evidence: the arm {LEAST_DAMAGED} needs a corpus whose damage is known, such as"
            " @damaged_corpus(): leave it out of core_arms and more_arms."
        )
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
        made = study.shared("meta_train", lambda: evidence_rater.train_rater(study.base_dir, parts))
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
            window_candidates(parts.train),
            window_candidates(parts.outer),
            scores,
            cache_dir=study.base_dir / "baselines",
            perplexity=functools.partial(cross_perplexity, trainer=perplexity_trainer, folds=FOLDS),
        )
    )
    cells = Cells(
        base_dir,
        sizes,
        parts,
        measures,
        baselines,
        online_arms,
        evidence_rater.scores_fingerprint(scores),
    )
    if any(arm.startswith("perplexity_") for arm in study.all_arms):
        study.shared(
            "perplexity", lambda: _perplexity(baselines(), perplexity_trainer, parts.train)
        )
    fraction = study.run(cells, parts, discard_fraction, sweep, sweep_seeds or seeds)
    found = study.results(
        cells,
        parts,
        described,
        scored,
        made,
        loaded,
        fraction,
        sweep,
        sweep_seeds or seeds,
        discard_fraction is None,
        title,
        measures,
        baselines,
        scores,
    )
    found.write(study.base_dir / "results.json")
    if write_report is not None:
        write_report(found, study.base_dir / "report.html")
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
