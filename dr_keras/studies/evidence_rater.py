"""The rater of an evidence study, meta-trained in its folder or given; its scores and cost.

<base_dir>/rater/             a run of meta_train, with its export/, where none was given
<base_dir>/scores.npz         ids and scores of the train part
"""

import hashlib
import inspect
import io
import pathlib

import numpy as np

from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.data.tokenizers import Tokenizer
from dr_keras.errors import ConfigurationError
from dr_keras.meta.callbacks import read_metrics
from dr_keras.meta.estimators import told, untold
from dr_keras.meta.trainer import MetaTrainer
from dr_keras.rating.fractions import oversized_batch
from dr_keras.runs.experiment import Experiment, experiment
from dr_keras.runs.export import export_run
from dr_keras.runs.meta_training import meta_train
from dr_keras.serving.loading import load_rater
from dr_keras.system import whole_files
from dr_keras.system.progress import Progress
from dr_keras.training import flops
from dr_keras.training.meta_evaluation import MetaEvaluation
import gin

FOLDER = "rater"
_ROWS = 1024


def train_rater(base_dir: pathlib.Path, parts: Parts) -> dict:
    """Meta-trains in <base_dir>/rater and exports the best checkpoint.

    Returns:
      {"path" (from base_dir), "flops": `meta_flops`}.
    """
    run = pathlib.Path(base_dir) / FOLDER
    setup = experiment(data=lambda: parts)
    trainer = meta_train(run, setup)
    path = pathlib.Path(export_run(run, "best", setup))
    return {"path": path.relative_to(base_dir).as_posix(), "flops": meta_flops(run, setup, trainer)}


def meta_flops(run: pathlib.Path, setup: Experiment, trainer: MetaTrainer) -> dict:
    """Operations of a run's meta-training and of its meta-evaluations, by formula.

    Returns:
      {"inner_models", "rater", "meta_evaluation", "total"}; or {"total": None, "reason"} where
      the models' products cannot be counted, or the estimator does not say its cost.
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
    member_steps = int(trainer.meta_step.numpy()) * trainer.population.size
    size = flops.MetaTrainingSize.of(trainer, member_steps)
    found = flops.meta_training_flops(inner, rater, passes, size)
    settings = {
        name: parameter.default
        for name, parameter in inspect.signature(MetaEvaluation).parameters.items()
    } | gin.get_bindings(MetaEvaluation, resolve_references=False)
    epochs = read_metrics(run, "epoch")
    evaluations = sum(epoch.get("validation_loss") is not None for epoch in epochs)
    # The random choice is trained once, by the same code: scores are computed for it, too.
    evaluations += any(epoch.get("random_validation_loss") is not None for epoch in epochs)
    batch_size, updates = settings["batch_size"], settings["updates"]
    oversized = oversized_batch(batch_size, settings["discard_fraction"])
    validation = min(settings["validation_size"], len(setup.parts.validation))
    one = updates * (3 * inner * batch_size + rater * oversized) + inner * validation
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
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=train.ids.astype(str), scores=np.concatenate(parts))
    whole_files.write_bytes(pathlib.Path(base_dir) / "scores.npz", buffer.getvalue())
    forward = flops.scoring_flops(
        lambda batch: rater.score_tokens(batch["tokens"]),
        {"tokens": (train.features["tokens"].shape[1:], np.int32)},
    )
    return {
        "examples": len(train),
        "forward_flops": int(forward),
        "flops": int(forward) * len(train),
    }


def scores_fingerprint(scores: np.ndarray) -> str:
    """Hex SHA-256 of scores."""
    return hashlib.sha256(np.ascontiguousarray(scores).tobytes()).hexdigest()
