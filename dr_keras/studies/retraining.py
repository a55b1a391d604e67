"""The retraining study: does a model trained without the lowest-rated examples do better?

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/scores.npz           ids and scores of the train part
    <base_dir>/cells/               one training run of one arm and seed each
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Arms: everything; without the lowest-rated share f, for several f; without a random share f. Every
stage resumes or is reused by a later call with the same configuration. Nothing here knows what kind
of data it is; pages for images add their pictures (`report.retraining_report`).
"""

from collections.abc import Callable, Sequence
import functools
import io
import pathlib
import zipfile

import numpy as np

from dr_keras.config import run_configuration
from dr_keras.data.examples import ExampleSet
from dr_keras.data.splits import unit_hash
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights
from dr_keras.meta.scoring import Scorer
from dr_keras.rating.fractions import exact_fraction
from dr_keras.report import retraining_report
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import MAY_DIFFER, choose_step, meta_train
from dr_keras.studies import verdict
from dr_keras.studies.cells import run_cell
from dr_keras.studies.comparison import compare, difference
from dr_keras.studies.stages import Stages
from dr_keras.system import locks, whole_files
from dr_keras.training.example_training import ExampleTrainer
import gin

REFERENCE = "unfiltered"


@gin.configurable(denylist=["base_dir", "say"])
@locks.alone_at("base_dir", "a retraining study", CheckpointError)
def retraining_study(
    base_dir,
    discard_fractions: Sequence[float] = (0.1, 0.25, 0.5),
    candidate: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    metric: str = "accuracy",
    higher_is_better: bool = True,
    title: str = "Retraining without the lowest-rated examples",
    measure: Callable | None = None,
    say=print,
) -> dict:
    """Runs all stages in `base_dir`; what is done already is reused.

    Args:
      base_dir: the run directory.
      discard_fractions: shares of the train part to drop, an arm by scores and a random arm each.
      candidate: the one of them that the verdict is about. Name it before looking at results.
      seeds: one training run per arm and seed, of initial weights, batches and random arms.
      metric: of `ExampleTrainer.metrics`, by which arms are compared.
      higher_is_better: whether a larger metric is better.
      title: of the report.
      measure: called with (base_dir, setup, scores of the train part), returns
        `retraining_report.Pictures`: how scores follow damage of known level, and pictures of the
        data, such as @image_pictures. None leaves them out.
      say: prints a line for the user.

    Returns:
      The results as written to results.json.

    Raises:
      ConfigurationError: a setting out of its range.
      CheckpointError: another process works in base_dir.
    """
    _check(discard_fractions, candidate, seeds)
    base_dir = pathlib.Path(base_dir)
    run_configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
    stages = Stages(base_dir, say)
    setup = functools.cache(experiment)
    described = stages.run("data", lambda: _describe(setup()))
    say(f"  {described['parts']['train']['examples']:,} examples to train on")
    stages.run("meta_train", lambda: _meta_train(base_dir, setup()))
    exported = stages.run("export", lambda: _export(base_dir, setup()))
    stages.run("score", lambda: _score(base_dir, setup()))
    comparison = stages.run(
        "retrain",
        lambda: _retrain(
            base_dir, setup(), discard_fractions, candidate, seeds, metric, higher_is_better
        ),
    )
    ids, scores = read_scores(base_dir)
    train = setup().parts.train
    if len(scores) != len(train) or not np.array_equal(ids, train.ids.astype(str)):
        raise CheckpointError(f"{base_dir}/scores.npz is of other data: remove it and stages/.")
    load_rater_weights(setup().rater, base_dir, exported["meta_step"])
    pictures = measure(base_dir, setup(), scores) if measure else retraining_report.Pictures()
    return retraining_report.write(
        base_dir,
        setup(),
        title,
        described,
        exported,
        scores,
        comparison,
        pictures,
        stages.timings(),
        metric,
    )


def _check(discard_fractions, candidate, seeds) -> None:
    for fraction in discard_fractions:
        if exact_fraction(fraction) == 0:
            raise ConfigurationError("discard_fractions holds 0: everything is an arm of its own.")
    if candidate not in discard_fractions:
        raise ConfigurationError(
            f"retraining_study.candidate is {candidate}: it must be one of discard_fractions,"
            f" {list(discard_fractions)}."
        )
    if not seeds:
        raise ConfigurationError("retraining_study.seeds is empty: name at least one seed.")


def _describe(setup: Experiment) -> dict:
    """The `corpus` section of results.json; an example counts as one target."""
    return {
        "name": str(setup.parts.train.corpora[0]),
        "fingerprint": setup.parts.fingerprint,
        "parts": {
            part: {
                "examples": len(examples),
                "unique_tokens": len(examples),
                "by_source": examples.counts_by_source(),
                **_by_damage(examples),
            }
            for part, examples in setup.parts.items()
        },
    }


def _by_damage(examples: ExampleSet) -> dict:
    damage = examples.labels.get("damage")
    if damage is None:
        return {}
    names, counts = np.unique([str(kind) for kind in damage], return_counts=True)
    return {"by_damage": {str(name): int(count) for name, count in zip(names, counts)}}


def _meta_train(base_dir: pathlib.Path, setup: Experiment) -> dict:
    trainer = meta_train(base_dir, setup)
    return {"meta_steps": int(trainer.meta_step.numpy())}


def _export(base_dir: pathlib.Path, setup: Experiment) -> dict:
    step, reason = choose_step(base_dir)
    path = pathlib.Path(export_run(base_dir, str(step), setup))
    return {"path": path.relative_to(base_dir).as_posix(), "meta_step": step, "chosen": reason}


