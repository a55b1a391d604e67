"""A rater that costs little, fitted to one that costs more: distillation.

The teacher is a rater that is exported already, or several; the student any rater network, fitted
to what they say of unlabelled text by `fitted_rater` and exported like every rater.

<output_dir>/parsed_config.gin   bindings: the same command goes on where it stopped
<output_dir>/run.json            data fingerprint
<output_dir>/fitted/             see dr_keras.runs.fitting
<output_dir>/export/<version>/   the student; its `training` says who its teachers are
"""

from collections.abc import Callable, Sequence
import dataclasses
import os
import pathlib

import keras
import numpy as np

from dr_keras.config import configuration
from dr_keras.data.examples import ExampleSet, Parts
from dr_keras.errors import CheckpointError, ConfigurationError
from dr_keras.meta.scoring import Scorer
from dr_keras.runs.experiment import build_rater
from dr_keras.runs.fit_records import FOLDER
from dr_keras.runs.fitting import FittedRater
from dr_keras.runs.meta_training import check_same_data
from dr_keras.runs.samples import whole_documents
from dr_keras.serving import folder
from dr_keras.serving.loading import find_version
from dr_keras.system import locks
import gin

EXPORT = "export"
# What another call may change: where the data lies, its fingerprint says whether it is the same.
_MAY_DIFFER = ("prepared_data.path", "prepared_data.local_dir", "prepared_data.verify")


@dataclasses.dataclass(frozen=True, eq=False)
class Distilled:
    """What a distillation made.

    Attributes:
      rater: the student, as it is exported.
      path: of the exported student.
      fit: what fit.json says, see `FittedRater.fit`.
      held: windows of documents that the student has not learned from.
      taught: what the teacher says of them, float64 [N].
      teachers: paths of the exported raters that taught it, where it was taught by such.
    """

    rater: keras.Model
    path: str
    fit: dict
    held: ExampleSet
    taught: np.ndarray
    teachers: Sequence[str]


@gin.configurable(denylist=["output_dir"])
def distill(
    output_dir: str | os.PathLike,
    data: Callable[[], Parts] | Parts = gin.REQUIRED,
    student: Callable[..., keras.Model] = gin.REQUIRED,
    fitted: FittedRater = gin.REQUIRED,
    exporter: Callable = gin.REQUIRED,
    seed: int = 0,
    reference_size: int = 20_000,
) -> Distilled:
    """Fits a student to its teacher and exports it, from where an earlier call stopped.

    Args:
      output_dir: made if missing.
      data: the parts, or a function that returns them, such as @text_data: all but some held-out
        documents of `train` teaches the student (`fitted_rater.held_out`).
      student: builds the rater, such as @ngram_rater.
      fitted: how it is fitted, and to what: `fitted_rater.teacher = @exported_raters()`.
      exporter: such as @export_text.
      seed: of the student's initial weights.
      reference_size: about so many windows of the train part make the reference distribution.

    Raises:
      CheckpointError: output_dir holds something else, or another process works there.
      ConfigurationError: it holds a distillation with other settings; or see `FittedRater.fit`.
      DataError: text that cannot be used, or scores that nothing can be learned from.
    """
    output_dir = pathlib.Path(output_dir)
    if output_dir.exists() and not output_dir.is_dir():
        raise CheckpointError(f"output_dir {output_dir} is a file: name a directory.")
    if not isinstance(fitted, FittedRater):
        raise ConfigurationError("distill.fitted says how a rater is fitted: bind @fitted_rater().")
    with locks.alone(output_dir, "distillation", CheckpointError):
        configuration.check_same_config(output_dir, may_differ=_MAY_DIFFER)
        parts = data() if callable(data) else data
        check_same_data(output_dir, parts.fingerprint)
        rater = build_rater(student, seed)
        record = fitted.fit(rater, parts, output_dir / FOLDER, None, student)
        path = _exported(output_dir, record["sha256"])
        if path is None:
            sample = whole_documents(parts.train, reference_size)
            known = {
                "distilled_from": record["teacher"],
                "held_out": record["held_out"],
                "weights_sha256": record["sha256"],
                "gin_config": configuration.parsed_config(),
                "data_fingerprint": parts.fingerprint,
            }
            scores, directory = Scorer(rater)(sample), os.fspath(output_dir / EXPORT)
            path = exporter(rater, sample, scores, directory, known)
        held, taught = fitted.held_out_windows(parts, output_dir / FOLDER)
    raters = record["teacher"]["facts"].get("raters", [])
    return Distilled(rater, path, record, held, taught, [one["path"] for one in raters])


def _exported(output_dir: pathlib.Path, sha256: str) -> str | None:
    """The newest version, where it has the weights of this fit."""
    if not folder.versions(output_dir / EXPORT):
        return None
    path = find_version(os.fspath(output_dir / EXPORT))
    same = folder.read(path)["training"].get("weights_sha256") == sha256
    return path if same else None
