"""Meta-trains a rater, filters a corpus with it, reports whether that helped.

Exports the rater, and trains language models on unfiltered, randomly filtered and rater-filtered
text. With --target, the text that you want models to be good at, the rater learns what of your
corpus helps there, and the verdict is about the loss there:

  dr-keras quickstart --input corpus/ --target good.jsonl

Without --input it uses the prose of the Python installation, half of its training text damaged. A
second call goes on where the first one stopped.
"""

import argparse
from collections.abc import Sequence
import hashlib
import os
import pathlib
import shutil

from dr_keras.commands import common, flags
from dr_keras.system.extras import require_study_extra


@common.verb("quickstart", common.Task.WHOLE, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Compares in a run folder and prints the table, the verdict and where the report is."""
    flags.add_input(parser, "compare_filtered.corpus")
    parser.add_argument(
        "--base_dir",
        metavar="DIR",
        help="run folder (default: runs/quickstart, or one named after the input)",
    )
    parser.add_argument(
        "--anyway",
        action="store_true",
        help="filter and compare even where the judgement after meta-training is not to filter",
    )
    parser.add_argument("--fresh", action="store_true", help="remove the run folder and start over")
    flags.add_target(parser)
    flags.add_workers(parser)
    arguments = parser.parse_args(argv)
    _check_inputs(arguments)
    require_study_extra()
    from dr_keras.report.page import write_report
    from dr_keras.report.sections.arms import as_text
    from dr_keras.studies import quickstart

    base_dir = pathlib.Path(
        arguments.base_dir or _default_folder(arguments.input, arguments.targets)
    )
    name = "quickstart_input" if arguments.input else "quickstart"
    common.parse_gin(arguments, f"experiments/{name}.gin")
    if arguments.fresh:
        _remove(base_dir)
    print(f"run folder: {base_dir}", flush=True)
    study = quickstart.QuickStart(title=_title(arguments), anyway=arguments.anyway)
    found = study.run(base_dir, write_report)
    shown = [as_text(found), found.answer.text] if found.sizes else []
    print("\n" + "\n\n".join(shown or [found.answer.text, found.answer.figures]) + "\n")
    print(f"report:  {base_dir / 'report.html'}\nfigures: {base_dir / 'results.json'}")
    if found.rater is not None:
        print(f"rater:   {base_dir / 'export'}")
    print(f"curves:  tensorboard --logdir {base_dir}")


def _title(arguments: argparse.Namespace) -> str:
    if not arguments.input:
        return "dr_keras quick start"
    of = f", for {' and '.join(arguments.targets)}" if arguments.targets else ""
    return f"dr_keras on {arguments.input}{of}"


def _check_inputs(arguments: argparse.Namespace) -> None:
    """Raises ConfigurationError about a target without a corpus."""
    from dr_keras.errors import ConfigurationError

    if arguments.targets and not (arguments.input or arguments.gin_files):
        raise ConfigurationError(
            "--target says what text you want; name the corpus to choose from as well, with"
            " --input PATH."
        )


def _default_folder(path: str | None, targets: Sequence[str]) -> pathlib.Path:
    if not path:
        return pathlib.Path("runs") / "quickstart"
    # Two inputs of the same name in different places are different runs.
    places = "\n".join(map(os.path.abspath, [path, *targets]))
    place = hashlib.sha256(places.encode()).hexdigest()[:8]
    names = "-for-".join(pathlib.Path(each).stem or "input" for each in [path, *targets][:2])
    return pathlib.Path("runs") / f"{names}-{place}"


def _remove(base_dir: pathlib.Path) -> None:
    """Removes a run folder, and nothing that is none."""
    from dr_keras.config.configuration import PARSED_CONFIG
    from dr_keras.errors import CheckpointError, ConfigurationError
    from dr_keras.system import locks

    if not base_dir.exists():
        return
    holds_anything = any(not locks.is_lock(path.name) for path in base_dir.iterdir())
    if holds_anything and not (base_dir / PARSED_CONFIG).exists():
        raise ConfigurationError(
            f"--fresh: {base_dir} holds something else than a run; name another --base_dir or"
            " empty it yourself."
        )
    with locks.alone(base_dir, "a quick start", CheckpointError):
        shutil.rmtree(base_dir)
