#!/usr/bin/env python3
"""Compares experiments/curated.gin with other ways to spend the same operations.

    tools/curated.py --data DATA --base_dir runs/curated --target medical --seeds 3

DATA and the targets are those of tools/targeted.py: a mixture of sources, and text of a kind that
the mixture lacks. Arms, each a model from scratch:

    unfiltered      trains on the mixture as it is, as many steps as the configuration says; what
                    that costs is what the others may cost
    random          offered as many examples as curated, which a rater that knows nothing reads
    curated         the rater begins without knowledge and learns beside the model, which trains on
                    a sample by its scores
    curated_best    the same, and the model trains on the best
    curated_soft    the same, and the model trains on all that it is offered with soft weights
    curated_state   the same, and it reads the model's loss on an example, and its age
    frozen          the best by the rater that the curated run of another seed ended with, which
                    stays as it is; what it cost to make is not counted

Each run is a folder <base_dir>/<arm>-<seed>, done or resumed by the same command. The table at the
end has test losses on the target; <base_dir>/sources.png shows what curated trained on.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
import sys

import numpy as np
from targeted import TARGETS, bindings

from dr_keras.config import configuration
from dr_keras.report.curated_plots import source_weights
from dr_keras.report.plots import to_png
from dr_keras.runs.curated_run import read_lines, read_record, train_curated
from dr_keras.runs.experiment import experiment
import gin

ARMS = {
    "unfiltered": ["CuratedModel.discard_fraction = 0", "CuratedModel.meta_every = None"],
    "random": ["CuratedModel.meta_every = None"],
    "curated": [],
    "curated_best": ["CuratedModel.keep = 'best'"],
    "curated_soft": [
        "CuratedModel.discard_fraction = 0",
        "CuratedModel.weights = 'soft'",
        "CuratedModel.meta_batch_size = None",
    ],
    "curated_state": ["text_rater.features = ['inner_loss', 'age']"],
    "frozen": ["CuratedModel.meta_every = None", "CuratedModel.keep = 'best'"],
}


def main(argv: Sequence[str] | None = None) -> int:
    """Trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--base_dir", type=Path, required=True, metavar="DIR")
    parser.add_argument("--target", choices=list(TARGETS), default="medical")
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3, metavar="N")
    parser.add_argument("--gin_param", action="append", default=[], metavar="BINDING")
    arguments = parser.parse_args(argv)
    parts = None  # the same for all
    corpus = list(bindings(arguments.data, TARGETS[arguments.target], 0.0))
    records: dict[str, list] = {arm: [] for arm in ["unfiltered", *arguments.arms]}
    for arm in records:
        for seed in range(arguments.seeds):
            folder = arguments.base_dir / f"{arm}-{seed}"
            given = [*corpus, *arguments.gin_param, *ARMS[arm], f"SEED = {seed}"]
            given.append("train_curated.export = False")
            if arm != "unfiltered":
                budget = records["unfiltered"][seed].flops["total"]
                given.append(f"train_curated.flops = {budget:.6g}")
            if arm == "frozen":
                made = arguments.base_dir / f"curated-{(seed + 1) % arguments.seeds}"
                given.append(f"experiment.initial_rater = '{made / 'rater.weights.h5'}'")
            if not (folder / "record.json").exists():
                print(f"== {folder}", flush=True)
                gin.clear_config()
                configuration.parse("experiments/curated.gin", given)
                setup = experiment(data=parts) if parts else experiment()
                parts = setup.parts
                train_curated(folder, setup, verbose=2)
            records[arm].append(read_record(folder))
    print(_table(records))
    _draw(arguments.base_dir, [arm for arm in records if arm.startswith("curated")])
    return 0


def _table(records: dict[str, list]) -> str:
    lines = [
        "| arm | steps | scored a step | FLOPs: training, scoring, meta | test loss | less than"
        " unfiltered, by seed |",
        "|---|---|---|---|---|---|",
    ]
    reference = np.array([record.test_loss for record in records["unfiltered"]])
    for arm, found in records.items():
        first, losses = found[0], np.array([record.test_loss for record in found])
        total = first.flops["total"]
        parts = ", ".join(f"{first.flops[n] / total:.0%}" for n in ("training", "scoring", "meta"))
        spread = f" ± {losses.std(ddof=1):.3f}" if len(losses) > 1 else ""
        gains = ", ".join(f"{gain:+.3f}" for gain in reference - losses)
        scored = first.oversized if arm != "unfiltered" else 0
        lines.append(
            f"| {arm} | {first.steps:,} | {scored} | {total:.3g}: {parts} |"
            f" {losses.mean():.3f}{spread} | {gains if arm != 'unfiltered' else ''} |"
        )
    return "\n".join(lines)


def _draw(base_dir: Path, arms: Sequence[str]) -> None:
    for arm in arms:
        figure = source_weights(read_lines(base_dir / f"{arm}-0"))
        path = base_dir / ("sources.png" if arm == "curated" else f"sources-{arm}.png")
        path.write_bytes(to_png(figure))
        print(f"what {arm} trained on: {path}")


if __name__ == "__main__":
    sys.exit(main())
