"""The rater of a study, meta-trained for it or given; its scores and cost.

<run>/export/<version>/       of a run of meta_train: the study's folder, or one in it
<run>/scratch/                a second run, where a rater from scratch is made beside a fitted one
<base_dir>/scores.npz         scores of the train part, with its ids or, where it is read from a
                              prepared corpus, its fingerprint
"""

from collections.abc import Sequence
import dataclasses
import hashlib
import pathlib
import zipfile

import numpy as np

from dr_keras.data.columns import Column
from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.estimators import told, untold
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.runs.experiment import Experiment, build_rater
from dr_keras.runs.export import export_run
from dr_keras.runs.fit_records import read_fit
from dr_keras.runs.judgement import judge, read_judgement
from dr_keras.runs.meta_training import best_raters, choose_step, meta_train
from dr_keras.runs.verdict import in_short
from dr_keras.serving.loading import load_rater
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training import flops
from dr_keras.training.meta_evaluation import bound_settings, training_flops
import gin

FITTED, REFINED, SCRATCH = RATERS = ("fitted", "refined", "scratch")

_ROWS = 1024


def fresh_setup(setup: Experiment) -> Experiment:
    """The experiment of a rater that is meta-trained from scratch, beside one that is fitted."""
    rater = build_rater(setup.rater_fn, setup.seed)
    return dataclasses.replace(setup, rater=rater, fitted=None)


@gin.configurable("study_rater", allowlist=["raters"])
def trained(
    run: pathlib.Path, setup: Experiment, count_flops: bool = False, raters: Sequence[str] = ()
) -> dict:
    """Makes the raters of a study in `run`, and judges them.

    Args:
      run: the folder of the meta-training; that of another beside it is <run>/scratch/.
      setup: the experiment.
      count_flops: whether to count what making them took.
      raters: which: "fitted", a rater fitted to a teacher (`experiment.initial_rater =
        @fitted_rater()`); "refined", which meta-training makes of it, judged beside it; "scratch",
        meta-trained from random weights, by the bindings of the scope "scratch" where there are any
        (`scratch/OuterAdam.learning_rate`). () makes what the experiment says, in one run. Of
        several, the judgement chooses.

    Returns:
      {"meta_steps", "nonfinite"} of all runs, and "flops" on demand: as of `meta_flops`, all runs
      together, with "fitting" (teacher included) and "judgement" where there are any.

    Raises:
      ConfigurationError: there is no such rater, or nothing says how to fit one.
    """
    _check(raters, setup)
    if set(raters) == {SCRATCH}:
        setup = fresh_setup(setup)
    several = len(set(raters)) > 1
    options: dict = {"judged": False} if several else {}
    if FITTED in raters and REFINED not in raters:
        options["meta_steps"] = 0
    trainers = {run: (setup, meta_train(run, setup, **options))}
    if several and SCRATCH in raters:
        beside = fresh_setup(setup)
        with gin.config_scope(SCRATCH):
            trainer = meta_train(run / SCRATCH, beside, judged=False)
        trainers[run / SCRATCH] = (beside, trainer)
    costs = {}
    if count_flops or several:
        costs = {place: meta_flops(place, *trainers[place]) for place in trainers}
    if several:
        _judge_all(run, setup, costs)
    found = {
        name: sum(int(getattr(t, counter).numpy()) for _, t in trainers.values())
        for name, counter in (("meta_steps", "meta_step"), ("nonfinite", "nonfinite_count"))
    }
    return found | ({"flops": _added(run, list(costs.values()))} if count_flops else {})


def _check(raters: Sequence[str], setup: Experiment) -> None:
    unknown = [name for name in raters if name not in RATERS]
    if unknown:
        raise ConfigurationError(
            f"study_rater.raters: there is no {unknown[0]!r}; choose among {', '.join(RATERS)}."
        )
    if {FITTED, REFINED} & set(raters) and setup.fitted is None:
        raise ConfigurationError(
            "study_rater.raters: nothing says how to fit a rater: bind experiment.initial_rater ="
            " @fitted_rater() and fitted_rater.teacher (gin file runs/fitted.gin)."
        )


