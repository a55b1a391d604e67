"""Cells in TensorBoard: the curve of each, and its settings and final figures for HParams.

<base_dir>/summaries/cells/<size>/<arm>-<percent>-<seed>/
"""

import pathlib
import shutil

from tensorboard.plugins.hparams import api as hparams
import tensorflow as tf

from dr_keras.studies.evidence_cells import Cell
from dr_keras.studies.summaries import metrics_of


def write(base_dir, found: dict) -> pathlib.Path:
    """Writes the summaries of one cell, in place of earlier ones; returns their folder.

    Args:
      base_dir: of the study.
      found: what came of the cell.
    """
    cell = Cell(**found["cell"])
    folder = pathlib.Path(base_dir) / "summaries" / "cells" / cell.name
    shutil.rmtree(folder, ignore_errors=True)
    settings = {
        "size": cell.size,
        "arm": cell.arm,
        "discard_fraction": float(cell.fraction),
        "seed": cell.seed,
        "steps_share": cell.steps_share,
    }
    writer = tf.summary.create_file_writer(str(folder))
    with writer.as_default():
        hparams.hparams(settings, trial_id=cell.name)
        for step, loss in found["record"]["curve"]:
            tf.summary.scalar("test/loss", loss, step=int(step))
        for step, loss in found["record"]["train_curve"]:
            tf.summary.scalar("train/loss", loss, step=int(step))
        last = int(found["record"]["curve"][-1][0])
        for name, (value, _) in metrics_of(found).items():
            tf.summary.scalar("final/" + name.replace(" ", "_"), value, step=last)
    writer.close()
    return folder
