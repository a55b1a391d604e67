"""Exports the rater of a run as a SavedModel to <base_dir>/export/<version>/.

Without --gin_file, the configuration that the run recorded is used.
"""

from collections.abc import Sequence
import os
import sys

from dr_keras.commands import common


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.argument_parser(__doc__)
    parser.add_argument(
        "--checkpoint",
        default="best",
        metavar="best|latest|STEP",
        help="which rater: best by meta-evaluation (the default), the latest, or a meta-step",
    )
    arguments = parser.parse_args(argv)
    from dr_keras.config.run_configuration import PARSED_CONFIG
    from dr_keras.runs.export import export_run
    from dr_keras.runs.meta_training import choose_step

    step, reason = choose_step(arguments.base_dir, arguments.checkpoint)
    if not arguments.gin_files:
        arguments.gin_files = [os.path.join(arguments.base_dir, PARSED_CONFIG)]
    common.parse_gin(arguments)
    print(f"exporting the rater of meta-step {step}: {reason}")
    print(export_run(arguments.base_dir, arguments.checkpoint))
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-export-rater`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
