"""Figures of how models fared, drawn with matplotlib, and how every figure becomes part of a page.

Figures are made without pyplot, so nothing is shared and no display is needed; matplotlib is
imported when the first is drawn. Text and axes are drawn in one marker colour which becomes the
page's `currentColor`: the same figure reads well on a light and on a dark page. Every arm has a
colour, a line style and a label, so that no figure depends on colour alone. Coordinates and text
stay text: a figure is small, can be searched, and is read out by its description.
"""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import html
import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_keras.studies.paired import ERRORS
from dr_keras.studies.results import Results
from dr_keras.studies.sizes import Arm, Difference, Protocol, Size, Sweep

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

INK = "#010203"  # Replaced by currentColor; no figure uses it for anything else.
GREY = "#808080"
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "dr_keras",  # The same figure gives the same bytes.
    "font.size": 10,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "figure.labelsize": 10,
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
DOTS = {"color": COLOURS[4], "markersize": 3, "alpha": 0.5, "rasterized": True}  # many of them
_ARM_STYLES = {"unfiltered": (GREY, "--"), "random": ("#e69f00", ":"), "rater": ("#1a85cc", "-")}


@contextlib.contextmanager
def drawing(
    height: float, rows: int = 1, columns: int = 1, width: float = 7.4, **grid: Any
) -> Iterator[tuple["Figure", Any]]:
    """Context in which a figure is drawn: (figure, its axes).

    Args:
      height, width: in inches.
      rows, columns: of axes; one of each gives the axes, more an array [rows, columns] of them,
        no rows none.
      grid: for `Figure.subplots`.
    """
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        axes = figure.subplots(rows, columns, squeeze=False, **grid) if rows else None
        yield figure, axes[0, 0] if rows == columns == 1 else axes


