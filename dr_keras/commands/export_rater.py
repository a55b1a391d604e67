"""Exports the rater of a run as a SavedModel.

It comes to <base_dir>/export/<version>/. Without --gin_file, the configuration that the run
recorded is used.
"""

from collections.abc import Sequence
import os

from dr_keras.commands import common, flags


@common.verb("export-rater", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints which rater it is, why, and where it lies."""
    flags.add_checkpoint(parser)
    flags.add_input(parser)
    flags.add_target(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.config.configuration import PARSED_CONFIG
    from dr_keras.runs.export import export_run
    from dr_keras.runs.meta_training import choose_step
    from dr_keras.serving import folder

    step, reason = choose_step(arguments.base_dir, arguments.checkpoint)
    common.parse_gin(arguments, os.path.join(arguments.base_dir, PARSED_CONFIG))
    print(f"exporting the rater of meta-step {step}: {reason}")
    path = export_run(arguments.base_dir, arguments.checkpoint)
    if beside := folder.read(path)["training"].get("reference_loss"):
        print(
            f"its reference model loses {beside['mean']:.4f} on the reference sample; rank"
            f" correlation of that loss with the score: {beside['rank_correlation']}"
        )
    print(path)
