"""What is kept of a rater's fit (`runs.fitting`): how well it follows its teacher, and its cost."""

from collections.abc import Sequence
import json
import pathlib

import keras
import numpy as np

from dr_keras.data.examples import ExampleSet
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.score_health import rank_correlation
from dr_keras.models.rater_scores import ReferenceLoss
from dr_keras.system.progress import duration
from dr_keras.training import flops

FOLDER, RECORD, WEIGHTS = "fitted", "fit.json", "rater.weights.h5"


def agreement(scores: np.ndarray, targets: np.ndarray) -> dict:
    """How a rater's scores [N] follow their targets [N]."""
    variance = float(np.var(targets))
    return {
        "windows": len(scores),
        "rank_correlation": rank_correlation(scores, targets),
        "explained": 1 - float(np.mean((scores - targets) ** 2)) / variance if variance else None,
    }


def spread(scores: np.ndarray) -> dict:
    """How far scores [N] lie apart, and what share of a large batch counts for that."""
    weights = np.exp(scores - scores.max())
    return {
        "mean": float(scores.mean()),
        "deviation": float(scores.std()),
        "effective_share": float(weights.mean() ** 2 / np.mean(weights**2)),
    }


def add_costs(
    record: dict,
    rater: keras.Model,
    examples: ExampleSet,
    reference: ReferenceLoss | None,
    trained_on: int,
    evaluated: int,
) -> None:
    """Adds what a fit cost to its record ("fit" and the whole with the teacher), in operations.

    Args:
      record: with what the teacher cost.
      rater: that was fitted.
      examples: of the train part, with a column "reference_loss" where `reference` made it.
      reference: model that made it; None where nothing was made.
      trained_on: windows that updates were made on, repetitions counted.
      evaluated: windows scored beside, repetitions counted.
    """
    taught = record["teacher"]["training_flops"] + record["teacher"]["scoring_flops"]
    taught += (record["beginning"] or {}).get("training_flops", 0)
    try:
        forward = flops.forward_flops(rater, flops.feature_shapes(examples.features))
        beside = 0
        if reference is not None:
            given = {k: v for k, v in examples.features.items() if k != "reference_loss"}
            beside = flops.forward_flops(reference.model, flops.feature_shapes(given))
    except ConfigurationError as error:
        record["fit"]["flops"], record["flops"], record["reason"] = None, None, str(error)
        return
    spent = flops.training_flops(forward, trained_on) + forward * evaluated
    record["fit"]["flops"] = int(spent + beside * len(examples))
    record["flops"] = float(taught + record["fit"]["flops"])


def read_fit(run: str | pathlib.Path) -> dict | None:
    """What fit.json of a run says (see `FittedRater.fit`); None of a run without a fitted rater.

    Raises:
      CheckpointError: it is damaged.
    """
    folder = pathlib.Path(run) / FOLDER
    return read_record(folder) if (folder / RECORD).exists() else None


def read_record(folder: pathlib.Path, needed: Sequence[str] = ()) -> dict:
    """fit.json of a folder; CheckpointError where it is damaged or lacks what is needed."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if missing := [name for name in needed if name not in record]:
            raise KeyError(missing[0])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged ({error}): remove {folder} to fit the rater again."
        ) from error
    return record


def told(record: dict) -> str:
    """One sentence about a fit, from its record."""
    held, taught = record["held_out"], record["teacher"]
    known = held["rank_correlation"]
    follows = "cannot be told apart" if known is None else f"rank correlation {known:.2f}"
    return (
        f"fitted to {taught['name']}: {follows} with its scores on {held['windows']:,} windows"
        f" held out; deviation of the scores {record['scores']['deviation']:.2f};"
        f" the teacher took {duration(taught['seconds'])}, the fit"
        f" {duration(record['fit']['seconds'])}"
    )
