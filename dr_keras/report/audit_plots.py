"""The figure of the audit: shares of groups before and after a choice."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dr_keras.report.plots import COLOURS, GREY, INK, as_is, drawing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 8  # groups of a dimension
_SEEN = 0.005  # a share that can be told from 0


def shares(dimensions: Mapping[str, Mapping[str, Mapping]]) -> "Figure":
    """A line for each group from its share of the corpus to that of what is kept.

    Args:
      dimensions: of `rating.audit.audit`; the ring of a group is its share of the held-out set.
    """
    shown = {
        dimension: [(name, group) for name, group in groups.items() if name in _largest(groups)]
        for dimension, groups in dimensions.items()
    }
    heights = [len(groups) for groups in shown.values()]
    grid = {"gridspec_kw": {"height_ratios": heights}, "sharex": True}
    with drawing(0.28 * sum(heights) + 0.35 * len(heights) + 0.6, len(shown), 1, **grid) as drawn:
        figure, every = drawn
        every = [every] if len(shown) == 1 else list(every[:, 0])
        for axes, (dimension, groups) in zip(every, shown.items()):
            for row, (_, group) in enumerate(groups[::-1]):
                before, after = 100 * group["share_before"], 100 * group["share_after"]
                axes.plot([before, after], [row, row], color=COLOURS[0], alpha=0.5, linewidth=2)
                axes.plot(before, row, "o", color=GREY, markersize=6)
                axes.plot(after, row, "o", color=COLOURS[0], markersize=6)
                if group["held_out_share"] is not None:
                    held_out = 100 * group["held_out_share"]
                    look = {"markerfacecolor": "none", "color": INK, "markersize": 10}
                    axes.plot(held_out, row, "o", **look)
            axes.set_yticks(range(len(groups)), [as_is(name[:40]) for name, _ in groups[::-1]])
            axes.set_ylim(-0.6, len(groups) - 0.4)
            axes.set_title(f"by {as_is(dimension.replace('_', ' '))}", loc="left")
        every[-1].set_xlabel("share, %")
        every[-1].set_xlim(left=-2)  # rings at 0 are whole
    return figure


def _largest(groups: Mapping[str, Mapping]) -> list[str]:
    """The groups to draw: at least the largest, and no dots that all lie at 0."""
    ordered = sorted(groups, key=lambda name: -groups[name]["share_before"])[:SHOWN]
    large = [name for name in ordered if _most(groups[name]) >= _SEEN]
    return large or ordered[:1]


def _most(group: Mapping) -> float:
    return max(group["share_before"], group["share_after"], group["held_out_share"] or 0.0)
