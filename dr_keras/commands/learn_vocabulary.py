"""Learns a WordPiece or SentencePiece vocabulary from a corpus.

  dr-keras learn-vocabulary --input my.jsonl --output my.model --size 8192

The corpus may also come from gin (learn_vocabulary.corpus), and so may every other setting. Only
the train part of the corpus is read, so that held-out text stays unseen.
"""

from collections.abc import Sequence

from dr_keras.commands import common


@common.verb("learn-vocabulary", common.Task.LEARN, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints what the vocabulary comes to, and the binding that uses it."""
    parser.add_argument(
        "--input", metavar="PATH", help="file or folder of JSONL, Parquet, text or other files"
    )
    parser.add_argument("--output", metavar="FILE", help="the vocabulary file to write")
    parser.add_argument("--kind", help="wordpiece or sentencepiece (the default)")
    parser.add_argument("--size", type=int, help="tokens in the vocabulary (default: 8192)")
    arguments = parser.parse_args(argv)
    # After the quiet start-up, and before gin names are resolved.
    from dr_keras.data.prepare import corpus_from_path
    from dr_keras.data.tokenizers.learn import learn_vocabulary

    common.parse_gin(arguments)
    given = {
        "corpus": corpus_from_path(arguments.input) if arguments.input else None,
        "output": arguments.output,
        "kind": arguments.kind,
        "size": arguments.size,
    }
    given = {name: value for name, value in given.items() if value is not None}
    tokenizer, facts = learn_vocabulary(**given)
    maker = {"wordpiece": "vocabulary", "sentencepiece": "proto"}[tokenizer.name]
    print(
        f"{tokenizer.assets[0]}: {tokenizer.vocabulary_size} tokens;"
        f" {facts['bytes_per_token']:.2f} bytes a token,"
        f" {facts['unknown_share']:.2%} of the tokens unknown"
    )
    print(f"use it: {tokenizer.name}_tokenizer.{maker} = '{tokenizer.assets[0]}'")
