"""Exports the rater of a run: the chosen checkpoint, its reference distribution, its metadata."""

import pathlib

import gin
import numpy as np

from dr_keras import run_configuration
from dr_keras.data.examples import ExampleSet
from dr_keras.data.splits import unit_hash
from dr_keras.errors import ConfigurationError
from dr_keras.evaluation.arms import document_ids
from dr_keras.experiment import Experiment, experiment
from dr_keras.filtering.reference import ReferenceDistribution
from dr_keras.meta.checkpoints import load_rater_weights
from dr_keras.meta.scoring import Scorer
from dr_keras.meta_training import choose_step, evaluated_steps
from dr_keras.serving.export import export_rater


@gin.configurable(denylist=["base_dir", "checkpoint", "setup", "directory"])
def export_run(
    base_dir,
    checkpoint: str = "best",
    setup: Experiment | None = None,
    directory=None,
    reference_size: int = 20_000,
) -> str:
    """Writes <base_dir>/export/<version>/ and returns its path.

    Args:
      base_dir: a run of meta_train.
      checkpoint: "best" by meta-evaluation on the validation part, "latest", or a meta-step.
      setup: the run's experiment; built from gin when None. Its rater gets the chosen weights.
      directory: where to export; <base_dir>/export when None.
      reference_size: about so many examples of the train part make the reference distribution.

    Raises:
      CheckpointError: no such checkpoint, or a damaged one.
      ConfigurationError: the experiment has no tokenizer.
    """
    step, reason = choose_step(base_dir, checkpoint)
    setup = setup or experiment()
    if setup.tokenizer is None:
        raise ConfigurationError(
            "experiment.tokenizer is None: name the tokenizer that made the rater's tokens, as"
            " TOKENIZER = @byte_tokenizer() does."
        )
    load_rater_weights(setup.rater, base_dir, step)
    train = setup.parts.train
    sample = reference_sample(train, reference_size)
    scores = Scorer(setup.rater)(sample)
    return export_rater(
        setup.rater,
        setup.tokenizer,
        int(train.features["tokens"].shape[1]),
        str(directory or pathlib.Path(base_dir) / "export"),
        ReferenceDistribution.from_scores(scores),
        {
            "meta_step": step,
            "chosen": reason,
            "meta_evaluations": evaluated_steps(base_dir),
            "gin_config": run_configuration.parsed_config(),
            "data_fingerprint": setup.parts.fingerprint,
        },
        document_reference=ReferenceDistribution.from_scores(document_scores(sample, scores)),
    )


def reference_sample(examples: ExampleSet, size: int) -> ExampleSet:
    """Whole documents, chosen by a hash of their ids, with about `size` examples in all.

    Whole, because a document whose windows were thinned out would get another mean; by hash, so
    that the order of the corpus does not matter.
    """
    if len(examples) <= size:
        return examples
    owners, index, counts = np.unique(
        document_ids(examples), return_inverse=True, return_counts=True
    )
    order = np.argsort([unit_hash("reference", owner) for owner in owners])
    number = max(1, int(np.searchsorted(np.cumsum(counts[order]), size, side="right")))
    return examples.take(np.flatnonzero(np.isin(index, order[:number])))


def document_scores(examples: ExampleSet, scores: np.ndarray) -> np.ndarray:
    """Mean score of each document's windows, weighed by their real tokens."""
    owners, index = np.unique(document_ids(examples), return_inverse=True)
    lengths = np.count_nonzero(examples.features["tokens"], axis=1)
    sums = np.bincount(index, weights=scores * lengths, minlength=len(owners))
    return sums / np.maximum(np.bincount(index, weights=lengths, minlength=len(owners)), 1)
