"""Meta-trains a rater and retrains models without what it rates lowest.

The rater is exported. Each arm (everything, without the lowest-rated 10, 25, 50%, without as many
random ones) is trained from several seeds; results.json and report.html say which did better. A
second call goes on where the first one stopped.
"""

from collections.abc import Sequence
import pathlib

from dr_keras.commands import common, flags
from dr_keras.system.extras import require_study_extra


@common.verb("retraining-study", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the table of arms, the verdict, and where the report is."""
    flags.add_workers(parser)
    arguments = parser.parse_args(argv)
    require_study_extra()
    from dr_keras.report.page import write_report
    from dr_keras.report.sections.arms import as_text
    from dr_keras.studies.retraining import Retraining

    common.parse_gin(arguments)
    base_dir = pathlib.Path(arguments.base_dir)
    found = Retraining().run(base_dir, write_report)
    print(f"\n{as_text(found)}\n\n{found.answer.text}\n")
    line = found.rater.line
    if line is not None and line.reason is None:
        print(
            f"score against corruption on {line.measured_on}: slope {line.slope:.4g},"
            f" Pearson {line.pearson:.3f}, Spearman {line.spearman:.3f}"
        )
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    print(f"rater:   {base_dir / 'export'}\ncurves:  tensorboard --logdir {base_dir}")
