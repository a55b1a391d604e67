"""Figures of a training beside which a rater learned (`runs.curated_run`)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.errors import DataError
from dr_keras.report.plots import COLOURS, GREY, drawing, spread_labels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PREFIX = "weight/"


def source_weights(lines: Sequence[Mapping[str, float]], shown: int = 6) -> "Figure":
    """What the model trained on, source by source, over its training: shares that add up to 1.

    Args:
      lines: of metrics.jsonl, with "step" and "weight/<source>", means since the line before.
      shown: sources with a colour and a name, those that have most in the last line; all others
        are one area.

    Raises:
      DataError: no line says what sources weighed.
    """
    names = [name for name in (lines[-1] if lines else {}) if name.startswith(_PREFIX)]
    if not names:
        raise DataError("source_weights: metrics.jsonl has no weights of sources to draw.")
    names.sort(key=lambda name: -lines[-1][name])
    steps = np.array([line["step"] for line in lines], float)
    shares = {name: np.array([line[name] for line in lines]) for name in names[:shown]}
    rest = 1 - sum(shares.values())
    areas = [(name.removeprefix(_PREFIX), share) for name, share in shares.items()]
    if len(names) > shown:
        areas.append((f"{len(names) - shown} others", rest))
    with drawing(3.4) as (figure, axes):
        colours = [COLOURS[n % len(COLOURS)] for n in range(len(shares))]
        colours += [GREY] * (len(areas) - len(colours))
        # A mean over an epoch stands at the middle of it.
        middles = steps - np.diff(steps, prepend=0.0) / 2
        axes.stackplot(middles, [share for _, share in areas], colors=colours, alpha=0.85)
        axes.set(xlabel="steps of the model", ylabel="share of its training", ylim=(0, 1))
        axes.set_xlim(middles[0], middles[-1])
        heights = np.cumsum([share[-1] for _, share in areas])
        labels = [
            (height - share[-1] / 2, name, colour)
            for height, (name, share), colour in zip(heights, areas, colours, strict=True)
        ]
        spread_labels(axes, labels, middles[-1])
    return figure