def _judge_all(run: pathlib.Path, setup: Experiment, costs: dict[pathlib.Path, dict]) -> None:
    """Judges the raters of a run, and that of the one from scratch in it."""
    places = best_raters(run)
    beside = best_raters(run / SCRATCH) if run / SCRATCH in costs else {}
    places |= {name: beside["rater"] for name in (SCRATCH,) if beside}
    if len(places) < 2:
        raise ConfigurationError(
            "study_rater.raters: which rater is best is not known without meta-evaluations: set"
            " meta_train.evaluate = True, or make one rater."
        )
    fit = read_fit(run) or {}
    made = {FITTED: fit.get("flops"), REFINED: costs[run]["total"]}
    made[SCRATCH] = costs.get(run / SCRATCH, {}).get("total")
    judge(setup, places, run, {name: made[name] for name in places if made[name] is not None})


def _added(run: pathlib.Path, costs: list[dict]) -> dict:
    """What several runs cost together, with their judgement."""
    unknown = [cost for cost in costs if cost["total"] is None]
    if unknown:
        return unknown[0]
    judgement = read_judgement(run)
    if judgement is not None and judgement.flops is not None:
        costs = [*costs, {"judgement": judgement.flops, "total": judgement.flops}]
    names = dict.fromkeys(name for cost in costs for name in cost)
    return {name: sum(cost.get(name, 0) for cost in costs) for name in names}


def exported(base_dir: pathlib.Path, run: pathlib.Path, setup: Experiment) -> dict:
    """Exports the best rater to <run>/export; {"path" (from base_dir), "meta_step", "chosen"}.

    That is the one with the highest gain where raters of several runs were judged.
    """
    place, (step, reason) = run, choose_step(run)
    judgement = read_judgement(run)
    if judgement is not None and judgement.best.run != ".":
        best = judgement.best
        place, step = run / best.run, best.step
        reason = f"{best.name}, {in_short(best, judgement)}"
    path = pathlib.Path(export_run(place, str(step), setup, run / "export", reason=reason))
    return {"path": path.relative_to(base_dir).as_posix(), "meta_step": step, "chosen": reason}


def meta_flops(run: pathlib.Path, setup: Experiment, trainer: MetaTrainer) -> dict:
    """Operations of a run's meta-training and of its meta-evaluations, by formula.

    Returns:
      {"inner_models", "rater", "meta_evaluation", "total"}, and "fitting" of a rater that was
      fitted first, its teacher included; or {"total": None, "reason"} where the models' products
      cannot be counted, the estimator does not say its cost, or a held-out set has features of its
      own.
    """
    shapes = flops.feature_shapes(setup.parts.train.features)
    try:
        inner = flops.forward_flops(trainer.inner_model, shapes)
        rater = flops.forward_flops(setup.rater, shapes)
    except ConfigurationError as error:
        return {"total": None, "reason": str(error)}
    passes = told(trainer.estimator, "forward_passes", trainer.unroll_length)
    if passes is None:
        return {"total": None, "reason": untold(trainer.estimator, "forward_passes")}
    sets = setup.parts.outer_sets
    others = [name for name, one in sets.items() if set(one.features) != set(shapes)]
    if others:
        return {"total": None, "reason": f"the cost of the held-out set '{others[0]}' is not known"}
    member_steps = int(trainer.meta_step.numpy()) * trainer.population.size
    size = flops.MetaTrainingSize.of(trainer, member_steps)
    size = dataclasses.replace(size, outer_batch_size=len(sets) * size.outer_batch_size)
    found = flops.meta_training_flops(inner, rater, passes, size)
    settings = bound_settings()
    epochs = read_metrics(run, "epoch")
    evaluations = sum(epoch.get("validation_loss") is not None for epoch in epochs)
    # The random choice is trained once, by the same code: scores are computed for it, too.
    evaluations += any(epoch.get("random_validation_loss") is not None for epoch in epochs)
    validation = min(settings["validation_size"], len(setup.parts.validation))
    one = training_flops(inner, rater, settings, validation)
    found["meta_evaluation"] = int(evaluations * settings["repeats"] * one)
    found["total"] += found["meta_evaluation"]
    if fit := read_fit(run):
        if fit["flops"] is None:
            return {"total": None, "reason": fit["reason"]}
        found |= {"fitting": int(fit["flops"]), "total": found["total"] + int(fit["flops"])}
    return found


