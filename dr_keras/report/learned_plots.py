"""Figures of what the rater learned, of the `findings` that `studies.findings` lists."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.report.plots import (
    COLOURS,
    DOTS,
    GREY,
    INK,
    as_is,
    drawing,
    note,
    panels,
    spread_labels,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HATCHES = ("", "//", "..", "\\\\", "xx", "--")


def score_histogram(found: Mapping) -> "Figure":
    """Distribution of scores, clean against damaged, each scaled to its own number.

    Args:
      found: of `findings.scores_by_damage`.
    """
    looks = {
        "clean": (COLOURS[0], "-"),
        "damaged": (COLOURS[4], "--"),
        "level unknown": (GREY, ":"),
    }
    edges = np.asarray(found["edges"])
    middles = (edges[:-1] + edges[1:]) / 2
    with drawing(3.2) as (figure, axes):
        for name, counts in found["groups"].items():
            colour, line = looks[name]
            shares = 100 * np.asarray(counts) / sum(counts)
            bars = {"bins": edges, "weights": shares, "color": colour}
            axes.hist(middles, histtype="stepfilled", alpha=0.25, **bars)
            label = f"{name} ({sum(counts):,})"
            axes.hist(middles, histtype="step", linestyle=line, linewidth=1.6, label=label, **bars)
        axes.set(xlabel="score (higher is better)", ylabel="% of the group")
        axes.legend()
    return figure


def score_against_level(found: Mapping) -> "Figure":
    """Score against damage level, one panel for each kind, with the median of clean as a line.

    Args:
      found: of `findings.scores_by_damage`.
    """
    kinds = list(found["kinds"].items())
    with panels(kinds, 3, 2.3, 0.4, sharex=True, sharey=True) as (figure, shown):
        for axes, (name, kind) in shown:
            axes.plot(*np.asarray(kind["dots"]).T, ".", **DOTS)
            axes.plot(*np.asarray(kind["median"]).T, color=COLOURS[0], linewidth=2)
            median = found["clean_median"]
            if median is not None:
                axes.axhline(median, color=INK, linewidth=1, linestyle="--", alpha=0.7)
            title = f"{as_is(name.replace('_', ' '))} ({kind['examples']:,})"
            axes.set(title=title, xlim=(0, 1))
            axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
        figure.supxlabel("level of damage")
        figure.supylabel("score")
    return figure


def meta_curves(curves: Mapping[str, Mapping[str, Sequence[Sequence[float]]]]) -> "Figure":
    """One panel a title, one line a label; points are (meta-step, value)."""
    with panels(list(curves.items()), 2, 2.5) as (figure, shown):
        for axes, (title, lines) in shown:
            for k, (label, points) in enumerate(lines.items()):
                axes.plot(
                    *np.asarray(points, float).T,
                    color=COLOURS[k % len(COLOURS)],
                    linewidth=1.3,
                    marker="o" if len(points) <= 30 else "",
                    markersize=3.5,
                    label=label,
                )
            axes.set(title=title, xlabel="meta-steps")
            if len(lines) > 1:
                axes.legend(fontsize=8)
    return figure


def _height(rows: int) -> float:
    return 1.1 + 0.26 * max(rows, 3)


def _named_rows(axes: "Axes", names: list[str]) -> None:
    """Names at the left, the first at the top."""
    shown = [as_is(name.replace("_", " ")) for name in names]
    axes.set_yticks(range(len(names)), shown, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)


def _bars(axes: "Axes", values: Mapping[str, float]) -> None:
    """A bar a name, to the right or to the left of 0."""
    for row, value in enumerate(values.values()):
        axes.barh(row, value, 0.7, color=COLOURS[0 if value > 0 else 4], alpha=0.6)
    _named_rows(axes, list(values))
    axes.axvline(0, color=INK, linewidth=0.8)


def score_boxes(found: Mapping) -> "Figure":
    """Scores by source: box from quartile to quartile, line from 5% to 95%, median.

    Args:
      found: of `learned.score_distributions`.
    """
    groups = {"all": found["all"], **found["by_source"]}
    with drawing(_height(len(groups))) as (figure, axes):
        for row, group in enumerate(groups.values()):
            _, low, first, median, third, high, _ = group["quantiles"]
            colour = GREY if row == 0 else COLOURS[0]
            axes.plot([low, high], [row, row], color=colour, linewidth=1.2)
            axes.barh(row, third - first, 0.6, left=first, color=colour, alpha=0.45)
            axes.plot([median, median], [row - 0.3, row + 0.3], color=INK, linewidth=1.6)
        labels = [f"{name} ({group['examples']:,})" for name, group in groups.items()]
        _named_rows(axes, labels)
        axes.set_xlabel("score (higher is better)")
    return figure


def source_mixture(found: Mapping, most: int = 8) -> "Figure":
    """What is kept, by source, against the share that is dropped: a stacked area.

    Args:
      found: of `learned.source_shares`.
      most: sources with an area of their own: those whose share changes most; the others are one.
    """
    shares = {name: np.asarray(values) for name, values in found["shares"].items()}
    changing = sorted(shares, key=lambda name: -np.ptp(shares[name]))
    own = [name for name in shares if name in changing[:most]]
    areas = {name: shares[name] for name in own}
    rest = [shares[name] for name in shares if name not in own]
    if rest:
        areas[f"{len(rest)} others"] = np.sum(rest, axis=0)
    x = 100 * np.asarray(found["fractions"])
    with drawing(4.0) as (figure, axes):
        # Colour and hatching together tell more areas apart than there are colours.
        filled = axes.stackplot(x, [100 * v for v in areas.values()], alpha=0.55)
        labels, below = [], 0.0
        for k, (name, area) in enumerate(zip(areas, filled)):
            colour = COLOURS[k % len(COLOURS)] if name in shares else GREY
            area.set(facecolor=colour, hatch=_HATCHES[k // len(COLOURS) % len(_HATCHES)])
            area.set_edgecolor("white")
            last = 100 * float(areas[name][-1])
            first = 100 * float(areas[name][0])
            labels.append((below + last / 2, f"{name} {first:.0f}→{last:.0f}%", colour))
            below += last
        axes.set(xlim=(x[0], x[-1]), ylim=(0, 100))
        spread_labels(axes, labels, x[-1])
        axes.set(xlabel="% dropped", ylabel="% of what is kept")
    return figure


def correlation_bars(found: Mapping, most: int = 24) -> "Figure":
    """Rank correlation of the score with each feature, the strongest; within sources as a dot.

    Args:
      found: of `learned.rank_correlations`.
      most: bars.
    """
    shown = {n: f for n, f in found.items() if f["spearman"] is not None}
    shown = dict(list(shown.items())[:most])
    with drawing(_height(len(shown))) as (figure, axes):
        _bars(axes, {name: figures["spearman"] for name, figures in shown.items()})
        for row, figures in enumerate(shown.values()):
            within = figures.get("within_sources")
            if within is not None:
                axes.plot(within, row, "o", color=INK, markersize=4)
        within = any("within_sources" in f for f in shown.values())
        dots = "; dot: within sources" if within else ""
        axes.set(xlim=(-1, 1), xlabel=f"rank correlation with the score{dots}")
    return figure


def lasso_bars(found: Mapping, most: int = 24) -> "Figure":
    """Coefficients that the Lasso leaves in, and how R2 grows with the features left in.

    Args:
      found: of `lasso.explain_scores`; with figures, not with a reason for having none.
      most: bars.
    """
    coefficients = dict(list(found["coefficients"].items())[:most])
    height = _height(len(coefficients))
    with drawing(height, 1, 2, width_ratios=(3, 2)) as (figure, grid):
        axes, path = grid[0]
        _bars(axes, coefficients)
        axes.set_xlabel("coefficient, standardised")
        penalties, r2, _ = np.asarray(found["path"], float).T
        path.plot(penalties, r2, color=COLOURS[0], linewidth=1.6, label="Lasso")
        path.axhline(found["r2_least_squares"], color=GREY, linestyle="--", label="least squares")
        path.plot(found["penalty"], found["r2"], "o", color=INK, markersize=5)
        chosen = f"{found['selected']} features\nR² {found['r2']:.2f}"
        note(path, chosen, (found["penalty"], found["r2"]), (6, -26), fontsize=9)
        path.set_xscale("log")
        path.invert_xaxis()
        # Least squares on few rows can be far below 0, and would flatten the rest.
        path.set_ylim(bottom=max(min(r2.min(), found["r2_least_squares"]), -0.2))
        path.set(xlabel="penalty", ylabel="R² on held-out folds")
        path.legend(fontsize=8)
    return figure


def agreement_curves(found: Mapping) -> "Figure":
    """How the scores of checkpoints agree: each with the next, and with the last.

    Args:
      found: of `learned.checkpoint_agreement`.
    """
    steps = found["meta_steps"]
    with drawing(3.2) as (figure, axes):
        lines = (
            ("with the next checkpoint", steps[:-1], found["with_next"], COLOURS[0], "-"),
            ("with the last", steps[:-1], found["with_last"][:-1], COLOURS[1], "--"),
        )
        for label, x, values, colour, line in lines:
            known = [(a, b) for a, b in zip(x, values) if b is not None]
            points = np.asarray(known, float).reshape(-1, 2).T
            look = {"color": colour, "linestyle": line, "marker": "o", "markersize": 4}
            axes.plot(*points, label=label, **look)
        axes.axhline(0.95, color=INK, linewidth=0.8, alpha=0.6)
        axes.set_ylim(top=1.02)
        axes.set(xlabel="meta-steps", ylabel="rank correlation of scores")
        axes.legend()
    return figure


def meta_gradient_curve(found: Mapping) -> "Figure":
    """Norm of the meta-gradient through training, the mean and every member, on a log scale.

    Args:
      found: of `learned.meta_gradient_norms`.
    """

    def points(values) -> np.ndarray:
        pairs = [(s, v) for s, v in zip(found["meta_steps"], values) if v is not None and v > 0]
        return np.asarray(pairs, float).reshape(-1, 2).T

    with drawing(3.2) as (figure, axes):
        for member in found["members"]:
            axes.plot(*points(member), color=GREY, linewidth=0.6, alpha=0.5)
        mean = points(found["mean"])
        axes.plot(*mean, color=COLOURS[0], linewidth=1.6, label="mean over members")
        if mean.size:
            axes.set_yscale("log")
            axes.legend()
        axes.set(xlabel="meta-steps", ylabel="meta-gradient norm")
    return figure
