"""Keeps the better share of a corpus, by an exported rater or by existing scores.

  filter_corpus --rater run/export --input my.jsonl --output_dir kept --discard_fraction 0.5
  filter_corpus --scores my.scores.jsonl --input my.jsonl --output_dir kept --discard_fraction 0.5

Writes kept-*.jsonl, dropped-*.jsonl (with the reason) and, last, manifest.json. The corpus and
every setting may also come from gin (filter_corpus.corpus, filter_corpus.method, ...).
"""

from collections.abc import Sequence
import sys

from dr_keras.commands import common
from dr_keras.commands.score_corpus import ScoringProgress, add_corpus_and_rater, given


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.argument_parser(__doc__, base_dir=False)
    add_corpus_and_rater(parser)
    parser.add_argument("--scores", metavar="FILE", help="what score_corpus wrote for this corpus")
    parser.add_argument("--output_dir", metavar="DIR", help="folder for the filtered corpus")
    parser.add_argument(
        "--discard_fraction", metavar="F", help="share of documents to drop, in [0, 1)"
    )
    parser.add_argument("--batch_size", type=int, help="B of the batch top-K that is imitated")
    parser.add_argument("--seed", type=int, help="of the draws")
    parser.add_argument("--method", help="keep_probability (the default) or threshold")
    parser.add_argument(
        "--reference", help="percentiles among the corpus (the default) or under the artefact's"
    )
    arguments = parser.parse_args(argv)
    from dr_keras import experiment  # noqa: F401  makes every name known that gin files may use
    from dr_keras.data.prepare import corpus_from_path
    from dr_keras.filtering.corpus_filter import filter_corpus
    from dr_keras.serving.loading import load_rater

    common.parse_gin(arguments)
    settings = given(
        arguments, "scores", "output_dir", "discard_fraction", "batch_size", "seed", "method",
        "reference",
    )  # fmt: skip
    if arguments.input:
        settings["corpus"] = corpus_from_path(arguments.input)
    if arguments.rater:
        settings["rater"] = load_rater(arguments.rater)
    manifest = filter_corpus(**settings, progress=ScoringProgress())
    counts = manifest["counts"]
    print(
        f"kept {counts['kept']} of {counts['documents']} documents"
        f" ({counts['kept_bytes'] / 1e6:.1f} of {counts['bytes'] / 1e6:.1f} MB); discarded"
        f" {manifest['achieved_fraction']:.1%}, expected {manifest['expected_fraction']:.1%}"
    )
    for source, facts in manifest["by_source"].items():
        print(f"  {source}: kept {facts['kept']} of {facts['documents']}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-filter-corpus`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
