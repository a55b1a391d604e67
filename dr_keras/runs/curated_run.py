"""One training of a model beside which a rater learns, in a run folder.

<base_dir>/parsed_config.gin        bindings: a run resumes only with its own settings
<base_dir>/operative_config-0.gin   all values in use, defaults included
<base_dir>/metrics.jsonl            {"step", "loss", "val_loss", "kept/<source>", ...} by epoch
<base_dir>/summaries/               the same for TensorBoard
<base_dir>/backup/                  what going on needs, while it is not done
<base_dir>/final.weights.h5         the model's Keras weights after the last step
<base_dir>/rater.weights.h5         the rater's
<base_dir>/export/1/                the rater as any other, unless it reads the model's state
<base_dir>/record.json              CuratedRecord; written last, its presence means done
"""

from collections.abc import Callable, Sequence
import dataclasses
import json
import logging
import math
import os
import pathlib
import time

import keras

from dr_keras.config.configuration import check_same_config, parsed_config, write_operative_config
from dr_keras.errors import CheckpointError, ConfigurationError, NonFiniteError
from dr_keras.meta.checkpoints import save_weights
from dr_keras.meta.checks import at_least
from dr_keras.meta.optimizers import InnerOptimizer, OuterAdam, adam, cosine_rate
from dr_keras.meta.seeds import derive_seed, seeded
from dr_keras.models.inner_state import OF_MEMBER
from dr_keras.models.rater_scores import state_read
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.samples import whole_documents
from dr_keras.system import locks, whole_files
from dr_keras.training.curated.costs import step_flops
from dr_keras.training.curated.model import CuratedModel
import gin

_REFERENCE_SIZE = 20_000  # about so many examples make the exported rater's reference distribution
_LARGEST_EXECUTION = 25

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CuratedRecord:
    """What a run leaves behind, all of it JSON.

    Attributes:
      steps: updates of the model.
      meta_steps: of the rater.
      batch_size, oversized: examples trained on and examples scored, a step.
      meta_every: steps between two meta-steps, None without any.
      flops: operations of the run by part, "training", "scoring", "meta" and "total".
      validation_loss, test_loss: of the model at the end.
      rater: path of the exported one, None where it was not exported.
      seconds: wall time of the last call, compilation included.
    """

    steps: int
    meta_steps: int
    batch_size: int
    oversized: int
    meta_every: int | None
    flops: dict[str, float]
    validation_loss: float
    test_loss: float
    rater: str | None
    seconds: float


@gin.configurable(denylist=["base_dir", "setup", "callbacks"])
@locks.alone_at("base_dir", "curated training", CheckpointError)
def train_curated(
    base_dir,
    setup: Experiment | None = None,
    steps: int = 1000,
    steps_per_epoch: int = 50,
    flops: float | None = None,
    optimizer: Callable[..., InnerOptimizer] = adam,
    learning_rate: float = 3e-3,
    warmup_steps: int | None = None,
    final_learning_rate_share: float = 0.1,
    outer_optimizer: OuterAdam | None = None,
    steps_per_execution: int | None = None,
    jit_compile: bool = True,
    validation_size: int = 512,
    test_size: int = 1024,
    export: bool = True,
    seed: int = 0,
    verbose: int = 0,
    callbacks: Sequence[keras.callbacks.Callback] = (),
) -> CuratedRecord:
    """Trains the experiment's inner model on what its rater keeps, and the rater beside it.

    `CuratedModel` has the rest of the settings. A run that was stopped goes on at the last epoch
    that was whole, and equals one that never stopped; one that is done is read, not repeated.

    Args:
      base_dir: the run folder.
      setup: the experiment; built from gin when None. Its outer sets are held out, and where its
        rater comes from, a frozen one is.
      steps: updates of the model.
      steps_per_epoch: updates between two looks at the validation part; `steps` are whole epochs.
      flops: what the run may cost, in operations, in place of `steps`: as many epochs as that buys,
        scoring and meta-steps counted, looks at validation and test part not.
      optimizer: from a learning rate to an inner optimizer.
      learning_rate: peak; linear warm-up over `warmup_steps` (None: a twentieth of the steps), then
        a cosine to `final_learning_rate_share` of it.
      outer_optimizer: of the rater.
      steps_per_execution, jit_compile: as Keras has them; None: the largest divisor of an epoch up
        to 25.
      validation_size, test_size: examples, evenly spread.
      export: whether the rater is exported at the end; its weights are written in any case.
      seed: of initial weights and the order of batches; the rater's weights are the experiment's.
      verbose: as Keras has it.
      callbacks: further ones; when they hear of an epoch, what going on needs is written.

    Raises:
      ConfigurationError: settings that do not fit together; `base_dir` holds a run with others.
      CheckpointError: the record is damaged, or another process trains there.
      DataError: the data cannot be used.
      NonFiniteError: the loss became NaN or infinite.
    """
    base_dir = pathlib.Path(base_dir)
    check_same_config(base_dir)
    if (base_dir / "record.json").exists():
        return read_record(base_dir)
    at_least("train_curated.steps_per_epoch", steps_per_epoch, 1)
    setup = setup or experiment()
    if setup.fitted is not None:
        raise ConfigurationError(
            "train_curated fits no rater first: fit it by dr-keras fit-rater, and name what that"
            " exported as experiment.initial_rater."
        )
    parts = setup.parts
    with seeded(derive_seed(seed, "curated")):
        model = setup.inner_model()
    curated = CuratedModel(
        model, setup.rater, parts.outer_sets, reference=setup.reference, seed=seed
    )
    cost = step_flops(curated, parts.train.features, setup.reference)
    if flops is not None:
        steps = int(flops / cost.total)
    epochs = steps // steps_per_epoch
    if epochs < 1:
        given = f"steps is {steps}" if flops is None else f"flops is {flops:g}, {steps} steps"
        raise ConfigurationError(
            f"train_curated.{given}, which makes {epochs} epochs of {steps_per_epoch} steps (a step"
            f" costs {cost.total:.4g} operations): raise it, or lower steps_per_epoch."
        )
    steps = epochs * steps_per_epoch
    warmup = steps // 20 if warmup_steps is None else warmup_steps
    schedule = cosine_rate(learning_rate, steps, warmup, final_learning_rate_share)
    if steps_per_execution is None:
        steps_per_execution = next(
            n for n in range(_LARGEST_EXECUTION, 0, -1) if steps_per_epoch % n == 0
        )
    curated.compile(
        optimizer(learning_rate=schedule),
        setup.per_example_loss,
        outer_optimizer,
        steps_per_execution=steps_per_execution,
        jit_compile=jit_compile,
    )
    write_operative_config(base_dir, 0)
    validation = parts.validation.thinned(validation_size)
    started = time.monotonic()
    kept = [
        _Lines(base_dir, steps_per_epoch),
        keras.callbacks.TensorBoard(str(base_dir / "summaries"), write_graph=False),
        keras.callbacks.BackupAndRestore(str(base_dir / "backup"), double_checkpoint=True),
    ]
    curated.fit(
        parts.train,
        epochs=epochs,
        steps_per_epoch=steps_per_epoch,
        validation_data=validation,
        callbacks=[*kept, *callbacks],
        verbose=verbose,
    )
    save_weights(model, os.fspath(base_dir / "final.weights.h5"))
    save_weights(setup.rater, os.fspath(base_dir / "rater.weights.h5"))
    by_part = {name: steps * value for name, value in cost._asdict().items()}
    record = CuratedRecord(
        steps=curated.updates,
        meta_steps=curated.meta_steps,
        batch_size=curated.choice.size,
        oversized=curated.oversized,
        meta_every=curated.meta_every,
        flops=by_part | {"total": steps * cost.total},
        validation_loss=_loss(curated, validation),
        test_loss=_loss(curated, parts.test.thinned(test_size)),
        rater=_exported(base_dir, setup, curated) if export else None,
        seconds=time.monotonic() - started,
    )
    text = json.dumps(dataclasses.asdict(record), indent=1) + "\n"
    whole_files.write_text(base_dir / "record.json", text)
    return record


