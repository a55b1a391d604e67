"""Images: score against corruption, the images at both ends, and both in the retraining study."""

from collections.abc import Sequence
import pathlib
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.data.images.parts import at_levels
from dr_keras.errors import ConfigurationError
from dr_keras.report import plots
from dr_keras.runs.experiment import Experiment
from dr_keras.studies.results import Line, Picture
from dr_keras.system import whole_files
from dr_keras.training.metrics import regression
import gin

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVELS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
_DOTS = 1500


def check_images(setup: Experiment) -> None:
    """Raises ConfigurationError unless the experiment's examples are images."""
    features = setup.parts.test.features
    if "image" not in features or features["image"].ndim != 4:
        raise ConfigurationError(
            "Only images can be drawn, examples with the feature 'image' [N, H, W, C]; these have"
            f" { ({name: value.shape[1:] for name, value in features.items()}) }."
        )


def score_against_fraction(scores, fractions, title: str = "") -> "Figure":
    """Raw score against the fraction of corrupted pixels, with its regression line.

    Args:
      scores, fractions: [N].
      title: above the figures of the line.
    """
    scores, fractions = np.asarray(scores, float), np.asarray(fractions, float)
    line = regression(fractions, scores)
    shown = np.random.default_rng(0).permutation(len(scores))[:_DOTS]
    with plots.drawing(4.4, width=6.4) as (figure, axes):
        axes.plot(fractions[shown], scores[shown], ".", **plots.DOTS)
        ends = np.array([0.0, 1.0])
        axes.plot(ends, line["intercept"] + line["slope"] * ends, color=plots.COLOURS[0], lw=2)
        axes.set_xlim(-0.02, 1.0)
        axes.set(xlabel="fraction of corrupted pixels", ylabel="score (higher is better)")
        axes.set_title(
            (f"{title}\n" if title else "")
            + f"slope {line['slope']:.3g}, Pearson {line['pearson']:.3f},"
            f" Spearman {line['spearman']:.3f}, {len(scores):,} images",
            fontsize=10,
        )
    return figure


def image_grid(rows: Sequence[tuple[str, np.ndarray, Sequence[str]]], columns: int = 8) -> "Figure":
    """Images in groups, each image with a caption.

    Args:
      rows: (heading, images [K, H, W, C] uint8 or floats in 0 to 1, captions [K]) of each group.
      columns: images side by side.
    """
    heights = [max(1, -(-len(images) // columns)) for _, images, _ in rows]
    height = sum(1.2 * h + 0.35 for h in heights)
    with plots.drawing(height, rows=0, width=0.95 * columns) as (figure, _):
        parts = np.atleast_1d(figure.subfigures(len(rows), 1, height_ratios=heights))
        for part, height, (heading, images, captions) in zip(parts, heights, rows):
            part.suptitle(heading, fontsize=10)
            for place, axes in enumerate(part.subplots(height, columns, squeeze=False).flat):
                axes.axis("off")
                if place >= len(images):
                    continue
                axes.imshow(_shown(images[place]), cmap="gray", vmin=0, vmax=1)
                axes.set_title(captions[place], fontsize=7)
    return figure


def _shown(image: np.ndarray) -> np.ndarray:
    """In 0 to 1, [H, W] of one channel or [H, W, 3]."""
    image = image / 255 if image.dtype == np.uint8 else np.clip(image, 0, 1)
    return image[..., :3] if image.shape[-1] >= 3 else image[..., 0]


def extremes_grid(examples, scores: np.ndarray, count: int = 16) -> "Figure":
    """The lowest- and the highest-rated images of a set of images, with what is known of them.

    Args:
      examples: an ExampleSet with the feature `image`, and `label` if it has one.
      scores: [N].
      count: images at each end.
    """
    order = np.argsort(scores, kind="stable")
    rows = []
    ends = {"rated lowest": order[:count], "rated highest": order[::-1][:count]}
    for heading, chosen in ends.items():
        captions = [_caption(examples, scores, row) for row in chosen]
        rows.append((heading, examples.features["image"][chosen], captions))
    return image_grid(rows)


def _caption(examples, scores: np.ndarray, row: int) -> str:
    facts = [f"{scores[row]:.2g}"]
    if "label" in examples.features:
        facts.append(f"{int(examples.features['label'][row])}")
        true = examples.labels.get("true_label")
        if true is not None and true[row] != examples.features["label"][row]:
            facts[-1] += f" (is {int(true[row])})"
    level = examples.labels.get("level")
    if level is not None and np.isfinite(level[row]):
        facts.append(f"{100 * level[row]:.0f}%")
    return " · ".join(facts)


@gin.configurable(denylist=["base_dir", "setup", "scores"])
def image_pictures(
    base_dir,
    setup: Experiment,
    scores: np.ndarray,
    levels: Sequence[float] = LEVELS,
    size: int | None = None,
    extremes: int = 16,
    seed: int = 1,
) -> tuple[Line, list[Picture]]:
    """Draws with the rater that `setup` holds; PNG files go to <base_dir>/plots/.

    Args:
      base_dir: of the run.
      setup: the experiment, its rater with the weights to show.
      scores: [N], of the train part.
      levels: fractions of pixels replaced by noise in test images, each in as many.
      size: test images at those levels; None takes all.
      extremes: train images shown at each end.
      seed: of the noise; another than the callback's.

    Returns:
      Score against level of corruption, and the pictures of the report.

    Raises:
      ConfigurationError: the examples are no images.
    """
    check_images(setup)
    probe = at_levels(setup.parts.test, levels, size, seed)
    probe_scores = setup.scorer()(probe)
    line = regression(probe.labels["level"], probe_scores)
    known = {key: None if np.isnan(value) else value for key, value in line.items()}
    reason = "all scores or all levels are alike" if None in known.values() else None
    where = f"{len(probe):,} test images at {len(levels)} levels"
    drawn = {
        "score_against_corruption": score_against_fraction(probe_scores, probe.labels["level"]),
        "extremes": extremes_grid(setup.parts.train, scores, extremes),
    }
    for name, figure in drawn.items():
        png = plots.to_png(figure)
        whole_files.write_bytes(pathlib.Path(base_dir) / "plots" / f"{name}.png", png)
    return Line(measured_on=where, **known, reason=reason), [
        Picture(
            "Does the score follow the corruption?",
            f"Raw scores of {where} of known corruption; dots are a sample, the line is the"
            " regression over all. The rater was never told a level.",
            "Score against fraction of corrupted pixels, with the regression line.",
            "plots/score_against_corruption.png",
        ),
        Picture(
            "What it rates lowest and highest",
            "Training images. Captions: score, label (and the true one where it is wrong), share of"
            " corrupted pixels.",
            "Grid of the training images with the lowest and the highest scores.",
            "plots/extremes.png",
        ),
    ]
