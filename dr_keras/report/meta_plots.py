"""The figure of `studies.meta_health`: what a run of meta-training logged of its own soundness."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.meta.score_health import LENGTH_DOMINATES
from dr_keras.report.plots import COLOURS, INK, as_is, panels, spread_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "sets": "outer loss by held-out set",
    "signal": "signal-to-noise of the meta-gradient",
    "update": "norm of the outer update",
    "length": "rank correlation of score and length",
    "spread": "standard deviation of scores",
    "sources": "mean score by source",
}
_LINES = ("-", "--", ":", "-.")
_NAMED_AT_ITS_END = 3  # more lines than this would make a legend that hides them
_LETTERS = 20


def health_panels(found: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> "Figure":
    """One panel for each of `TITLES` that there is, one line a label.

    Args:
      found: `panels` of `meta_health.meta_health`.
    """
    shown = [name for name in TITLES if name in found]
    with panels(shown, 2, 2.5) as (figure, drawn):
        for axes, name in drawn:
            _lines(axes, found[name])
            axes.set(title=TITLES[name], xlabel="meta-steps")
            if name in ("signal", "length", "sources"):
                axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
            if name == "length":
                axes.set(ylim=(-1.05, 1.05))
                for limit in (-LENGTH_DOMINATES, LENGTH_DOMINATES):
                    axes.axhline(limit, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
            if name in ("spread", "update"):
                axes.set_ylim(bottom=0)
    return figure


def _lines(axes: "Axes", lines: Mapping[str, Sequence[Sequence[float]]]) -> None:
    labels = []
    for k, (label, points) in enumerate(lines.items()):
        x, y = np.asarray(points, float).T
        look = {"color": COLOURS[k % len(COLOURS)], "linestyle": _LINES[k % len(_LINES)]}
        axes.plot(x, y, linewidth=1.4, marker="o", markersize=2.5, label=as_is(label), **look)
        short = label if len(label) <= _LETTERS else label[: _LETTERS - 1] + "…"
        labels.append((y[-1], as_is(short), look["color"]))
    if 1 < len(lines) <= _NAMED_AT_ITS_END:
        axes.legend(fontsize=8)
    elif len(lines) > 1:
        spread_labels(axes, labels, axes.get_xlim()[1])
