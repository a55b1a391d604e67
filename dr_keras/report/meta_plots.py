"""Figures of `studies.meta_health`: what a run of meta-training logged of its own soundness."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.meta.score_health import LENGTH_DOMINATES
from dr_keras.report.plots import COLOURS, INK, as_is, drawing, panels, spread_labels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLES = {
    "signal": "signal-to-noise of the meta-gradient",
    "update": "norm of the outer update",
    "length": "score and length: rank correlation, share of variance",
    "spread": "standard deviation of scores",
}
_LINES = ("-", "--", ":", "-.")
_LETTERS = 24

Curves = Mapping[str, Sequence[Sequence[float]]]


def health_panels(found: Mapping[str, Curves]) -> "Figure":
    """One panel for each of `TITLES` that there is, one line a label.

    Args:
      found: `panels` of `meta_health.meta_health`.
    """
    with panels([name for name in TITLES if name in found], 2, 2.5) as (figure, drawn):
        for axes, name in drawn:
            _lines(axes, found[name])
            axes.set(title=TITLES[name], xlabel="meta-steps")
            if len(found[name]) > 1:
                axes.legend(fontsize=8)
            if name in ("spread", "update"):
                axes.set_ylim(bottom=0)
            else:
                axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
            if name == "length":
                axes.set_ylim(-1.05, 1.05)
                for limit in (-LENGTH_DOMINATES, LENGTH_DOMINATES):
                    axes.axhline(limit, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
    return figure


def named_curves(curves: Curves, what: str) -> "Figure":
    """Curves against meta-steps, each with its name at its end."""
    with drawing(3.2) as (figure, axes):
        _lines(axes, curves)
        axes.set(xlabel="meta-steps", ylabel=what)
        labels = [
            (
                points[-1][1],
                as_is(name if len(name) <= _LETTERS else name[: _LETTERS - 1] + "…"),
                _look(k)["color"],
            )
            for k, (name, points) in enumerate(curves.items())
        ]
        spread_labels(axes, labels, axes.get_xlim()[1])
    return figure


def _look(position: int) -> dict:
    colour = COLOURS[position % len(COLOURS)]
    return {"color": colour, "linestyle": _LINES[position % len(_LINES)]}


def _lines(axes: "Axes", curves: Curves) -> None:
    for k, (label, points) in enumerate(curves.items()):
        axes.plot(
            *np.asarray(points, float).T,
            linewidth=1.4,
            marker="o" if len(points) <= 30 else "",
            markersize=3.5,
            label=as_is(label),
            **_look(k),
        )
