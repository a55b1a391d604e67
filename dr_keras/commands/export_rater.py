"""Exports the rater of a run as a SavedModel, and as files of other formats.

It comes to <base_dir>/export/<version>/. Without --gin_file, the configuration that the run
recorded is used. With --format, files for other runtimes come beside it; --rater in place of
--base_dir makes them of a rater that is exported already, such as a student:

  dr-keras export-rater --rater runs/student/export --format litert --format onnx --int8
"""

import argparse
from collections.abc import Sequence
import os

from dr_keras.commands import common, corpus_files, flags
from dr_keras.errors import ConfigurationError


@common.verb("export-rater", common.Task.LEARN, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints which rater it is, why, and where it lies; and how its other files compare."""
    _add_flags(parser)
    arguments = parser.parse_args(argv)
    _check(arguments)
    from dr_keras.data.prepare import corpus_from_path
    from dr_keras.runs.conversion import convert_rater
    from dr_keras.serving.loading import load_rater
    from dr_keras.serving.portable import find_formats

    find_formats(arguments.formats)  # before any work
    if arguments.rater:
        common.parse_gin(arguments)
        rater = load_rater(arguments.rater, trusted=arguments.trust_rater)
    else:
        path = _export(arguments)
        if not arguments.formats:
            return
        rater = load_rater(path, trusted=True)  # it was made here
    for converted in convert_rater(
        rater,
        arguments.formats,
        arguments.output_dir,
        arguments.int8,
        arguments.batch,
        corpus_from_path(arguments.text).documents() if arguments.text else None,
    ):
        print(converted)


def _add_flags(parser: common.ArgumentParser) -> None:
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--base_dir", metavar="DIR", help="the run whose rater is exported")
    which.add_argument(
        "--rater", metavar="PATH", help="a rater that is exported already; then give --format"
    )
    flags.add_checkpoint(parser)
    flags.add_input(parser)
    flags.add_target(parser)
    parser.add_argument(
        "--format",
        dest="formats",
        action="append",
        default=[],
        metavar="litert|onnx",
        help="a file for another runtime beside the SavedModel; may be repeated",
    )
    parser.add_argument(
        "--int8", action="store_true", help="each file a second time, with weights of 8 bits"
    )
    parser.add_argument(
        "--batch",
        type=int,
        metavar="N",
        help="windows in each call of a file (default: any number)",
    )
    parser.add_argument(
        "--text",
        metavar="PATH",
        help="a corpus on whose windows the files are compared with the SavedModel (default: the"
        " prose of the Python installation)",
    )
    parser.add_argument(
        "--output_dir",
        metavar="DIR",
        help="for the files of --format (default: beside the SavedModel)",
    )
    corpus_files.add_trust(parser)


def _check(arguments: argparse.Namespace) -> None:
    """Raises ConfigurationError where flags do not go together."""
    if arguments.rater and not arguments.formats:
        raise ConfigurationError(
            "--rater is exported already: say what else it should become (--format litert, --format"
            " onnx), or name a run (--base_dir)."
        )
    of_run = {
        "--checkpoint": arguments.checkpoint != "best",
        "--input": arguments.input,
        "--target": arguments.targets,
        "--group_field": arguments.group_field,
    }
    of_files = {
        "--int8": arguments.int8,
        "--batch": arguments.batch is not None,
        "--text": arguments.text,
        "--output_dir": arguments.output_dir,
    }
    for wrong, given, right in (
        (arguments.rater, of_run, "--base_dir"),
        (not arguments.formats, of_files, "--format"),
    ):
        named = [flag for flag, value in given.items() if value]
        if wrong and named:
            raise ConfigurationError(
                f"{', '.join(named)} goes with {right} alone: leave it out, or give {right}."
            )


def _export(arguments: argparse.Namespace) -> str:
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
    return path
