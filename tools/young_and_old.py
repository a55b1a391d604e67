#!/usr/bin/env python3
"""Shows which members see which bad rows: young ones, old ones, and both side by side.

    tools/young_and_old.py
    tools/young_and_old.py --seeds 5 --meta_steps 120

A linear regression of three inputs. Half of the train rows are good, a quarter has noise in its
targets, small beside what there is to learn, and a quarter is empty: inputs and target are 0. The
rater reads 16 hints for a row: the first tells of noise, the second of emptiness, neither reliably,
and the rest of nothing. Empty rows cost a model that has much to learn an update; noise harms a
model that has learned the rest. Raters are meta-trained with members of either age and with one of
each; printed is, for each, the chance that a good row outscores a noisy one, and an empty one.
"""

from collections.abc import Sequence
import os
from pathlib import Path
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands import common

ROWS, HINTS = 2000, 16

# The members' settings, two of each population.
POPULATIONS = {
    "young": dict(lifetime=16),
    "old": dict(lifetime=None, start_ages=120),
    "both": dict(lifetime=[16, None], start_ages=[0, 120]),
}


def rows(count: int, bad: bool, name: str):
    """(ExampleSet, kind of each row: "good", "noisy" or "empty")."""
    import numpy as np

    from dr_keras.data.examples import ExampleSet

    rng = np.random.default_rng(len(name))
    share = count // 4 if bad else 0
    kinds = np.array(["noisy"] * share + ["empty"] * share + ["good"] * (count - 2 * share))
    x = rng.normal(size=(count, 3)) * (kinds != "empty")[:, None]
    target = x @ [[1.0], [-2.0], [0.5]]
    target += 0.3 * rng.normal(size=(count, 1)) * (kinds == "noisy")[:, None]
    hints = rng.normal(size=(count, HINTS))
    hints[:, 0] += 1.5 * (kinds == "noisy")
    hints[:, 1] += 1.5 * (kinds == "empty")
    features = {"x": x, "target": target, "hints": hints}
    ids = np.array([f"{name}-{row}" for row in range(count)], object)
    single = {feature: values.astype(np.float32) for feature, values in features.items()}
    return ExampleSet(single, ids, ids, ids, name=name), kinds


def found(settings: dict, seed: int, meta_steps: int) -> dict[str, float]:
    """Kind of bad row -> chance that a good row outscores one, for a rater learned from scratch.

    Args:
      settings: of the members; arguments of `MetaTrainer`.
      seed: of the run.
      meta_steps: how many.
    """
    import keras
    import numpy as np

    from dr_keras.meta.optimizers import OuterAdam, sgd
    from dr_keras.meta.trainer import MetaTrainer
    from dr_keras.models.losses import squared_error
    from dr_keras.training.metrics import area_under_curve

    def linear(inputs: str, width: int, start: str = "glorot_uniform") -> keras.Model:
        x = keras.Input((width,), name=inputs)
        output = keras.layers.Dense(1, kernel_initializer=start)(x)
        return keras.Model({inputs: x}, output)

    train, kinds = rows(ROWS, True, "train")
    outer, _ = rows(ROWS // 4, False, "outer")
    rater = linear("hints", HINTS, "zeros")
    trainer = MetaTrainer(
        rater,
        lambda: linear("x", 3),
        squared_error,
        inner_optimizer=sgd(0.05),
        outer_optimizer=OuterAdam(0.02, warmup=10, clip_norm=1.0, weight_decay=0.0),
        population_size=2,
        inner_batch_size=32,
        outer_batch_size=32,
        jit_compile=False,
        seed=seed,
        **settings,
    )
    trainer.fit(train, outer, meta_steps)
    scores = rater({"hints": train.features["hints"]}).numpy()[:, 0]
    compared = {kind: np.isin(kinds, ["good", kind]) for kind in ("noisy", "empty")}
    return {
        kind: area_under_curve(scores[these], kinds[these] == "good")
        for kind, these in compared.items()
    }


def _main(argv: Sequence[str] | None) -> int:
    parser = common.ArgumentParser(__doc__, base_dir=False, gin=False)
    parser.add_argument("--seeds", type=int, default=3, help="of each population (default: 3)")
    parser.add_argument("--meta_steps", type=int, default=60, help="of each rater (default: 60)")
    arguments = parser.parse_args(argv)
    for name, settings in POPULATIONS.items():
        raters = [found(settings, seed, arguments.meta_steps) for seed in range(arguments.seeds)]
        of_kind = {kind: " ".join(f"{of[kind]:.2f}" for of in raters) for kind in raters[0]}
        shown = ", ".join(f"{kind} rows {values}" for kind, values in of_kind.items())
        print(f"{name:<5}  AUC of good rows against {shown}", flush=True)
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Prints a line for each population; the exit status."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
