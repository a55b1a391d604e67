#!/usr/bin/env python3
"""Makes a rater that ships with dr_keras anew: meta-trains it, exports it, and puts it in place.

  tools/build_savedmodel.py
  tools/build_savedmodel.py --name explaining_prose --gin_file experiments/explaining_prose.gin

The first is the one of the quick start, which tells damaged from clean prose. A second call goes on
where the first one stopped. For the checkout, where savedmodels/ is part of the repository.
"""

from collections.abc import Sequence
import os
from pathlib import Path
import shutil
import sys

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands import common


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.ArgumentParser(__doc__, base_dir=False)
    parser.add_argument(
        "--name",
        default="damaged_prose",
        help="of the rater, by which load_rater finds it (default: damaged_prose)",
    )
    parser.add_argument(
        "--base_dir", metavar="DIR", help="run directory (default: runs/savedmodels/<name>)"
    )
    parser.add_argument(
        "--output_dir",
        metavar="DIR",
        help="folder of the raters (default: the one that comes with dr_keras)",
    )
    arguments = parser.parse_args(argv)
    from dr_keras.config.gin_files import packaged_folder
    from dr_keras.runs.experiment import experiment
    from dr_keras.runs.export import export_run
    from dr_keras.runs.meta_training import meta_train

    common.parse_gin(arguments, "experiments/quickstart.gin")
    base_dir = Path(arguments.base_dir or Path("runs", "savedmodels", arguments.name))
    target = Path(arguments.output_dir or packaged_folder("savedmodels")) / arguments.name
    setup = experiment()
    meta_train(base_dir, setup)
    exported = Path(export_run(base_dir, "best", setup))
    replace_folder(exported, target / "1")
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    print(f"{target}: {size / 1000:.0f} kB, from {exported}")
    return 0


def replace_folder(source: Path, target: Path) -> None:
    """Copies a folder to where another one may be; nobody sees half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f"tmp-{target.name}-{os.getpid()}")
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(source, fresh)
    if target.exists():
        shutil.rmtree(target)
    fresh.rename(target)


def main(argv: Sequence[str] | None = None) -> int:
    """Makes the rater; the exit status."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
