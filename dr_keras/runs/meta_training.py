"""The meta-training run: an experiment, a trainer, and everything that is written to base_dir.

<base_dir>/run.json                     data fingerprint: a run resumes only on its own data
<base_dir>/parsed_config.gin            bindings: a run resumes only with its own settings
<base_dir>/operative_config-<step>.gin  all values in use, defaults included
<base_dir>/metrics.jsonl                see dr_keras.meta.callbacks
<base_dir>/judgement.json               see dr_keras.runs.judgement
<base_dir>/checkpoints/                 see dr_keras.meta.checkpoints
<base_dir>/fitted/                      see dr_keras.runs.fitting; of a rater that was fitted first
<base_dir>/summaries/meta_train/        TensorBoard
<base_dir>/export/<version>/            see dr_keras.serving
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
import contextlib
import json
import pathlib
import sys

import keras
import tensorflow as tf

from dr_keras.config import configuration
from dr_keras.data.examples import document_ids
from dr_keras.errors import CheckpointError, ConfigurationError, NonFiniteError, WorkerLostError
from dr_keras.meta.callbacks import MetricsFile, ScoreHealth, ShowProgress, Summaries, read_metrics
from dr_keras.meta.checkpoints import Checkpoints, load_rater_weights, rater_steps
from dr_keras.meta.checks import at_least
from dr_keras.meta.devices import strategies
from dr_keras.meta.devices.placement import OneDevice
from dr_keras.meta.devices.strategies import placement_of
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.models.model_parts import share_trained
from dr_keras.runs.experiment import Experiment, experiment, experiment_of_run
from dr_keras.runs.fit_records import FOLDER, told
from dr_keras.runs.judgement import judge, read_judgement
from dr_keras.runs.verdict import Judgement, highest, in_short
from dr_keras.system import locks, whole_files
from dr_keras.training.paired_gain import PairedGain, paired_gain
import gin

# A run may be given more meta-steps, another judgement and other devices, and a study that it is
# part of other worker processes; a prepared corpus may have moved, its fingerprint says whether it
# is the same. All else would make it another run.
# Who trains the models of a study, and where: what any call may change.
TRAINED_BY = (
    "Workers.count",
    *(f"Elsewhere.{name}" for name in ("folder", "device", "precision", "above")),
)
MAY_DIFFER = (
    "META_STEPS",
    "meta_train.meta_steps",
    "meta_train.judged",
    "judge.repeats",
    "judge.updates",
    "judge.batch_size",
    "judge.discard_fraction",
    "judge.validation_size",
    "judge.seed",
    "prepared_data.path",
    "prepared_data.local_dir",
    "prepared_data.verify",
    *TRAINED_BY,
    *strategies.BINDINGS,
)


@gin.configurable(denylist=["base_dir", "setup", "callbacks"])
def meta_train(
    base_dir,
    setup: Experiment | None = None,
    meta_steps: int = gin.REQUIRED,
    steps_per_epoch: int = 50,
    evaluate: bool = True,
    judged: bool = True,
    strategy: OneDevice | tf.distribute.Strategy | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    callback_fns: Sequence[Callable[[pathlib.Path, Experiment], keras.callbacks.Callback]] = (),
) -> MetaTrainer:
    """Meta-trains a rater in `base_dir`, from where an earlier call with the same setup stopped.

    Args:
      base_dir: the run directory; made if missing.
      setup: the experiment; built from gin when None.
      meta_steps: total number of meta-steps (the paper: 8,000 to its checkpoint); 0, of a rater
        that is fitted, judges and keeps the fit alone, and a later call may go on from there.
      steps_per_epoch: meta-steps between meta-evaluations, checkpoints and heavy summaries.
      evaluate: run the meta-evaluation at every epoch's end; of several workers the chief does.
      judged: judge the best rater at the end (`dr_keras.runs.judgement`), so that the run says
        whether to filter at all; not without meta-evaluations.
      strategy: where members live, see `dr_keras.meta.devices.strategies`; None: one device.
        With several workers only the chief writes metrics and summaries.
      callbacks: further Keras callbacks.
      callback_fns: build further callbacks of (base_dir, setup), as gin files name them. They are
        called first, so that what they add to an epoch's logs is in metrics.jsonl too. Of
        several workers, the chief alone has them.

    Returns:
      The trainer, with the rater of the last meta-step.

    Raises:
      ConfigurationError: bad settings, or base_dir holds a run with others.
      CheckpointError: a damaged checkpoint, other data than the run began with, or another process
        that trains in base_dir.
      NonFiniteError: a loss or meta-gradient is not finite and on_nonfinite is "stop".
      WorkerLostError: another worker does not answer any more.
    """
    strategy = placement_of(strategy)
    at_least("meta_train.meta_steps", meta_steps, 0)
    base_dir = pathlib.Path(base_dir)
    if base_dir.exists() and not base_dir.is_dir():
        raise CheckpointError(f"base_dir {base_dir} is a file: name a directory.")
    with contextlib.ExitStack() as stack:
        if strategy.is_chief:  # of several workers of one run
            stack.enter_context(locks.alone(base_dir, "meta-training", CheckpointError))
        return _meta_train(
            base_dir,
            setup,
            meta_steps,
            steps_per_epoch,
            evaluate,
            judged,
            strategy,
            callbacks,
            callback_fns,
        )


def _meta_train(
    base_dir,
    setup,
    meta_steps,
    steps_per_epoch,
    evaluate,
    judged,
    strategy,
    callbacks,
    callback_fns,
) -> MetaTrainer:
    """`meta_train`, where nobody else writes to the run."""
    if strategy.is_chief:
        configuration.check_same_config(base_dir, may_differ=MAY_DIFFER)
    setup = setup or experiment()
    at_least("meta_train.meta_steps", meta_steps, 0 if setup.fitted else 1)
    if strategy.is_chief:
        check_same_data(base_dir, setup.parts.fingerprint)
    trainer = MetaTrainer(
        setup.rater,
        setup.inner_model,
        setup.per_example_loss,
        reference=setup.reference,
        strategy=strategy,
    )
    check_objectives(trainer.problem.objective, setup.parts.outer_sets)
    checkpoints = Checkpoints(base_dir)
    checkpoints.set_trainer(trainer)
    if strategy.is_chief:
        checkpoints.remove_leftovers()
    restored = checkpoints.restore()
    step = restored or 0
    if setup.fitted is not None and step == 0:
        _fit(base_dir, setup, trainer.placement)
    validate = setup.meta_evaluation().beside_random if evaluate else None
    writing = []
    if strategy.is_chief:
        if restored is None:
            (base_dir / "metrics.jsonl").unlink(missing_ok=True)  # of a run that kept no checkpoint
        summaries = Summaries(base_dir, setup.parts.train)
        configuration.write_operative_config(base_dir, step)
        summaries.write_text("operative_config", f"```\n{configuration.operative_config()}\n```")
        building = (build(base_dir, setup) for build in callback_fns)
        writing = [*building, ScoreHealth(), MetricsFile(base_dir), ShowProgress()]
        if share := share_trained(trainer.inner_model):
            print(f"inner model: {share}", file=sys.stderr)
    try:
        trainer.fit(
            setup.parts.train,
            setup.parts.outer_sets,
            meta_steps,
            steps_per_epoch,
            [*writing, checkpoints, *([summaries] if strategy.is_chief else []), *callbacks],
            validate,
            validate_first=setup.fitted is not None and restored is None,
        )
    except (NonFiniteError, WorkerLostError) as error:
        known = rater_steps(base_dir)
        last = f"checkpoint in {base_dir}: {f'meta-step {known[-1]}' if known else 'none yet'}"
        if isinstance(error, NonFiniteError):
            raise NonFiniteError(f"{error} Last good {last}.") from error
        raise WorkerLostError(
            f"{error} Last {last}; the same command on every worker goes on from there, with as"
            " many workers or under another strategy."
        ) from error
    if judged and evaluate:
        trainer.placement.from_chief(lambda: _judge(base_dir, setup))
    return trainer


def _judge(base_dir: pathlib.Path, setup: Experiment) -> dict[str, float]:
    """Judges the best raters; what the other workers are told, which wait for it."""
    if raters := best_raters(base_dir):
        judge(setup, raters, base_dir)
    return {}


def _fit(base_dir: pathlib.Path, setup: Experiment, placement: OneDevice) -> None:
    """Gives the rater the weights of its fit, which the chief makes where there is none yet."""

    def fit() -> dict[str, float]:
        folder = base_dir / FOLDER
        record = setup.fitted.fit(
            setup.rater, setup.parts, folder, setup.reference_loss, setup.rater_fn
        )
        if placement.is_chief:
            print(told(record), file=sys.stderr)
        return {}

    placement.from_chief(fit)
    if not placement.is_chief:
        fit()


def meta_evaluate(
    base_dir, steps: Sequence[int] | None = None, setup: Experiment | None = None
) -> Iterator[tuple[int | None, list[float], PairedGain | None]]:
    """Judges the kept raters of a run, beside a random choice, as `MetaEvaluation` is configured.

    Args:
      base_dir: a run of meta_train; nothing is written there.
      steps: the raters' meta-steps; None for all that are kept.
      setup: the run's experiment; built from gin when None. Its rater's weights are changed.

    Yields:
      (None, losses, None) of the random choice, then (meta-step, losses, gain) of each rater:
      validation losses of `MetaEvaluation.repeats` trainings, the k-th of all from the same weights
      and batches, and what the rater gains on the random choice by these pairs.

    Raises:
      CheckpointError: the run has no such rater, or was made on other data.
    """
    steps = [choose_step(base_dir, str(step))[0] for step in steps or rater_steps(base_dir)]
    if not steps:
        choose_step(base_dir)  # raises: there is none
    setup = setup or experiment_of_run()
    check_same_data(base_dir, setup.parts.fingerprint)
    evaluation = setup.meta_evaluation()
    chance, counts = evaluation.all_row_losses(use_scores=False)
    yield None, (chance.sum(axis=1) / counts.sum()).tolist(), None
    owners = document_ids(evaluation.validation)
    for step in steps:
        load_rater_weights(setup.rater, base_dir, step)
        sums, counts = evaluation.all_row_losses()
        gain = paired_gain(chance, sums, counts, owners, len(steps))
        yield step, (sums.sum(axis=1) / counts.sum()).tolist(), gain


def check_objectives(objective: Callable | Mapping[str, Callable], sets: Iterable[str]) -> None:
    """Raises ConfigurationError where there is an objective for a held-out set that is not there.

    One that is misspelt would leave its set with the loss of the inner model.
    """
    known = sorted(sets)
    named = objective if isinstance(objective, Mapping) else {}
    if unknown := [name for name in named if name not in known]:
        raise ConfigurationError(
            f"MetaTrainer.objective has {unknown[0]!r}, and the held-out sets are"
            f" {', '.join(known)}: name one of these, or add the set (text_data.outer,"
            " experiment.outer_sets)."
        )


def check_same_data(base_dir: pathlib.Path, fingerprint: str) -> None:
    """Records the data's fingerprint in run.json, or compares it with the recorded one.

    Raises:
      CheckpointError: the run began on other data; its streams would not go on where they were.
    """
    path = pathlib.Path(base_dir) / "run.json"
    if path.exists():
        known = json.loads(path.read_text(encoding="utf-8"))["data_fingerprint"]
        if known != fingerprint:
            raise CheckpointError(
                f"{base_dir} holds a run on other data (fingerprint {known[:12]}, now"
                f" {fingerprint[:12]}): give back the corpus it began with, or name a new base_dir."
            )
        return
    whole_files.write_text(path, json.dumps({"data_fingerprint": fingerprint}) + "\n")


def evaluated_steps(base_dir) -> list[tuple[int, float]]:
    """(meta-step, validation loss) of every meta-evaluation whose rater is kept, ascending."""
    return [(r["meta_step"], r["validation_loss"]) for r in _meta_evaluations(base_dir)]


def _meta_evaluations(base_dir) -> list[dict]:
    kept = set(rater_steps(base_dir))
    return [
        record
        for record in read_metrics(base_dir, "epoch")
        if record.get("validation_loss") is not None and record["meta_step"] in kept
    ]


def best_raters(base_dir) -> dict[str, tuple[pathlib.Path, int]]:
    """Which raters of a run are worth judging: name -> (run, meta-step).

    "rater", the one of the best meta-evaluation. Where the run went on from a fitted rater, whose
    meta-step is 0: "fitted", and "refined", the best of what came after it.
    """
    run, evaluated = pathlib.Path(base_dir), _meta_evaluations(base_dir)
    if not evaluated:
        return {}
    later = [record for record in evaluated if record["meta_step"]]
    fitted = {} if len(later) == len(evaluated) else {"fitted": (run, 0)}
    if not later:
        return fitted
    return fitted | {"refined" if fitted else "rater": (run, _best(later)["meta_step"])}


def _best(evaluations: Sequence[dict]) -> dict:
    return min(evaluations, key=lambda record: record["validation_loss"])


def judgement_of(base_dir) -> Judgement | None:
    """The judgement of a run's best raters; None where there is none, or of earlier ones."""
    found = read_judgement(base_dir)
    if found is None:
        return None
    own = {rater.step for rater in found.raters if rater.run == "."}
    best = {step for _, step in best_raters(base_dir).values()}
    return found if best <= own else None