def open_rater(path: str, train: ExampleSet, tokenizer: Tokenizer | None):
    """The exported rater, after checking that it reads what the study's models read.

    Raises:
      ArtefactError: there is none, or it is damaged.
      ConfigurationError: it is no rater of text, or of other windows or another tokenizer.
    """
    rater = load_rater(path)
    if rater.metadata["kind"] != "text":
        raise ConfigurationError(
            f"{path} rates {rater.metadata['kind']}: language models are compared by a rater of"
            " text."
        )
    length = train.features["tokens"].shape[1]
    if rater.sequence_length != length:
        raise ConfigurationError(
            f"{path} rates windows of {rater.sequence_length} tokens, the study has {length}: set"
            f" SEQUENCE_LENGTH = {rater.sequence_length}, or meta-train a rater for it."
        )
    if tokenizer is not None and rater.metadata["tokenizer"] != tokenizer.config():
        raise ConfigurationError(
            f"{path} has the tokenizer {rater.metadata['tokenizer']}, the study"
            f" {tokenizer.config()}: the same ids would mean other text. Give both the same."
        )
    return rater


def score_train(base_dir: pathlib.Path, rater, train: ExampleSet) -> dict:
    """Scores every window of the train part; writes <base_dir>/scores.npz.

    Returns:
      {"examples", "forward_flops" (of one example), "flops"}.
    """
    shown, parts = Progress("  scoring", len(train), "windows"), []
    for start in range(0, len(train), _ROWS):
        tokens = train.features["tokens"][start : start + _ROWS]
        parts.append(np.asarray(rater.score_tokens(tokens)["score"], np.float64))
        shown.update(min(start + _ROWS, len(train)))
    shown.close()
    write_scores(base_dir, train, np.concatenate(parts))
    forward = flops.scoring_flops(
        lambda batch: rater.score_tokens(batch["tokens"]),
        {"tokens": (train.features["tokens"].shape[1:], np.int32)},
    )
    return {
        "examples": len(train),
        "forward_flops": int(forward),
        "flops": int(forward) * len(train),
    }


def write_scores(base_dir: pathlib.Path, train: ExampleSet, scores: np.ndarray) -> None:
    """Writes the scores [N] of a study's train part, and what they belong to."""
    arrays = {"scores": scores, **_belongs_to(train)}
    whole_files.write_arrays(pathlib.Path(base_dir) / "scores.npz", arrays)


def read_scores(base_dir, train: ExampleSet | None = None) -> tuple[np.ndarray | None, np.ndarray]:
    """Ids and scores [N] of a study's train part; no ids where it is of a prepared corpus.

    Raises:
      CheckpointError: there are none, the file is damaged, or they are of other examples than
        `train` holds.
    """
    path = pathlib.Path(base_dir) / "scores.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            known = {name: stored[name] for name in stored.files if name != "scores"}
            scores = stored["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it and the folder stages, and call again."
        ) from error
    if train is not None:
        now = _belongs_to(train)
        if known.keys() != now.keys() or not all(np.array_equal(known[k], now[k]) for k in now):
            raise CheckpointError(f"{path} is of other data: remove it and stages/.")
    return known.get("ids"), scores


def _belongs_to(train: ExampleSet) -> dict[str, np.ndarray]:
    """What says of scores which examples they are of."""
    if isinstance(train.ids, Column):
        return {"train": np.array(train.fingerprint)}
    return {"ids": train.ids.astype(str)}


def scores_fingerprint(scores: np.ndarray) -> str:
    """Hex SHA-256 of scores."""
    return hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest()
