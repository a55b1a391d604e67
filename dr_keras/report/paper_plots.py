"""Figures as Calian et al. (2025) draw them: checkpoints (9), tasks while training (5), compute
saved (1), and the cells that improve (6)."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_keras.report.plots import (
    COLOURS,
    GREY,
    INK,
    arm_style,
    as_is,
    drawing,
    main_arms,
    note,
    panels,
)
from dr_keras.studies.paired import ERRORS, difference
from dr_keras.studies.results import Results
from dr_keras.studies.scoreboard import Improvement
from dr_keras.studies.sizes import LOSS, Protocol, Size, percent

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
    axes.set_title(as_is(name.replace("_", " ")))


def task_curves(size: Size, protocol: Protocol, chance: Mapping[str, float]) -> "Figure":
    """Accuracies and likelihoods of tasks while the main arms train: means, bands over seeds.

    Args:
      size: whose arms have `metric_curves`.
      protocol: of the study.
      chance: task -> accuracy of a guess, dotted.
    """
    arms = main_arms(size, protocol)
    names = list(size.arms[protocol.reference].metric_curves)
    with panels(names, 3, 2.4, width=9.0, sharex=True) as (figure, shown):
        for axes, name in shown:
            for position, (arm, found) in enumerate(arms.items()):
                curve, look = found.metric_curves[name], arm_style(arm, position)
                x, mean = np.asarray(curve.mean, float).T
                axes.plot(x, mean, linewidth=1.8, label=as_is(arm), **look)
                if curve.spread:
                    spread = np.asarray(curve.spread, float)[:, 1]
                    band = {"color": look["color"], "alpha": 0.2, "linewidth": 0}
                    axes.fill_between(x, mean - spread, mean + spread, **band)
            task, _, kind = name.rpartition(" ")
            if kind == "accuracy" and task in chance:
                axes.axhline(chance[task], color=INK, linestyle=":", linewidth=1, alpha=0.7)
            axes.set_title(as_is(name.replace("_", " ")))
        shown[0][0].legend(fontsize=8)
        figure.supxlabel("training steps")
    return figure


def compute_saved(results: Results) -> "Figure":
    """What reaching the reference's final loss costs, as a share of its run: a bar an arm and size.

    A bar is made of training and of scoring; light is what is saved. What was made once is said
    beside it, in runs of the reference.
    """
    protocol = results.protocol
    rows = [
        (size, name, arm.account)
        for size in results.sizes
        for name, arm in main_arms(size, protocol).items()
        if name != protocol.reference
    ][::-1]
    kinds = {"training": COLOURS[0], "scoring": COLOURS[1]}
    with drawing(0.42 * len(rows) + 1.3) as (figure, axes):
        for row, (size, _, account) in enumerate(rows):
            full = size.arms[protocol.reference].account.run.total
            if account.flops_share is None:
                text = f"never reaches the loss of {protocol.reference}"
                note(axes, text, (100, row), (8, 0), va="center", fontsize=9)
                continue
            training = 1 - account.saving_shared / full
            parts, left = (training, account.flops_share - training), 0.0
            for part, colour in zip(parts, kinds.values()):
                axes.barh(row, 100 * part, left=left, height=0.6, color=colour)
                left += 100 * part
            axes.barh(row, max(100 - left, 0), left=left, height=0.6, color=COLOURS[0], alpha=0.15)
            saved = 1 - account.flops_share
            said = percent(abs(saved))
            said += "" if account.spread is None else f" ± {100 * account.spread:.0f}"
            said += " saved" if saved >= 0 else " more"
            if account.making:
                said += f"; made once: {account.making / full:.3g} runs"
            note(axes, said, (max(left, 100), row), (8, 0), va="center", fontsize=9)
        names = [f"{as_is(size.name)}, {as_is(name.replace('_', ' '))}" for size, name, _ in rows]
        axes.set_yticks(range(len(rows)), names)
        axes.axvline(100, color=INK, linewidth=1, linestyle="--", alpha=0.7)
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlim(0, 1.75 * max(100.0, axes.get_xlim()[1] / 1.05))
        axes.set_xlabel(f"% of the operations of the whole run of {as_is(protocol.reference)}")
        looks = [{"color": colour, "label": kind} for kind, colour in kinds.items()]
        patches = [axes.barh(0, 0, **look) for look in looks]
        figure.legend(handles=patches, loc="outside upper center", ncols=2, fontsize=8)
    return figure


def improved_cells(cells: Sequence[Improvement]) -> "Figure":
    """A square for each figure and size: how much better the candidate is than the reference.

    Blue is better, red worse; strong where it is more than two standard errors.
    """
    sizes = list(dict.fromkeys(cell.size for cell in cells))
    names = list(dict.fromkeys(cell.name for cell in cells))
    looks = {"better": (COLOURS[0], 0.9), "worse": (COLOURS[4], 0.9)}
    with drawing(0.34 * len(names) + 0.8, width=min(7.4, 3.4 + 1.1 * len(sizes))) as drawn:
        figure, axes = drawn
        for cell in cells:
            x, y = sizes.index(cell.size), len(names) - 1 - names.index(cell.name)
            weak = COLOURS[0] if cell.gain > 0 else COLOURS[4] if cell.gain < 0 else GREY
            colour, alpha = looks.get(cell.difference.outcome, (weak, 0.25))
            axes.barh(y, 0.96, left=x - 0.48, height=0.92, color=colour, alpha=alpha)
            axes.text(x, y, f"{cell.gain + 0.0:+.3f}", ha="center", va="center", fontsize=8)
        axes.set_xticks(range(len(sizes)), [as_is(name) for name in sizes])
        axes.set_yticks(range(len(names)), [as_is(n.replace("_", " ")) for n in names[::-1]])
        axes.set_ylim(-0.6, len(names) - 0.4)
        axes.tick_params(length=0)
        axes.grid(False)
    return figure