def choose_step(base_dir, checkpoint: str = "best") -> tuple[int, str]:
    """The meta-step that "best", "latest" or a number means, and why.

    "best" is the rater on whose selection a fresh model reached the lowest loss on the validation
    part, of those that were judged the one that gains most; without any meta-evaluation it is the
    latest, and the reason says so. It also says what a random choice reached, and whether the rater
    is no better.

    Raises:
      CheckpointError: the run has no such rater.
    """
    steps = rater_steps(base_dir)
    if not steps:
        raise CheckpointError(
            f"{base_dir} has no checkpoint of a rater: run meta_train there first."
        )
    if checkpoint == "latest":
        return steps[-1], "the latest"
    if checkpoint == "best":
        return _best_step(base_dir, steps)
    if not str(checkpoint).isdigit() or int(checkpoint) not in steps:
        raise CheckpointError(
            f"--checkpoint={checkpoint}: use best, latest, or one of {', '.join(map(str, steps))}."
        )
    return int(checkpoint), "named by the user"


def _best_step(base_dir, steps: Sequence[int]) -> tuple[int, str]:
    evaluated = _meta_evaluations(base_dir)
    if not evaluated:
        return steps[-1], "the latest; the run has no meta-evaluation"
    best, judgement = _best(evaluated), judgement_of(base_dir)
    judged = None
    if judgement:
        judged = highest(rater for rater in judgement.raters if rater.run == ".")
        best = next(record for record in evaluated if record["meta_step"] == judged.step)
    loss, chance = best["validation_loss"], best.get("random_validation_loss")
    reached = f"{loss:.4f}"
    if chance is not None:
        reached += f"; a random choice reaches {chance:.4f}"
        if judged is None and loss >= chance:
            reached += ", which NO rater of this run does better than"
    lowest = (
        "lowest validation loss" if best is _best(evaluated) else "judged best, validation loss"
    )
    reason = f"{lowest} of {len(evaluated)} meta-evaluations ({reached})"
    if judged is not None:
        reason += f"; {in_short(judged, judgement)}"
    return best["meta_step"], reason