def read_lines(base_dir) -> list[dict[str, float]]:
    """The lines of a run's metrics.jsonl."""
    path = pathlib.Path(base_dir) / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_record(base_dir) -> CuratedRecord:
    """What a run that is done left behind; CheckpointError where that is damaged."""
    path = pathlib.Path(base_dir) / "record.json"
    try:
        return CuratedRecord(**json.loads(path.read_text(encoding="utf-8")))
    except (UnicodeDecodeError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): delete it to train again") from error


class _Lines(keras.callbacks.Callback):
    """Writes metrics.jsonl, and ends a training whose loss is not finite."""

    def __init__(self, base_dir: pathlib.Path, steps_per_epoch: int):
        super().__init__()
        self.base_dir, self.every = base_dir, steps_per_epoch

    def on_epoch_end(self, epoch, logs=None):
        step = (epoch + 1) * self.every
        figures = {name: float(value) for name, value in (logs or {}).items()}
        for name in ("loss", "val_loss"):
            if not math.isfinite(figures[name]):
                raise NonFiniteError(
                    f"{name} is {figures[name]} at step {step}: lower train_curated.learning_rate,"
                    " or set the optimizer's clip_norm."
                )
        before = []  # a run that was stopped writes its last epoch again
        if (self.base_dir / "metrics.jsonl").exists():
            before = [line for line in read_lines(self.base_dir) if line["step"] < step]
        lines = [json.dumps(line) + "\n" for line in [*before, {"step": step, **figures}]]
        whole_files.write_text(self.base_dir / "metrics.jsonl", "".join(lines))


def _loss(curated: CuratedModel, examples) -> float:
    data = curated.validation(examples)
    return float(curated.evaluate(data, verbose=0, return_dict=True)["loss"])


def _exported(base_dir: pathlib.Path, setup: Experiment, curated: CuratedModel) -> str | None:
    """Exports the rater; None, and a line in the log, for one that reads the model's state."""
    read = state_read(setup.rater, setup.parts.train.features)
    if of_model := [name for name in read if name in OF_MEMBER]:
        _logger.info("The rater reads %s of the model, and is not exported.", ", ".join(of_model))
        return None
    sample = whole_documents(setup.parts.train, _REFERENCE_SIZE)
    known = {
        "meta_step": curated.meta_steps,
        "chosen": f"learned beside one training of {curated.updates} steps",
        "gin_config": parsed_config(),
        "data_fingerprint": setup.parts.fingerprint,
    }
    further = {"reference_loss": setup.reference_loss} if "reference_loss" in read else {}
    scores = setup.scorer()(sample)
    directory = str(base_dir / "export")
    return setup.exporter(setup.rater, sample, scores, directory, known, **further)