@contextlib.contextmanager
def panels(
    things: Sequence[Any], columns: int, height: float, extra: float = 0.3, **settings: Any
) -> Iterator[tuple["Figure", list[tuple["Axes", Any]]]]:
    """Context in which a figure with a panel for each thing is drawn: (figure, [(axes, thing)]).

    Args:
      things: what the panels are of.
      columns: side by side, at most.
      height: of a row of panels, in inches.
      extra: of the figure, above that of its rows.
      settings: for `drawing`.
    """
    columns = min(columns, max(1, len(things)))
    rows = max(1, -(-len(things) // columns))
    with drawing(height * rows + extra, rows, columns, **settings) as (figure, grid):
        every = list(np.atleast_1d(grid).flat)
        for axes in every[len(things) :]:
            axes.axis("off")
        yield figure, list(zip(every, things))


def to_svg(figure: "Figure", description: str, prefix: str) -> str:
    """An <svg> element to put into a page.

    Args:
      figure: drawn inside `drawing`.
      description: what the figure shows, for readers who do not see it.
      prefix: makes the element ids differ from those of the other figures on the page.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context(_STYLE):
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


def to_png(figure: "Figure") -> bytes:
    """A figure as a PNG file on white."""
    import matplotlib

    buffer, meta = io.BytesIO(), {"Software": None}
    with matplotlib.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=100, facecolor="white", metadata=meta)
    return buffer.getvalue()


def arm_style(name: str, position: int) -> dict:
    """Colour and line style of an arm, the same in every figure."""
    colour, line = _ARM_STYLES.get(name, (COLOURS[(position + 2) % len(COLOURS)], "-."))
    return {"color": colour, "linestyle": line}


def as_is(text: str) -> str:
    """A name for a figure; matplotlib would take what is between two dollars for a formula."""
    return text.replace("$", r"\$")


def note(
    axes: "Axes", text: str, place: tuple[float, float], away: tuple[float, float], **look: Any
) -> "Annotation":
    """Writes at a place of the axes, or `away` from it by so many points right and up."""
    return axes.annotate(as_is(text), place, xytext=away, textcoords="offset points", **look)


def main_arms(size: Size, protocol: Protocol) -> dict[str, Arm]:
    """The arms that the answer is about, in the order of the study."""
    named = (protocol.reference, protocol.candidate, *protocol.baselines)
    return {name: arm for name, arm in size.arms.items() if name in named}


def spread_labels(axes: "Axes", labels: Sequence[tuple[float, str, str]], x: float) -> None:
    """Writes labels right of the axes at their heights, moved apart where they would overlap."""
    low, high = axes.get_ylim()
    gap = (high - low) * 0.06
    places: list[float] = []
    for y, text, colour in sorted(labels):
        y = max(min(y, high), low)
        if places:
            y = max(y, places[-1] + gap)
        places.append(y)
        look = {"va": "center", "color": colour, "fontweight": "bold"}
        note(axes, text, (x, y), (6, 0), annotation_clip=False, **look)


def _mean_and_band(axes: "Axes", x: np.ndarray, arm: Arm, look: dict, label: str) -> None:
    mean = np.asarray(arm.mean, float)[:, 1]
    axes.plot(x, mean, linewidth=2, label=as_is(label), **look)
    if arm.spread:
        spread = np.asarray(arm.spread, float)[:, 1]
        colour = look["color"]
        axes.fill_between(x, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)


def _frame(axes: "Axes", arms: Mapping[str, Arm], target: float, last: float) -> None:
    """Limits, with the first steps, where every model falls from chance, cut off at the top."""
    shown = []
    for arm in arms.values():
        points = np.asarray(arm.mean, float)
        late = points[points[:, 0] >= 0.12 * points[-1, 0]]
        shown += [late[:, 1].max(), points[:, 1].min()]
    room = (max(shown) - min(shown)) * 0.06 or 0.05
    axes.set_ylim(min(shown) - 1.5 * room, max(shown) + room)
    axes.set_xlim(0, last)
    axes.axhline(target, color=INK, linewidth=0.8, alpha=0.6)


def loss_curves(size: Size, protocol: Protocol, seeds: bool = False) -> "Figure":
    """Test loss against training steps for every arm: mean and spread, or every seed.

    The height of the reference's final loss is marked, and where the candidate reaches it. The
    first steps, where every model falls from chance, are cut off at the top.
    """
    target, last = size.arms[protocol.reference].final.mean, size.arms[protocol.reference].steps
    match = size.arms[protocol.candidate].match
    with drawing(4.0) as (figure, axes):
        labels = []
        for position, (name, arm) in enumerate(size.arms.items()):
            look = arm_style(name, position)
            points = np.asarray(arm.mean, float)
            if seeds:
                for curve in arm.curves.values():
                    axes.plot(*np.asarray(curve, float).T, linewidth=1.2, alpha=0.8, **look)
            else:
                _mean_and_band(axes, points[:, 0], arm, look, name)
            labels.append((points[-1, 1], name, look["color"]))
        _frame(axes, size.arms, target, last)
        if match.steps is not None and not seeds:
            axes.plot([match.steps], [target], "o", color=INK, markersize=6, zorder=5)
            reached = (
                f"{protocol.candidate} gets there after\n"
                f"{match.steps:.0f} of {last:.0f} steps ({100 * match.share:.0f}%)"
            )
            line = {"arrowstyle": "-", "color": INK, "alpha": 0.6}
            note(axes, reached, (match.steps, target), (18, 34), arrowprops=line)
        named = f"final loss of {protocol.reference}"
        note(axes, named, (0, target), (4, -11), alpha=0.8, fontsize=9)
        spread_labels(axes, labels, last)
        unit = " (nats per token)" if size.sequence_length > 1 else ""
        axes.set(xlabel="training steps", ylabel=f"test loss{unit}")
    return figure


def loss_against_flops(results: Results) -> "Figure":
    """Test loss against the FLOPs spent, scoring included: a panel a size, a line a main arm.

    Bands are standard deviations over seeds. The height of the reference's final loss is marked,
    and where the candidate reaches it. The first steps run off the top.
    """
    sizes = results.sizes
    height, width = 3.6 if len(sizes) > 1 else 4.0, 7.4 if len(sizes) < 3 else 9.6
    with panels(sizes, 3, height, extra=0.0, width=width) as (figure, shown):
        for axes, size in shown:
            _flops_panel(axes, size, results.protocol)
        figure.supxlabel("FLOPs, scoring included")
        figure.supylabel("test loss (nats per token)")
    return figure


def _flops_panel(axes: "Axes", size: Size, protocol: Protocol) -> None:
    arms = main_arms(size, protocol)
    for position, (name, arm) in enumerate(arms.items()):
        steps = np.asarray(arm.mean, float)[:, 0]
        cost = steps / steps[-1] * arm.account.run.total
        _mean_and_band(axes, cost, arm, arm_style(name, position), name)
    reference, account = arms[protocol.reference], arms[protocol.candidate].account
    last = max(arm.account.run.total for arm in arms.values())
    target = reference.final.mean
    _frame(axes, arms, target, last)
    if account.flops_share is not None:
        reached = account.flops_share * reference.account.run.total
        axes.plot([reached], [target], "o", color=INK, markersize=6, zorder=5)
        leftwards = reached > 0.5 * last
        text = f"{100 * account.flops_share:.0f}% of the FLOPs"
        away, side = ((-12, -14), "right") if leftwards else ((12, -14), "left")
        look = {"ha": side, "va": "center", "annotation_clip": False}
        label = note(axes, text, (reached, target), away, **look)
        label.set_in_layout(False)  # the panel keeps its width
    axes.set_title(f"{as_is(size.name)} ({size.parameters:,} parameters)")
    axes.legend(fontsize=8)


def metric_against_share(size: Size, protocol: Protocol) -> "Figure":
    """Mean and spread of the metric against the share dropped, by scores and at random.

    Arms named after the first words of the candidate and of the baselines are a line each.
    """
    reference = size.arms[protocol.reference].judged(protocol.metric)
    kinds = [name.split()[0] for name in (*protocol.baselines, protocol.candidate)]
    with drawing(3.8) as (figure, axes):
        band = reference.spread or 0.0
        look = arm_style(protocol.reference, 0)
        low, high = reference.mean - band, reference.mean + band
        axes.axhspan(low, high, color=look["color"], alpha=0.15, lw=0)
        axes.axhline(reference.mean, **look, label=as_is(protocol.reference))
        for position, kind in enumerate(kinds, 1):
            chosen = [arm for name, arm in size.arms.items() if name.split()[0] == kind]
            figures = [arm.judged(protocol.metric) for arm in chosen]
            axes.errorbar(
                [100 * arm.discard_fraction for arm in chosen],
                [figure.mean for figure in figures],
                [figure.spread or 0.0 for figure in figures],
                marker="o" if kind == kinds[-1] else "s",
                capsize=4,
                label="lowest-rated dropped" if kind == "rater" else f"{kind} ones dropped",
                **arm_style(kind, position),
            )
        axes.set_xlim(left=0)
        axes.set(xlabel="% of the training examples dropped", ylabel=f"test {protocol.metric}")
        axes.legend()
    return figure


def final_losses(size: Size, protocol: Protocol) -> "Figure":
    """Final test loss of every arm of a size, best first: mean, spread and every seed."""
    arms = sorted(size.arms.items(), key=lambda item: -item[1].final.mean)
    main = main_arms(size, protocol)
    with drawing(0.34 * len(arms) + 0.9) as (figure, axes):
        for row, (name, arm) in enumerate(arms):
            colour = arm_style(name, 0)["color"] if name in main else GREY
            spread = arm.final.spread or 0.0
            look = {"marker": "o", "color": colour, "capsize": 4, "linewidth": 1.6}
            axes.errorbar(arm.final.mean, row, xerr=spread, **look)
            seeds = list(arm.final.by_seed.values())
            axes.plot(seeds, [row] * len(seeds), "|", color=colour, markersize=9, alpha=0.8)
        axes.set_yticks(range(len(arms)), [as_is(name.replace("_", " ")) for name, _ in arms])
        target = size.arms[protocol.reference].final.mean
        axes.axvline(target, color=INK, linewidth=0.8, alpha=0.6)
        axes.set_xlabel("final test loss, lower is better")
    return figure


def differences(protocol: Protocol, cells: Sequence[tuple[Size, str, Difference]]) -> "Figure":
    """The candidate's paired difference to every rival, with two standard errors, a row each.

    Args:
      protocol: of the study.
      cells: of `studies.scoreboard.cells`.
    """
    rows = [
        (f"{size.name}, {name.replace('_', ' ')}", difference) for size, name, difference in cells
    ][::-1]
    colours = {"better": COLOURS[0], "worse": COLOURS[4], "undecided": GREY}
    with drawing(0.24 * len(rows) + 0.9) as (figure, axes):
        for row, (_, found) in enumerate(rows):
            error = ERRORS * (found.standard_error or 0.0)
            look = {"marker": "o", "color": colours[found.outcome], "capsize": 3, "linewidth": 1.6}
            axes.errorbar(found.difference, row, xerr=error, **look)
        axes.set_yticks(range(len(rows)), [as_is(name) for name, _ in rows])
        axes.set_ylim(-0.7, len(rows) - 0.3)
        axes.axvline(0, color=INK, linewidth=0.8, alpha=0.6)
        axes.set_xlabel(f"{protocol.metric}: {as_is(protocol.candidate)} minus the other arm")
    return figure


def sweep(sweeps: Mapping[str, Sweep]) -> "Figure":
    """Validation loss against the share dropped, one line a size, each relative to its best."""
    with drawing(3.2) as (figure, axes):
        for position, (size, found) in enumerate(sweeps.items()):
            fractions = sorted(found.fractions, key=float)
            losses = [found.fractions[fraction].validation for fraction in fractions]
            best = min(loss.mean for loss in losses)
            axes.errorbar(
                [100 * float(fraction) for fraction in fractions],
                [loss.mean - best for loss in losses],
                [loss.spread or 0.0 for loss in losses],
                marker="o",
                capsize=4,
                label=as_is(size),
                color=COLOURS[position % len(COLOURS)],
            )
        chosen = next(iter(sweeps.values())).chosen
        axes.axvline(100 * chosen, color=INK, linewidth=0.8, linestyle="--", alpha=0.6)
        dropped = "% of the training windows dropped by the rater"
        axes.set(xlabel=dropped, ylabel="validation loss above the best")
        axes.legend()
    return figure
