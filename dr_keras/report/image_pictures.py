"""What images add to the retraining study: score against corruption, and both extremes."""

from collections.abc import Sequence
import pathlib

import numpy as np

from dr_keras.data.images.parts import at_levels
from dr_keras.meta.scoring import Scorer
from dr_keras.report import image_plots
from dr_keras.report.image_callbacks import LEVELS, check_images
from dr_keras.report.retraining_report import Picture, Pictures
from dr_keras.runs.experiment import Experiment
from dr_keras.system import whole_files
from dr_keras.training.metrics import regression
import gin


@gin.configurable(denylist=["base_dir", "setup", "scores"])
def image_pictures(
    base_dir,
    setup: Experiment,
    scores: np.ndarray,
    levels: Sequence[float] = LEVELS,
    size: int | None = None,
    extremes: int = 16,
    seed: int = 1,
) -> Pictures:
    """Draws with the rater that `setup` holds; PNG files go to <base_dir>/plots/.

    Args:
      base_dir: of the run.
      setup: the experiment, its rater with the weights to show.
      scores: [N], of the train part.
      levels: fractions of pixels replaced by noise in test images, each in as many.
      size: test images at those levels; None takes all.
      extremes: train images shown at each end.
      seed: of the noise; another than the callback's.
    """
    check_images(setup)
    probe = at_levels(setup.parts.test, levels, size, seed)
    probe_scores = Scorer(setup.rater)(probe)
    line = regression(probe.labels["level"], probe_scores)
    known = {key: None if np.isnan(value) else value for key, value in line.items()}
    known["measured_on"] = f"{len(probe):,} test images at {len(levels)} levels"
    if None in known.values():
        known["reason"] = "all scores or all levels are alike"
    drawn = {
        "score_against_corruption": image_plots.score_against_fraction(
            probe_scores, probe.labels["level"]
        ),
        "extremes": image_plots.extremes_grid(setup.parts.train, scores, extremes),
    }
    files = {name: image_plots.to_png(figure) for name, figure in drawn.items()}
    for name, png in files.items():
        whole_files.write_bytes(pathlib.Path(base_dir) / "plots" / f"{name}.png", png)
    return Pictures(
        known,
        (
            Picture(
                "Does the score follow the corruption?",
                f"Raw scores of {known['measured_on']} of known corruption; dots are a sample, the"
                " line is the regression over all. The rater was never told a level.",
                "Score against fraction of corrupted pixels, with the regression line.",
                drawn["score_against_corruption"],
            ),
            Picture(
                "What it rates lowest and highest",
                "Training images. Captions: score, label (and the true one where it is wrong),"
                " share of corrupted pixels.",
                "Grid of the training images with the lowest and the highest scores.",
                drawn["extremes"],
                files["extremes"],
            ),
        ),
    )
