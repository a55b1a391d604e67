#!/usr/bin/env python3
"""Compares a rater learned for the worse of two held-out sets with raters learned for one of them.

    tools/two_targets.py
    tools/two_targets.py --gin_file mine.gin --seeds 3

The configuration (experiments/two_targets.gin by default) has two held-out sets and a train part
whose corpora have their names. For each seed three raters are meta-trained: for the first set
alone, for the second alone (weighted_mean with a weight of 0 for the other), and as the
configuration combines them. Then a fresh model is trained for each, from the same weights and on
the same batches, which the finished rater weighs, and its losses are taken on the validation part
of either corpus: nats by token of what neither meta-training nor the model has seen. Printed are a
line for each seed, the means, and by how much the worse of the two losses is lower under the
combination, by pairs.
"""

from collections.abc import Mapping, Sequence
import os
from pathlib import Path
import statistics
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from dr_keras.commands import common


class Comparison:
    """Meta-trains raters for one target or more on the same data, and judges them.

    Args:
      setup: the experiment; its held-out sets are named after corpora of the train part.
      meta_steps: of each rater.
      updates: of each fresh model.
      batch_size: examples of a batch of fresh models.
    """

    def __init__(self, setup, meta_steps: int, updates: int, batch_size: int):
        self.setup, self.meta_steps = setup, meta_steps
        self.updates, self.batch_size = updates, batch_size
        self.names = list(setup.parts.outer_sets)
        validation = setup.parts.validation
        self._validation = {
            name: validation.take(validation.corpora == name).thinned(512).features
            for name in self.names
        }

    def targets(self) -> dict:
        """What is compared: name -> combination; None is the one that the configuration has."""
        from dr_keras.meta.combinations import weighted_mean

        alone = {
            name: weighted_mean({other: float(other == name) for other in self.names})
            for name in self.names
        }
        return {**alone, "both": None}

    def of_seed(self, seed: int) -> dict[str, dict[str, float]]:
        """Target -> the losses by set of a fresh model under the rater that is learned for it."""
        return {
            target: self.losses(self.learned(combination, seed), seed)
            for target, combination in self.targets().items()
        }

    def learned(self, combination, seed: int):
        """A trainer whose rater is learned for one combination; None is the configuration's."""
        from dr_keras.meta.trainer import MetaTrainer
        from dr_keras.runs.experiment import experiment

        setup = experiment(data=self.setup.parts, seed=seed)  # a rater of its own
        trainer = MetaTrainer(
            setup.rater,
            setup.inner_model,
            setup.per_example_loss,
            seed=seed,
            **({} if combination is None else {"combination": combination}),
        )
        trainer.fit(setup.parts.train, setup.parts.outer_sets, self.meta_steps)
        return trainer

    def losses(self, trainer, seed: int) -> dict[str, float]:
        """Losses, on either validation part, of a fresh model trained as the rater weighs."""
        import tensorflow as tf

        from dr_keras.data.streams import BatchStream
        from dr_keras.meta.population import initial_state
        from dr_keras.meta.problem import inner_update

        make, setup = trainer.problem, self.setup
        problem = make(make.constants())
        eta = [tf.identity(v.value) for v in make.rater.trainable_variables]

        def update(state, batch):
            weights, _ = problem.weigh(eta, state, batch)
            return inner_update(problem, state, weights, batch)[0]

        update = tf.function(update, autograph=False)
        state = initial_state(setup.inner_model, make.optimizer, make.parts, seed)
        stream = BatchStream(setup.parts.train, self.batch_size, seed)
        for step in range(self.updates):
            state = update(state, {n: tf.constant(v) for n, v in stream.batch(step).items()})
        batches = {
            name: {n: tf.constant(v) for n, v in features.items()}
            for name, features in self._validation.items()
        }
        found = problem.outer_losses(state.theta, state.statistics, batches)
        return {name: float(loss) for name, loss in found.items()}


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.ArgumentParser(__doc__, base_dir=False)
    parser.add_argument("--seeds", type=int, default=5, help="how many (default: 5)")
    parser.add_argument(
        "--updates", type=int, default=200, help="of each fresh model (default: 200)"
    )
    arguments = parser.parse_args(argv)
    from dr_keras.runs.experiment import experiment
    import gin

    common.parse_gin(arguments, "experiments/two_targets.gin")
    comparison = Comparison(
        experiment(),
        gin.query_parameter("%META_STEPS"),
        arguments.updates,
        gin.query_parameter("MetaTrainer.inner_batch_size"),
    )
    found = []
    for seed in range(arguments.seeds):
        found.append(comparison.of_seed(seed))
        print(line(f"seed {seed}", found[-1]), flush=True)
    print(line("mean", means(found)))
    for name in comparison.names:
        gains = [worse(of[name]) - worse(of["both"]) for of in found]
        shown = f"{statistics.fmean(gains):.4f}"
        shown += f" ± {statistics.stdev(gains):.4f}" if len(gains) > 1 else ""
        print(f"worse of the two losses, {name} alone less both: {shown}, by pairs")
    return 0


def worse(losses: Mapping[str, float]) -> float:
    return max(losses.values())


def means(found: Sequence[Mapping[str, Mapping[str, float]]]) -> dict:
    return {
        target: {name: statistics.fmean(of[target][name] for of in found) for name in losses}
        for target, losses in found[0].items()
    }


def line(title: str, found: Mapping[str, Mapping[str, float]]) -> str:
    parts = [
        f"{target}: " + ", ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
        for target, losses in found.items()
    ]
    return f"{title:<7} " + "   ".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the comparison; the exit status."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
