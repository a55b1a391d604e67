"""Meta-trains a rater, or goes on where it stopped; judges it beside chance."""

from collections.abc import Sequence

from dr_keras.commands import common, flags


@common.verb("meta-train", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints how many meta-steps are done, which checkpoint is the best, and whether to use it."""
    flags.add_input(parser)
    flags.add_target(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.runs import meta_training  # after the quiet start-up

    common.parse_gin(arguments)
    trainer = meta_training.meta_train(arguments.base_dir)
    step, reason = meta_training.choose_step(arguments.base_dir)
    print(f"{arguments.base_dir}: {int(trainer.meta_step.numpy())} meta-steps done")
    print(f"best checkpoint: meta-step {step}, {reason}")
    if judgement := meta_training.judgement_of(arguments.base_dir):
        print(judgement.text)
    print(f"look at it: tensorboard --logdir {arguments.base_dir}")
