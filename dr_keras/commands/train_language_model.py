"""Trains a language model on a corpus, from scratch, with Keras.

Needs gin bindings for train_language_model.data and LanguageModelTrainer.model_fn; every
configuration that meta_train accepts has the pieces, for instance
  --gin_file=experiments/quickstart.gin --gin_param='train_language_model.data = @text_data'
"""

from collections.abc import Sequence
import sys

from dr_keras.commands import common


def _main(argv: Sequence[str] | None = None) -> int:
    arguments = common.argument_parser(__doc__).parse_args(argv)
    from dr_keras.runs import language_model_run  # after the quiet start-up

    common.parse_gin(arguments)
    record = language_model_run.train_language_model(arguments.base_dir)
    step, loss = record.curve[-1]
    print(f"{arguments.base_dir}: {int(step)} steps, {record.tokens_seen:,} tokens seen")
    print(f"final loss on held-out text: {loss:.4f} nats per token")
    for source, value in sorted(record.final_by_source.items()):
        print(f"  {source}: {value:.4f}")
    print(f"look at it: tensorboard --logdir {arguments.base_dir}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-train-language-model`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
