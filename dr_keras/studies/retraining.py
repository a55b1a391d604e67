"""The retraining study: does a model trained without the lowest-rated examples do better?

    <base_dir>/                     a run of meta_train (see dr_keras.runs.meta_training)
    <base_dir>/export/<version>/    the rater
    <base_dir>/scores.npz           ids and scores of the train part
    <base_dir>/cells/               one training run of one arm and seed each
    <base_dir>/stages/              what is done, its time and memory
    <base_dir>/results.json, report.html

Arms: everything; without the lowest-rated share f, for several f; without a random share f. Every
stage resumes or is reused by a later call with the same configuration. Nothing here knows what kind
of data it is; images add their pictures (`report.images`).
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
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import MAY_DIFFER, choose_step, meta_train
from dr_keras.serving.metadata import read as read_metadata
from dr_keras.studies import findings, summaries, verdicts
from dr_keras.studies.cells import run_cell
from dr_keras.studies.results import Line, Picture, Rater, Results, read, to_json
from dr_keras.studies.sizes import Dropped, Protocol, Size, SizeFacts
from dr_keras.studies.stages import Stages
from dr_keras.studies.summaries import ArmFacts
from dr_keras.system import locks, whole_files
from dr_keras.training.example_training import ExampleTrainer
import gin

REFERENCE = "unfiltered"


@gin.configurable(denylist=["base_dir", "say", "write_report"])
@locks.alone_at("base_dir", "a retraining study", CheckpointError)
def retraining_study(
    base_dir,
    discard_fractions: Sequence[float] = (0.1, 0.25, 0.5),
    candidate: float = 0.5,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    metric: str = "accuracy",
    higher_is_better: bool = True,
    title: str = "Retraining without the lowest-rated examples",
    measure: Callable[..., tuple[Line, list[Picture]]] | None = None,
    write_report: Callable[[Results, pathlib.Path], None] | None = None,
    say=print,
) -> Results:
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
        how scores follow damage of known level, and pictures of the data, such as
        @image_pictures. None leaves them out.
      write_report: writes <base_dir>/report.html from the results; None leaves it out.
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
    chosen, rival = arm_name("rater", candidate), arm_name("random", candidate)
    protocol = Protocol(
        reference=REFERENCE,
        candidate=chosen,
        baselines=[rival],
        seeds=list(seeds),
        metric=metric,
        higher_is_better=higher_is_better,
    )
    retrained = stages.run(
        "retrain", lambda: to_json(_retrain(base_dir, setup(), discard_fractions, protocol))
    )
    ids, scores = read_scores(base_dir)
    train = setup().parts.train
    if len(scores) != len(train) or not np.array_equal(ids, train.ids.astype(str)):
        raise CheckpointError(f"{base_dir}/scores.npz is of other data: remove it and stages/.")
    load_rater_weights(setup().rater, base_dir, exported["meta_step"])
    line, pictures = measure(base_dir, setup(), scores) if measure else (None, [])
    size = read(Size, retrained, "retrain")
    metadata = read_metadata(str(base_dir / exported["path"]))
    levels, kinds = findings.levels_and_kinds(train)
    where = f"all {len(scores):,} examples of the train part"
    found = Results.assemble(
        study="retraining",
        title=title,
        answer=verdicts.answer([size], protocol),
        corpus=described,
        rater=Rater(
            metadata["parameters"],
            metadata["fingerprint"],
            findings.quality(scores, levels, kinds, where),
            exported["meta_step"],
            exported["chosen"],
            line=line,
        ),
        protocol=protocol,
        sizes=[size],
        stages=stages.timings(),
        settings={"configuration": run_configuration.PARSED_CONFIG},
        findings=findings.of_scores(scores, train.sources, levels, kinds)
        | findings.of_run(base_dir),
        pictures=pictures,
    )
    found.write(base_dir / "results.json")
    if write_report is not None:
        write_report(found, base_dir / "report.html")
    return found


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


def _retrain(base_dir, setup: Experiment, fractions: Sequence[float], protocol: Protocol) -> Size:
    """Trains every cell."""
    train, test = setup.parts.train, setup.parts.test
    _, scores = read_scores(base_dir)
    trainer = ExampleTrainer()
    if protocol.metric not in trainer.metrics:
        raise ConfigurationError(
            f"retraining_study.metric is {protocol.metric!r}, and ExampleTrainer.metrics has"
            f" {sorted(trainer.metrics)}: add it there."
        )
    cells: dict[str, dict] = {}
    facts: dict[str, ArmFacts] = {}
    for seed in protocol.seeds:  # seed by seed, so that an interrupted study has whole seeds
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
            cells.setdefault(name, {})[seed] = {
                "record": record.to_dict(),
                "discard_fraction": 1 - len(rows) / len(train),
            }
            dropped = _dropped(train, rows) if fraction else None
            facts[name] = ArmFacts(description, dropped=dropped)
    size = SizeFacts(
        name="retraining",
        parameters=trainer.parameters,
        steps=trainer.steps,
        batch_size=trainer.batch_size,
        sequence_length=1,
    )
    return summaries.size_section(size, cells, facts, protocol)


def _dropped(train: ExampleSet, kept: np.ndarray) -> Dropped:
    """How many examples an arm leaves out, and how many of them are known to be bad."""
    dropped = np.ones(len(train), bool)
    dropped[kept] = False
    known = {name: train.labels.get(name) for name in ("corrupted", "mislabelled")}
    counts = {n: int((dropped & v).sum()) for n, v in known.items() if v is not None}
    return Dropped(int(dropped.sum()), **counts)
