"""The rater of a study, meta-trained for it or given; its scores and cost.

<run>/export/<version>/       of a run of meta_train: the study's folder, or one in it
<base_dir>/scores.npz         ids and scores of the train part
"""

import dataclasses
import hashlib
import io
import pathlib
import zipfile

import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.estimators import told, untold
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.runs.experiment import Experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import choose_step, meta_train
from dr_keras.serving.loading import load_rater
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training import flops
from dr_keras.training.meta_evaluation import bound_settings, training_flops

_ROWS = 1024


def trained(run: pathlib.Path, setup: Experiment, count_flops: bool = False) -> dict:
    """Meta-trains in `run`; {"meta_steps", "nonfinite"}, and "flops" (`meta_flops`) on demand."""
    trainer = meta_train(run, setup)
    found = {
        "meta_steps": int(trainer.meta_step.numpy()),
        "nonfinite": int(trainer.nonfinite_count.numpy()),
    }
    return found | ({"flops": meta_flops(run, setup, trainer)} if count_flops else {})


def exported(base_dir: pathlib.Path, run: pathlib.Path, setup: Experiment) -> dict:
    """Exports the best checkpoint; {"path" (from base_dir), "meta_step", "chosen"}."""
    step, reason = choose_step(run)
    path = pathlib.Path(export_run(run, "best", setup))
    return {"path": path.relative_to(base_dir).as_posix(), "meta_step": step, "chosen": reason}


def meta_flops(run: pathlib.Path, setup: Experiment, trainer: MetaTrainer) -> dict:
    """Operations of a run's meta-training and of its meta-evaluations, by formula.

    Returns:
      {"inner_models", "rater", "meta_evaluation", "total"}; or {"total": None, "reason"} where
      the models' products cannot be counted, the estimator does not say its cost, or a held-out
      set has features of its own.
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
    """Writes the scores [N] of a study's train part, with the ids that they belong to."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=train.ids.astype(str), scores=scores)
    whole_files.write_bytes(pathlib.Path(base_dir) / "scores.npz", buffer.getvalue())


def read_scores(base_dir, train: ExampleSet | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Ids and scores [N] of a study's train part.

    Raises:
      CheckpointError: there are none, the file is damaged, or they are of other examples than
        `train` holds.
    """
    path = pathlib.Path(base_dir) / "scores.npz"
    try:
        with np.load(path, allow_pickle=False) as stored:
            ids, scores = stored["ids"], stored["scores"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it and the folder stages, and call again."
        ) from error
    if train is not None and not np.array_equal(ids, train.ids.astype(str)):
        raise CheckpointError(f"{path} is of other data: remove it and stages/.")
    return ids, scores


def scores_fingerprint(scores: np.ndarray) -> str:
    """Hex SHA-256 of scores."""
    return hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest()
