"""Flags that several verbs take."""

import argparse
from collections.abc import Sequence
import pathlib

from dr_keras.system.extras import require_study_extra


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --checkpoint, of the commands about one rater of a run."""
    parser.add_argument(
        "--checkpoint",
        default="best",
        metavar="best|latest|STEP",
        help="which rater: best by meta-evaluation (the default), the latest, or a meta-step",
    )


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Adds --workers, of the commands that train many models."""
    parser.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that train models; 0 trains them in this one (default: one a core for"
        " models too small to use two). The same as --gin_param 'Workers.count = N'",
    )


def add_elsewhere(parser: argparse.ArgumentParser) -> None:
    """Adds --elsewhere, of the studies that compare by losses."""
    parser.add_argument(
        "--elsewhere",
        metavar="DIR",
        help="write the models to be trained into DIR, for tools/train_cells.py on a machine with a"
        " GPU, and take from there what it has trained. The same as --gin_param"
        " \"Elsewhere.folder = 'DIR'\"",
    )


def study_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None
) -> tuple[argparse.Namespace, pathlib.Path]:
    """The arguments of a study of a corpus, and its folder; asks for the extra that it needs."""
    add_workers(parser)
    add_elsewhere(parser)
    add_input(parser)
    add_target(parser)
    arguments = parser.parse_args(argv)
    require_study_extra()
    return arguments, pathlib.Path(arguments.base_dir)


def add_input(parser: argparse.ArgumentParser, *arguments: str) -> None:
    """Adds --input, of the commands whose configuration says where the data is from.

    Args:
      parser: of the verb.
      arguments: further arguments than "text_data.corpus" that take a corpus of files.
    """
    parser.set_defaults(input_arguments=arguments)
    parser.add_argument(
        "--input",
        metavar="PATH",
        help="the corpus: a file or folder of JSONL, text, Parquet or other files, or a folder"
        " that dr-keras prepare has written, of any size",
    )


def add_target(parser: argparse.ArgumentParser) -> None:
    """Adds --target and --group_field, of the commands that read a corpus by gin's `text_data`."""
    parser.add_argument(
        "--target",
        dest="targets",
        action="append",
        default=[],
        metavar="PATH",
        help="text of the kind that models are to be good at, a file or folder as for a corpus: it"
        " guides the rater and is what the verdict is about. Given several times: one rater for all"
        " of them together",
    )
    parser.add_argument(
        "--group_field",
        metavar="FIELD",
        help="the field of records (column, feature) that versions of one document share, such as a"
        " page or address: they are held out together",
    )
