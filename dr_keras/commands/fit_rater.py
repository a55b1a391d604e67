"""Fits a rater to what a scorer says of the training text, and exports it.

The scorer (conditional loss, a classifier, a score file, ...) scores the train part once; the rater
learns its scores from the text alone and is then judged beside a random choice. For instance

  --gin_file=experiments/fitted.gin --base_dir=runs/fitted

The configuration must have experiment.initial_rater = @fitted_rater(), as runs/fitted.gin binds it.
`dr-keras meta-train` with the same flags goes on from there; a second call fits nothing again.
"""

from collections.abc import Sequence

from dr_keras.commands import common, flags
from dr_keras.errors import ConfigurationError


@common.verb("fit-rater", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints how well the rater follows, how it does beside chance, and where it lies."""
    flags.add_target(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.runs import meta_training  # after the quiet start-up
    from dr_keras.runs.experiment import experiment
    from dr_keras.runs.export import export_run

    common.parse_gin(arguments)
    base_dir, setup = arguments.base_dir, experiment()
    if setup.fitted is None:
        raise ConfigurationError(
            "the configuration fits no rater: bind experiment.initial_rater = @fitted_rater() and"
            " fitted_rater.teacher, or add --gin_file=runs/fitted.gin, which does."
        )
    meta_training.meta_train(base_dir, setup, meta_steps=0)
    _, reason = meta_training.choose_step(base_dir)
    print(f"fitted rater: {reason}")
    print(export_run(base_dir, "0", setup))
