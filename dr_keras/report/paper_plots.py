"""Figures as Calian et al. (2025) draw them: checkpoints (9), tasks while training (5), compute
saved (1), and the cells that improve (6)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dr_keras.report.plots import COLOURS, GREY, INK, as_is, panels
from dr_keras.studies.paired import ERRORS, difference
from dr_keras.studies.sizes import LOSS, Protocol, Size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def figures_of(size: Size) -> list[str]:
    """The loss, and the likelihoods of the tasks that were asked."""
    metrics = next(iter(size.arms.values())).metrics
    return [LOSS, *(name for name in metrics if name.endswith(" likelihood"))]


def gain(size: Size, arm: str, reference: str, name: str) -> tuple[float, float | None]:
    """How much better an arm is than the reference, by seed: mean and its standard error.

    Args:
      size: of the models.
      arm, reference: names of arms.
      name: `LOSS`, of which less is better, or a metric, of which more is.
    """
    sign = -1.0 if name == LOSS else 1.0
    found = difference(size.arms[arm].judged(name), size.arms[reference].judged(name))
    return sign * found.difference, found.standard_error


def improvement(size: Size, protocol: Protocol, runs: Mapping[str, Mapping]) -> "Figure":
    """Improvement against meta-steps: a panel for the loss and each task, a line for each run.

    Args:
      size: with an arm for every checkpoint.
      protocol: of the study.
      runs: inner model -> "meta_steps" and "arms" of its run.
    """
    with panels(figures_of(size), 3, 2.7, width=9.0, sharex=True) as (figure, shown):
        for axes, name in shown:
            _improvement_panel(axes, name, size, protocol, runs)
        figure.supxlabel("meta-steps")
        shown[0][0].legend(fontsize=8, title="inner models", title_fontsize=8)
    return figure


def _improvement_panel(axes: "Axes", name: str, size: Size, protocol: Protocol, runs) -> None:
    for position, (label, run) in enumerate(runs.items()):
        gains = [gain(size, arm, protocol.reference, name) for arm in run["arms"]]
        axes.errorbar(
            run["meta_steps"],
            [mean for mean, _ in gains],
            [ERRORS * (error or 0.0) for _, error in gains],
            marker="os^Dv"[position % 5],
            capsize=3,
            color=COLOURS[position % len(COLOURS)],
            label=as_is(label),
        )
    axes.axhline(0, color=INK, linewidth=0.8, alpha=0.6)
    for baseline in protocol.baselines:
        if baseline in size.arms:
            mean, _ = gain(size, baseline, protocol.reference, name)
            axes.axhline(mean, color=GREY, linewidth=1.2, linestyle="--")
    unit = "nats per token less" if name == LOSS else "nats per byte more"
    axes.set_title(f"{as_is(name)}, {unit}")
