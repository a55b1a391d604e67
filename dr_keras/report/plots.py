"""Figures of the report, drawn with matplotlib and returned as SVG text for a page.

Figures are made without pyplot, so nothing is shared and no display is needed. Text and axes are
drawn in one marker colour which becomes the page's `currentColor`: the same figure reads well on a
light and on a dark page. Every arm has a colour, a line style and a label at its end, so that no
figure depends on colour alone. Coordinates and text stay text: a figure is small, can be searched,
and is read out by its description.
"""

from collections.abc import Mapping, Sequence
import html
import io
import itertools
import re

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np

INK = "#010203"  # Replaced by currentColor; no figure uses it for anything else.
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dr_keras",  # The same figure gives the same bytes.
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#888888",
    "grid.alpha": 0.25,
    "legend.frameon": False,
}

# Okabe and Ito's palette, told apart with any colour vision; blue lightened to show on black too.
COLOURS = ("#1a85cc", "#e69f00", "#cc79a7", "#009e73", "#d55e00", "#56b4e9")
_ARM_STYLES = {
    "unfiltered": ("#808080", "--"),
    "random": ("#e69f00", ":"),
    "rater": ("#1a85cc", "-"),
}
_POINTS_SHOWN = 400


def to_svg(figure: Figure, description: str, prefix: str) -> str:
    """An <svg> element to put into a page.

    Args:
        figure: drawn inside `style()`.
        description: what the figure shows, for readers who do not see it.
        prefix: makes the element ids differ from those of the other figures on the page.
    """
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="([^"]+)"', rf'id="{prefix}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{prefix}-\1"', svg)
    svg = re.sub(r"url\(#([^)]+)\)", rf"url(#{prefix}-\1)", svg)
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.S).replace(INK, "currentColor")
    label = html.escape(description, quote=True)
    # Width and height in points would pin the size; the page scales figures by their viewBox.
    svg = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1)


def style():
    """Context in which figures are drawn."""
    return matplotlib.rc_context(_STYLE)


def arm_style(name: str, position: int) -> dict:
    """Colour and line style of an arm, the same in every figure."""
    if name in _ARM_STYLES:
        colour, line = _ARM_STYLES[name]
    else:
        colour, line = COLOURS[(position + 2) % len(COLOURS)], "-."
    return {"color": colour, "linestyle": line}


