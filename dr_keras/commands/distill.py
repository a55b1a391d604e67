"""Fits a rater that costs little to exported ones, and holds it against them.

  dr-keras distill --rater runs/mine/export --input corpus/ --output_dir runs/student

The text needs no labels. The student (hashed n-grams of tokens; --gin_file runs/distill_network.gin
for a small network) is a rater like any other: <output_dir>/export is scored and filtered with.
report.html says how well it follows its teacher on documents that neither fit nor teacher has
learned from, by source too, and what both cost. Several --rater are averaged. A second call goes
on where the first one stopped.
"""

import argparse
from collections.abc import Sequence
import os
import pathlib

from dr_keras.commands import common, flags
from dr_keras.errors import ConfigurationError
from dr_keras.system.extras import require_study_extra


@common.verb("distill", common.Task.LEARN, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints how well the student follows, what it costs, and where it lies."""
    parser.add_argument(
        "--rater",
        dest="raters",
        action="append",
        default=[],
        metavar="PATH",
        help="the teacher: an exported rater of text, or the name of one that comes with dr_keras."
        " Given several times, such as for seeds of one run: the mean of their percentiles",
    )
    parser.add_argument("--output_dir", required=True, metavar="DIR", help="made if missing")
    flags.add_input(parser)
    arguments = parser.parse_args(argv)
    require_study_extra()
    from dr_keras.report.distillation import as_text, write_page
    from dr_keras.runs.distillation import distill
    from dr_keras.studies.distillation import compared

    if arguments.raters:
        given = [_place(path) for path in arguments.raters]
        arguments.gin_params = [f"TEACHERS = {given!r}", *arguments.gin_params]
    elif not _bound(arguments, "TEACHERS"):
        raise ConfigurationError(
            "a student needs a teacher: --rater PATH, an exported rater of text or the name of one"
            " that comes with dr_keras."
        )
    if arguments.input is None and not _bound(arguments, "CORPUS"):
        raise ConfigurationError(
            "a student needs text to learn on: --input PATH, or --gin_param 'CORPUS = @...'."
        )
    common.parse_gin(arguments, "runs/distill.gin")
    output_dir = pathlib.Path(arguments.output_dir)
    made = distill(output_dir)
    found = compared(made, output_dir)
    write_page(found, output_dir / "report.html")
    print(as_text(found))
    print(f"\nreport:  {output_dir / 'report.html'}\nfigures: {output_dir / 'distillation.json'}")
    print(f"rater:   {made.path}")


def _bound(arguments: argparse.Namespace, macro: str) -> bool:
    """Whether a binding of the command line, or perhaps a gin file, gives it a value."""
    given = any(binding.split("=")[0].strip() == macro for binding in arguments.gin_params)
    return given or any("distill" not in os.path.basename(name) for name in arguments.gin_files)


def _place(path: str) -> str:
    """As it is the same from every folder; the name of a rater that ships stays one."""
    return path if "://" in path or not os.path.exists(path) else os.path.abspath(path)
