"""Meta-trains a rater, or goes on where an earlier call in the same base_dir stopped."""

from collections.abc import Sequence
import sys

from dr_keras.commands import common


def _main(argv: Sequence[str] | None = None) -> int:
    arguments = common.argument_parser(__doc__).parse_args(argv)
    from dr_keras.runs import (
        meta_training,  # after the quiet start-up, before gin names are resolved
    )

    common.parse_gin(arguments)
    trainer = meta_training.meta_train(arguments.base_dir)
    step, reason = meta_training.choose_step(arguments.base_dir)
    print(f"{arguments.base_dir}: {int(trainer.meta_step.numpy())} meta-steps done")
    print(f"best rater: meta-step {step}, {reason}")
    print(f"look at it: tensorboard --logdir {arguments.base_dir}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-meta-train`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
