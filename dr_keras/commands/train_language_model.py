"""Trains a language model on a corpus, from scratch, with Keras.

Needs gin bindings for train_language_model.data and LanguageModelTrainer.model_fn; every
configuration that meta-train accepts has the pieces, for instance
  --gin_file=experiments/quickstart.gin --gin_param='train_language_model.data = @text_data'
"""

from collections.abc import Sequence

from dr_keras.commands import common


@common.verb("train-language-model", common.Task.COMPARE, __doc__)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints the final loss on held-out text, by source."""
    arguments = parser.parse_args(argv)
    from dr_keras.runs import language_model_run  # after the quiet start-up

    common.parse_gin(arguments)
    record = language_model_run.train_language_model(arguments.base_dir)
    step, loss = record.curve[-1]
    print(f"{arguments.base_dir}: {int(step)} steps, {record.tokens_seen:,} tokens seen")
    print(f"final loss on held-out text: {loss:.4f} nats per token")
    for source, value in sorted(record.final_by_source.items()):
        print(f"  {source}: {value:.4f}")
    print(f"look at it: tensorboard --logdir {arguments.base_dir}")