def _score(base_dir: pathlib.Path, setup: Experiment) -> dict:
    step, _ = choose_step(base_dir)
    load_rater_weights(setup.rater, base_dir, step)
    train = setup.parts.train
    scores = Scorer(setup.rater)(train)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=train.ids.astype(str), scores=scores)
    whole_files.write_bytes(base_dir / "scores.npz", buffer.getvalue())
    return {"examples": len(train)}


def read_scores(base_dir) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores [N] of a study's train part.

    Raises:
      CheckpointError: there are none, or the file is damaged.
    """
    path = pathlib.Path(base_dir) / "scores.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            return stored["ids"], stored["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it and the folder stages, and call again."
        ) from error


def arm_name(kind: str, fraction: float) -> str:
    """ "rater 25%": what an arm is called."""
    return f"{kind} {float(100 * exact_fraction(fraction)):g}%"


def kept_rows(scores: np.ndarray, fraction: float) -> np.ndarray:
    """Rows without the lowest-scored share, ascending; of equal scores the earlier is dropped."""
    drop = int(exact_fraction(fraction) * len(scores))
    return np.sort(np.argsort(scores, kind="stable")[drop:])


def random_rows(ids: Sequence[str], fraction: float, seed: int) -> np.ndarray:
    """As many rows, chosen by a hash of (seed, id), ascending."""
    drawn = np.array([unit_hash("random arm", seed, identity) for identity in ids])
    return kept_rows(drawn, fraction)


def _retrain(
    base_dir, setup: Experiment, fractions, candidate, seeds, metric, higher_is_better
) -> dict:
    """Trains every cell; one comparison of results.json, with its verdict."""
    train, test = setup.parts.train, setup.parts.test
    _, scores = read_scores(base_dir)
    trainer = ExampleTrainer()
    if metric not in trainer.metrics:
        raise ConfigurationError(
            f"retraining_study.metric is {metric!r}, and ExampleTrainer.metrics has"
            f" {sorted(trainer.metrics)}: add it there."
        )
    curves: dict[str, dict] = {}
    found: dict[str, dict] = {}
    facts: dict[str, dict] = {}
    for seed in seeds:  # seed by seed, so that an interrupted study has whole seeds
        arms = {REFERENCE: (0.0, "all of the train part", np.arange(len(train)))}
        for fraction in fractions:
            share = arm_name("", fraction).strip()
            arms[arm_name("rater", fraction)] = (
                fraction,
                f"without the lowest-rated {share}",
                kept_rows(scores, fraction),
            )
            arms[arm_name("random", fraction)] = (
                fraction,
                f"without a random {share}, another for each seed",
                random_rows(train.ids, fraction, seed),
            )
        for name, (fraction, description, rows) in arms.items():
            file = name.replace(" ", "-").replace("%", "")
            record = run_cell(base_dir, trainer, file, seed, train.take(rows, name), test)
            curves.setdefault(name, {})[seed] = record.curve
            found.setdefault(name, {})[seed] = record.metrics
            facts[name] = {
                "description": description,
                "examples": len(rows),
                "unique_tokens": record.unique_tokens,
                "tokens_seen": record.tokens_seen,
                "epochs": record.epochs,
                "discard_fraction": 1 - len(rows) / len(train),
                "seconds": record.seconds,
                **({"dropped": _dropped(train, rows)} if fraction else {}),
            }
    arms = compare(curves, facts, REFERENCE)
    for name, by_metric in _metrics(found, metric, higher_is_better).items():
        arms[name]["metrics"] = by_metric
    chosen, rival = arm_name("rater", candidate), arm_name("random", candidate)
    return {
        "name": "retraining",
        "model": {"parameters": trainer.parameters},
        "steps": trainer.steps,
        "batch_size": trainer.batch_size,
        "sequence_length": 1,
        "reference": REFERENCE,
        "candidate": chosen,
        "seeds": [int(seed) for seed in seeds],
        "arms": arms,
        "verdict": verdict.judge_metric(arms, metric, chosen, [REFERENCE, rival]),
    }


def _dropped(train: ExampleSet, kept: np.ndarray) -> dict:
    """How many examples an arm leaves out, and how many of them are known to be bad."""
    dropped = np.ones(len(train), bool)
    dropped[kept] = False
    known = {name: train.labels.get(name) for name in ("corrupted", "mislabelled")}
    return {"examples": int(dropped.sum())} | {
        name: int((dropped & values).sum()) for name, values in known.items() if values is not None
    }


def _metrics(found: dict, metric: str, higher_is_better: bool) -> dict[str, dict]:
    """Arm -> metric -> mean, spread and, of the metric that counts, outcome against the others."""
    summaries: dict[str, dict] = {}
    for arm, by_seed in found.items():
        summaries[arm] = {}
        for name in next(iter(by_seed.values())):
            values = np.array([figures[name] for figures in by_seed.values()])
            spread = float(values.std(ddof=1)) if len(values) > 1 else None
            summaries[arm][name] = {
                "mean": float(values.mean()),
                "spread": spread,
                "by_seed": {str(seed): figures[name] for seed, figures in by_seed.items()},
                **({} if spread is not None else {"reason": "one seed has no spread"}),
            }
    sign = -1 if higher_is_better else 1

    def as_loss(arm: str) -> dict:
        figures = summaries[arm][metric]
        return {"final": {"mean": sign * figures["mean"], "spread": figures["spread"]}}

    for arm in summaries:
        against = {o: difference(as_loss(arm), as_loss(o)) for o in summaries if o != arm}
        for figures in against.values():
            figures["difference"] *= sign
        summaries[arm][metric]["against"] = against
    return summaries
