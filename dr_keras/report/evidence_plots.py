"""Figures of the evidence report."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
import numpy as np

from dr_keras.report import plots

# Arms that the answer is about; the others have a figure of their own.
MAIN = ("unfiltered", "random", "rater")


def loss_against_flops(sizes: Sequence[Mapping]) -> Figure:
    """Test loss against the FLOPs spent, scoring included: a panel a size, a line a main arm.

    Bands are standard deviations over seeds. The height of the unfiltered arm's final loss is
    marked, and where the rater's arm reaches it. The first steps run off the top.
    """
    columns = min(3, len(sizes))
    rows = -(-len(sizes) // columns)
    with plots.style():
        figure = Figure(
            figsize=(7.4 if columns < 3 else 9.6, 3.6 * rows if columns > 1 else 4.0),
            layout="constrained",
        )
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(sizes) :]:
            axes.axis("off")
        for axes, size in zip(grid.flat, sizes):
            _panel(axes, size)
        figure.supxlabel("FLOPs, scoring included", fontsize=10)
        figure.supylabel("test loss (nats per token)", fontsize=10)
    return figure


def _panel(axes, size: Mapping) -> None:
    shown, ends = [], []
    for position, name in enumerate(n for n in MAIN if n in size["arms"]):
        arm = size["arms"][name]
        points = np.asarray(arm["mean"], float)
        cost = points[:, 0] / points[-1, 0] * arm["account"]["run"]["total"]
        look = plots.arm_style(name, position)
        axes.plot(cost, points[:, 1], linewidth=2, label=name, **look)
        if arm["spread"]:
            spread = np.asarray(arm["spread"], float)[:, 1]
            axes.fill_between(
                cost, points[:, 1] - spread, points[:, 1] + spread, color=look["color"],
                alpha=0.2, linewidth=0,
            )  # fmt: skip
        late = points[points[:, 0] >= 0.12 * points[-1, 0]]
        shown += [late[:, 1].max(), points[:, 1].min()]
        ends.append(cost[-1])
    room = (max(shown) - min(shown)) * 0.06 or 0.05
    axes.set_ylim(min(shown) - 1.5 * room, max(shown) + room)
    axes.set_xlim(0, max(ends))
    reference = size["arms"]["unfiltered"]
    target = reference["final"]["mean"]
    axes.axhline(target, color=plots.INK, linewidth=0.8, alpha=0.6)
    account = size["arms"]["rater"]["account"]
    if account["flops_share"] is not None:
        reached = account["flops_share"] * reference["account"]["run"]["total"]
        axes.plot([reached], [target], "o", color=plots.INK, markersize=6, zorder=5)
        leftwards = reached > 0.5 * max(ends)
        label = axes.annotate(
            f"{100 * account['flops_share']:.0f}% of the FLOPs", (reached, target),
            xytext=(-12 if leftwards else 12, -14), textcoords="offset points",
            ha="right" if leftwards else "left", va="center", annotation_clip=False,
        )  # fmt: skip
        label.set_in_layout(False)  # the panel keeps its width
    axes.set_title(f"{size['name']} ({size['parameters']:,} parameters)", fontsize=10,
                   color=plots.INK)  # fmt: skip
    axes.legend(fontsize=8)


def final_losses(size: Mapping) -> Figure:
    """Final test loss of every arm of a size, best first: mean, spread and every seed."""
    arms = sorted(size["arms"].items(), key=lambda item: -item[1]["final"]["mean"])
    with plots.style():
        figure = Figure(figsize=(7.4, 0.34 * len(arms) + 0.9), layout="constrained")
        axes = figure.add_subplot()
        for row, (name, arm) in enumerate(arms):
            colour = plots.arm_style(name, 0)["color"] if name in MAIN else "#808080"
            final = arm["final"]
            axes.errorbar(
                [final["mean"]], [row], xerr=[final["spread"] or 0.0], marker="o", color=colour,
                capsize=4, linewidth=1.6,
            )  # fmt: skip
            seeds = list(final["by_seed"].values())
            axes.plot(seeds, [row] * len(seeds), "|", color=colour, markersize=9, alpha=0.8)
        axes.set_yticks(range(len(arms)), [name.replace("_", " ") for name, _ in arms])
        axes.axvline(
            size["arms"]["unfiltered"]["final"]["mean"], color=plots.INK, linewidth=0.8, alpha=0.6
        )
        axes.set_xlabel("final test loss (nats per token), lower is better")
    return figure


def sweep(sweeps: Mapping[str, Mapping]) -> Figure:
    """Validation loss against the share dropped, one line a size, each relative to its best."""
    with plots.style():
        figure = Figure(figsize=(7.4, 3.2), layout="constrained")
        axes = figure.add_subplot()
        for position, (size, found) in enumerate(sweeps.items()):
            fractions = sorted(found["fractions"], key=float)
            values = [found["fractions"][f]["validation"] for f in fractions]
            best = min(value["mean"] for value in values)
            axes.errorbar(
                [100 * float(f) for f in fractions], [value["mean"] - best for value in values],
                [value["spread"] or 0.0 for value in values], marker="o", capsize=4, label=size,
                color=plots.COLOURS[position % len(plots.COLOURS)],
            )  # fmt: skip
        chosen = next(iter(sweeps.values()))["chosen"]
        axes.axvline(100 * chosen, color=plots.INK, linewidth=0.8, linestyle="--", alpha=0.6)
        axes.set_xlabel("% of the training windows dropped by the rater")
        axes.set_ylabel("validation loss above the best")
        axes.legend()
    return figure