def spread_labels(axes: Axes, labels: Sequence[tuple[float, str, str]], x: float) -> None:
    """Writes labels right of the axes at their heights, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.06
    places: list[float] = []
    for y, text, colour in sorted(labels):
        y = max(min(y, high), low)
        if places:
            y = max(y, places[-1] + gap)
        places.append(y)
        axes.annotate(
            text,
            (x, y),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
            fontweight="bold",
        )


def loss_curves(comparison: Mapping, seeds: bool = False) -> Figure:
    """Test loss against training steps for every arm: mean and spread, or every seed.

    The height of the reference's final loss is marked, and where the candidate reaches it. The
    first steps, where every model falls from chance, are cut off at the top.
    """
    arms, reference = comparison["arms"], comparison["reference"]
    candidate = comparison["candidate"]
    with style():
        figure = Figure(figsize=(7.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        labels, shown = [], []
        for position, (name, arm) in enumerate(arms.items()):
            look = arm_style(name, position)
            points = np.asarray(arm["mean"], dtype=float)
            if seeds:
                for curve in arm["curves"].values():
                    axes.plot(*np.asarray(curve, dtype=float).T, linewidth=1.2, alpha=0.8, **look)
            else:
                axes.plot(*points.T, linewidth=2, **look)
                if arm["spread"]:
                    spread = np.asarray(arm["spread"], dtype=float)[:, 1]
                    axes.fill_between(
                        points[:, 0],
                        points[:, 1] - spread,
                        points[:, 1] + spread,
                        color=look["color"],
                        alpha=0.2,
                        linewidth=0,
                    )
            labels.append((points[-1, 1], name, look["color"]))
            late = points[points[:, 0] >= 0.12 * points[-1, 0]]
            shown += [late[:, 1].max(), points[:, 1].min()]
        last = points[-1, 0]
        room = (max(shown) - min(shown)) * 0.06 or 0.05
        axes.set_ylim(min(shown) - 1.5 * room, max(shown) + room)
        axes.set_xlim(0, last)
        target = arms[reference]["final"]["mean"]
        axes.axhline(target, color=INK, linewidth=0.8, alpha=0.6)
        match = arms[candidate]["match"]
        if match["steps"] is not None and not seeds:
            axes.plot([match["steps"]], [target], "o", color=INK, markersize=6, zorder=5)
            axes.annotate(
                f"{candidate} gets there after\n{match['steps']:.0f} of {last:.0f} steps "
                f"({100 * match['share']:.0f}%)",
                (match["steps"], target),
                xytext=(18, 34),
                textcoords="offset points",
                arrowprops={"arrowstyle": "-", "color": INK, "alpha": 0.6},
            )
        axes.annotate(
            f"final loss of {reference}",
            (0, target),
            xytext=(4, -11),
            textcoords="offset points",
            alpha=0.8,
            fontsize=9,
        )
        spread_labels(axes, labels, last)
        axes.set_xlabel("training steps")
        axes.set_ylabel("test loss (nats per token)")
    return figure


def score_histogram(scores, levels) -> Figure:
    """Distribution of scores, clean against damaged, each scaled to its own number."""
    scores, levels = np.asarray(scores, float), np.asarray(levels, float)
    groups = [
        ("clean", levels == 0, COLOURS[0], "-"),
        ("damaged", levels > 0, COLOURS[4], "--"),
        ("level unknown", np.isnan(levels), "#808080", ":"),
    ]
    with style():
        figure = Figure(figsize=(7.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        low, high = np.quantile(scores, (0.001, 0.999))
        bins = np.linspace(low, high if high > low else low + 1.0, 51)
        for name, chosen, colour, line in groups:
            if not chosen.any():
                continue
            weights = np.full(int(chosen.sum()), 100.0 / chosen.sum())
            # Scores outside the bins are counted in the outermost ones, not lost.
            values = np.clip(scores[chosen], bins[0], bins[-1])
            label = f"{name} ({chosen.sum():,})"
            axes.hist(
                values, bins, weights=weights, histtype="stepfilled", color=colour, alpha=0.25
            )
            axes.hist(
                values,
                bins,
                weights=weights,
                histtype="step",
                color=colour,
                linestyle=line,
                linewidth=1.6,
                label=label,
            )
        axes.set_xlabel("score (higher is better)")
        axes.set_ylabel("% of the group")
        axes.legend()
    return figure


def score_against_level(scores, levels, kinds) -> Figure:
    """Score against damage level, one panel for each kind, with the median of clean as a line."""
    scores, levels = np.asarray(scores, float), np.asarray(levels, float)
    kinds = np.asarray(["" if kind is None else str(kind) for kind in kinds], dtype=object)
    names = sorted(set(kinds[levels > 0]))
    columns = min(3, max(1, len(names)))
    rows = max(1, -(-len(names) // columns))
    rng = np.random.default_rng(0)
    with style():
        figure = Figure(figsize=(7.4, 2.3 * rows + 0.4), layout="constrained")
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        clean = scores[levels == 0]
        for axes, name in itertools.zip_longest(grid.flat, names):
            if name is None:
                axes.axis("off")
                continue
            chosen = np.flatnonzero((levels > 0) & (kinds == name))
            x, y = levels[chosen], scores[chosen]
            dots = rng.permutation(len(x))[:_POINTS_SHOWN]
            axes.plot(
                x[dots], y[dots], ".", color=COLOURS[4], markersize=3, alpha=0.5, rasterized=True
            )
            middle, median = _running_median(x, y)
            axes.plot(middle, median, color=COLOURS[0], linewidth=2)
            if clean.size:
                axes.axhline(np.median(clean), color=INK, linewidth=1, linestyle="--", alpha=0.7)
            axes.set_title(f"{name.replace('_', ' ')} ({len(x):,})", fontsize=10, color=INK)
            axes.set_xlim(0, 1)
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        figure.supxlabel("level of damage", fontsize=10, color=INK)
        figure.supylabel("score", fontsize=10, color=INK)
    return figure


def _running_median(x: np.ndarray, y: np.ndarray, bins: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Median of y in groups of equal number along x."""
    groups = [g for g in np.array_split(np.argsort(x, kind="stable"), bins) if g.size]
    return np.array([np.median(x[g]) for g in groups]), np.array([np.median(y[g]) for g in groups])


def meta_curves(panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> Figure:
    """One panel a title, one line a label; points are (meta-step, value), None values left out."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    with style():
        figure = Figure(figsize=(7.4, 2.5 * rows + 0.3), layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, panel in itertools.zip_longest(grid.flat, panels.items()):
            if panel is None:
                axes.axis("off")
                continue
            title, lines = panel
            for k, (label, points) in enumerate(lines.items()):
                points = np.asarray([p for p in points if p[1] is not None], float).reshape(-1, 2)
                marker = "o" if len(points) <= 30 else ""
                axes.plot(
                    *points.T,
                    color=COLOURS[k % len(COLOURS)],
                    linewidth=1.3,
                    marker=marker,
                    markersize=3.5,
                    label=label,
                )
            axes.set_title(title, fontsize=10, color=INK)
            axes.set_xlabel("meta-steps")
            if len(lines) > 1:
                axes.legend(fontsize=8)
    return figure
