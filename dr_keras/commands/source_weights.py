"""Weights of sources, from a run whose rater saw nothing else.

Prints a table of --base_dir, a run with @source_rater (gin file experiments/source_weights.gin),
and writes <base_dir>/source_weights/: table.json, weights.gin for mixture_corpus, and weights.py
for tf.data. Without --gin_file, the configuration that the run recorded is used.
"""

from collections.abc import Sequence
import os

from dr_keras.commands import common, flags


@common.verb("source-weights", common.Task.LEARN, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the table, where it lies, and what to beware of."""
    flags.add_checkpoint(parser)
    arguments = parser.parse_args(argv)
    from dr_keras.config.configuration import PARSED_CONFIG
    from dr_keras.runs.meta_training import choose_step
    from dr_keras.runs.source_weights import FOLDER, as_text, learned_mixture

    step, reason = choose_step(arguments.base_dir, arguments.checkpoint)
    common.parse_gin(arguments, os.path.join(arguments.base_dir, PARSED_CONFIG))
    print(f"weights of meta-step {step}: {reason}")
    print(as_text(learned_mixture(arguments.base_dir, arguments.checkpoint)))
    print(os.path.join(arguments.base_dir, FOLDER))
