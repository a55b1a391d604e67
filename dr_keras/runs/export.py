"""Exports the rater of a run: the chosen checkpoint, its reference distribution, its metadata."""

import dataclasses
import pathlib

import numpy as np

from dr_keras.config import configuration
from dr_keras.errors import ConfigurationError
from dr_keras.meta.checkpoints import load_rater_weights
from dr_keras.meta.scoring import reference_losses
from dr_keras.models.rater_scores import reads_by_token, state_read
from dr_keras.runs.experiment import Experiment, experiment_of_run
from dr_keras.runs.held_out import held_out_groups
from dr_keras.runs.meta_training import choose_step, evaluated_steps
from dr_keras.runs.samples import whole_documents
from dr_keras.training.metrics import spearman
import gin

# Where an artefact has the losses from that its rater reads.
REFERENCE_LOSS = ("carried", "input")


@gin.configurable(denylist=["base_dir", "checkpoint", "setup", "directory", "reason"])
def export_run(
    base_dir,
    checkpoint: str = "best",
    setup: Experiment | None = None,
    directory=None,
    reference_size: int = 20_000,
    reference_loss: str = "carried",
    reason: str | None = None,
) -> str:
    """Writes <base_dir>/export/<version>/ and returns its path.

    Args:
      base_dir: a run of meta_train.
      checkpoint: "best" by meta-evaluation on the validation part, "latest", or a meta-step.
      setup: the run's experiment; built from gin when None. Its rater gets the chosen weights,
        its exporter says what kind of artefact it becomes.
      directory: where to export; <base_dir>/export when None.
      reference_size: about so many examples of the train part make the reference distribution.
      reference_loss: of a rater that reads it: "carried", the artefact has the run's reference
        model in it; or "input", it takes the losses as one more feature.
      reason: what the artefact says of why this rater was chosen; None: what `choose_step` says.

    Raises:
      CheckpointError: no such checkpoint, or a damaged one.
      ConfigurationError: the exporter does not fit the rater, or the rater reads what only
        meta-training knows.
    """
    if reference_loss not in REFERENCE_LOSS:
        raise ConfigurationError(
            f"export_run.reference_loss is {reference_loss!r}: it must be one of"
            f" {', '.join(REFERENCE_LOSS)}."
        )
    step, known_reason = choose_step(base_dir, checkpoint)
    setup = setup or experiment_of_run()
    load_rater_weights(setup.rater, base_dir, step)
    sample = whole_documents(setup.parts.train, reference_size)
    further: dict = {}
    known = {
        "meta_step": step,
        "chosen": reason or known_reason,
        "meta_evaluations": evaluated_steps(base_dir),
        "gin_config": configuration.parsed_config(),
        "operative_config": recorded_operative_config(base_dir, step),
        "data_fingerprint": setup.parts.fingerprint,
        "held_out": held_out_groups(setup.parts.outer),
    }
    scores = setup.scorer()(sample)
    if setup.reference_loss and state_read(setup.rater, sample.features):
        losses = reference_losses(setup.reference_loss, sample)
        correlation = spearman(losses, scores)
        known["reference_loss"] = {
            "mean": float(losses.mean()),
            "rank_correlation": None if np.isnan(correlation) else round(correlation, 4),
        }
        if reference_loss == "carried":
            further = {"reference_loss": setup.reference_loss}
        else:
            column = reference_losses(setup.reference_loss, sample, reads_by_token(setup.rater))
            features = {**sample.features, "reference_loss": column}
            sample = dataclasses.replace(sample, features=features)
    directory = str(directory or pathlib.Path(base_dir) / "export")
    return setup.exporter(setup.rater, sample, scores, directory, known, **further)


def recorded_operative_config(base_dir, step: int) -> str:
    """All values, defaults included, that the run had in use when it reached a meta-step.

    A run records them where it starts and where it resumes; a run without any record gives the
    values of this process.
    """
    records = {}
    for path in pathlib.Path(base_dir).glob("operative_config-*.gin"):
        number = path.stem.rpartition("-")[2]
        if number.isdigit() and int(number) <= step:
            records[int(number)] = path
    if not records:
        return configuration.operative_config()
    return records[max(records)].read_text(encoding="utf-8")
