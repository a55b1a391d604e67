"""Figures of image raters: score against corruption, and the images at both ends."""

from collections.abc import Sequence
import io

from matplotlib.figure import Figure
import numpy as np

from dr_keras.report import plots
from dr_keras.training.metrics import regression

_DOTS = 1500


def to_png(figure: Figure) -> bytes:
    """A figure as a PNG file on white."""
    buffer = io.BytesIO()
    with plots.style():
        figure.savefig(
            buffer, format="png", dpi=100, facecolor="white", metadata={"Software": None}
        )
    return buffer.getvalue()


def score_against_fraction(scores, fractions, title: str = "") -> Figure:
    """Raw score against the fraction of corrupted pixels, with its regression line.

    Args:
      scores, fractions: [N].
      title: above the figures of the line.
    """
    scores, fractions = np.asarray(scores, float), np.asarray(fractions, float)
    line = regression(fractions, scores)
    shown = np.random.default_rng(0).permutation(len(scores))[:_DOTS]
    with plots.style():
        figure = Figure(figsize=(6.4, 4.4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(
            fractions[shown],
            scores[shown],
            ".",
            color=plots.COLOURS[4],
            markersize=3,
            alpha=0.5,
            rasterized=True,
        )
        ends = np.array([0.0, 1.0])
        axes.plot(ends, line["intercept"] + line["slope"] * ends, color=plots.COLOURS[0], lw=2)
        axes.set_xlim(-0.02, 1.0)
        axes.set_xlabel("fraction of corrupted pixels")
        axes.set_ylabel("score (higher is better)")
        axes.set_title(
            (f"{title}\n" if title else "")
            + f"slope {line['slope']:.3g}, Pearson {line['pearson']:.3f},"
            f" Spearman {line['spearman']:.3f}, {len(scores):,} images",
            fontsize=10,
        )
    return figure


def image_grid(rows: Sequence[tuple[str, np.ndarray, Sequence[str]]], columns: int = 8) -> Figure:
    """Images in groups, each image with a caption.

    Args:
      rows: (heading, images [K, H, W, C] uint8 or floats in 0 to 1, captions [K]) of each group.
      columns: images side by side.
    """
    heights = [max(1, -(-len(images) // columns)) for _, images, _ in rows]
    with plots.style():
        figure = Figure(
            figsize=(0.95 * columns, sum(1.2 * h + 0.35 for h in heights)), layout="constrained"
        )
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


def extremes_grid(examples, scores: np.ndarray, count: int = 16) -> Figure:
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
