"""Judges the raters of a run anew, as long and as often as you ask for.

How well does a fresh model train on what each would keep? A run judges its best rater beside a
random choice when it ends; this does so for any checkpoints of --base_dir:

  --base_dir=runs/mine --gin_param "MetaEvaluation.updates = 300" \\
      --gin_param "MetaEvaluation.repeats = 3"

Without --gin_file, the configuration that the run recorded is used. Nothing is written; take the
rater that you prefer with `dr-keras export-rater --checkpoint=STEP`.
"""

from collections.abc import Sequence
import math
import os
import statistics
from typing import TYPE_CHECKING

from dr_keras.commands import common, flags

if TYPE_CHECKING:
    from dr_keras.runs.meta_training import PairedGain


@common.verb("meta-evaluate", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints a line for each rater, beside a random choice."""
    parser.add_argument(
        "--checkpoints",
        default="",
        metavar="STEP,STEP",
        help="meta-steps of the raters to judge, with commas between (default: all that are kept)",
    )
    flags.add_input(parser)
    flags.add_target(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.config.configuration import PARSED_CONFIG
    from dr_keras.runs.meta_training import choose_step, meta_evaluate

    steps = [step.strip() for step in arguments.checkpoints.split(",") if step.strip()]
    for step in steps or ["latest"]:  # an error now, not after the data were read
        choose_step(arguments.base_dir, step)
    common.parse_gin(arguments, os.path.join(arguments.base_dir, PARSED_CONFIG))
    print(f"{'':14}{'validation loss':>16}   less than a random choice ± standard error, by pairs")
    chance: list[float] = []
    for step, losses, gain in meta_evaluate(arguments.base_dir, [int(s) for s in steps] or None):
        chance = chance or losses
        print(line(step, losses, chance, gain), flush=True)


def line(
    step: int | None,
    losses: Sequence[float],
    chance: Sequence[float],
    gain: "PairedGain | None" = None,
) -> str:
    """What is printed of one rater (of the random choice where `step` is None).

    Args:
      step: the rater's meta-step.
      losses, chance: of each training, the rater's and the random choice's.
      gain: of the rater.
    """
    name = "random choice" if step is None else f"meta-step {step}"
    shown = f"{name:<14}{_mean_and_spread(losses):>16}"
    if step is None or gain is None:
        return shown
    won = sum(loss < other for loss, other in zip(losses, chance))
    difference = "not finite" if gain.gain is None else f"{gain.gain:.4f}"
    if gain.standard_error is not None:
        difference += f" ± {gain.standard_error:.4f} ({gain.outcome})"
    return f"{shown}   {difference}, lower in {won} of {len(losses)}"


def _mean_and_spread(values: Sequence[float]) -> str:
    mean = statistics.fmean(values)
    if len(values) == 1 or not math.isfinite(mean):
        return f"{mean:.4f}"
    return f"{mean:.4f} ± {statistics.stdev(values):.4f}"
