"""Meta-trains a rater and retrains models without what it rates lowest.

The rater is exported. Each arm (everything, without the lowest-rated 10, 25, 50%, without as many
random ones) is trained from several seeds; results.json and report.html say which did better. A
second call goes on where the first one stopped.
"""

from collections.abc import Sequence
import pathlib

from dr_keras.commands import common
from dr_keras.system.extras import require_study_extra


@common.verb("retraining-study", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the table of arms, the verdict, and where the report is."""
    arguments = parser.parse_args(argv)
    require_study_extra()
    from dr_keras.studies import retraining as retraining_study

    common.parse_gin(arguments)
    base_dir = pathlib.Path(arguments.base_dir)
    found = retraining_study.retraining_study(base_dir)
    print(f"\n{table(found)}\n\n{found['headline']['text']}\n")
    line = found["rater"].get("line")
    if line and line["pearson"] is not None:
        print(
            f"score against corruption on {line['measured_on']}: slope {line['slope']:.4g},"
            f" Pearson {line['pearson']:.3f}, Spearman {line['spearman']:.3f}"
        )
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    print(f"rater:   {base_dir / 'export'}\ncurves:  tensorboard --logdir {base_dir}")


def table(found: dict) -> str:
    """The arms as lines of text."""
    comparison = found["comparisons"][0]
    metric = found["settings"]["metric"]
    head = f"{'arm':14}{'examples':>10}{'corrupted':>11}{'mislabelled':>13}{metric:>20}"
    lines = [head]
    for name, arm in comparison["arms"].items():
        dropped = arm.get("dropped", {})
        shares = [
            f"{100 * dropped[kind] / dropped['examples']:.1f}%" if kind in dropped else "-"
            for kind in ("corrupted", "mislabelled")
        ]
        figures = arm["metrics"][metric]
        spread = "" if figures["spread"] is None else f" ± {figures['spread']:.4f}"
        value = f"{figures['mean']:.4f}{spread}"
        lines.append(f"{name:14}{arm['examples']:>10,}{shares[0]:>11}{shares[1]:>13}{value:>20}")
    lines.append("(corrupted and mislabelled: share of what the arm leaves out)")
    return "\n".join(lines)
