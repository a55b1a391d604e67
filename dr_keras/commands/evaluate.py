"""Does the filtered corpus train better models for less compute? The evidence protocol.

Trains language models of several sizes and seeds on what a rater keeps of a corpus and on what
other ways of choosing keep; results.json and report.html in --base_dir say which did better, by how
much, and what it cost. A second call goes on where the first one stopped; the same call from other
processes or machines that share --base_dir takes its part of the work. For instance

  --gin_file=experiments/evidence_minutes.gin --base_dir=runs/evidence
"""

from collections.abc import Sequence
import pathlib
import sys

from dr_keras.commands import common


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.argument_parser(__doc__)
    common.add_workers(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.report.page import write_report  # after the quiet start-up
    from dr_keras.report.sections.arms import as_text
    from dr_keras.studies import evidence

    common.parse_gin(arguments)
    base_dir = pathlib.Path(arguments.base_dir)
    found = evidence.Evidence().run(base_dir, write_report)
    print(f"\n{as_text(found)}\n\n{found.answer.text}")
    print(f"recommendation: {found.answer.recommendation}\n")
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    print(f"curves:  tensorboard --logdir {base_dir / 'summaries'}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-evaluate`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
