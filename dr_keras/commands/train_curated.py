"""Trains a model, and beside it a rater that chooses what it trains on.

Each step scores an oversized batch and trains on its best, and now and then the rater moves by what
the model's last updates did to its loss on held-out examples. For instance

  --gin_file=experiments/curated.gin --base_dir=runs/curated

A run that was stopped goes on by the same command.
"""

from collections.abc import Sequence

from dr_keras.commands import common, flags


@common.verb("train-curated", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints what it cost by part, the losses, and where the rater lies."""
    flags.add_input(parser)
    flags.add_target(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.runs import curated_run  # after the quiet start-up

    common.parse_gin(arguments)
    record = curated_run.train_curated(arguments.base_dir, verbose=2)
    total = record.flops["total"]
    parts = ", ".join(
        f"{name} {record.flops[name] / total:.0%}" for name in ("training", "scoring", "meta")
    )
    print(
        f"{arguments.base_dir}: {record.steps} steps on {record.batch_size} of {record.oversized}"
        f" examples, {record.meta_steps} meta-steps"
    )
    print(f"{total:.3g} FLOPs: {parts}")
    print(f"loss on held-out examples: {record.validation_loss:.4f}, test {record.test_loss:.4f}")
    print(f"rater: {record.rater or 'not exported'}")
    print(f"look at it: tensorboard --logdir {arguments.base_dir}")
