"""Scores every document of a corpus with an exported rater.

  score_corpus --rater run/export --input my.jsonl --output my.scores.jsonl

The score file holds id, source, score, percentile and windows, a line a document; the manifest
beside it says which corpus and which rater. filter_corpus --scores reads it, so that the share to
discard can change without scoring again. The corpus may also come from gin (score_corpus.corpus).
"""

import argparse
from collections.abc import Sequence
import sys

from dr_keras.commands import common


def add_corpus_and_rater(parser: argparse.ArgumentParser) -> None:
    """The flags that scoring and filtering share."""
    parser.add_argument(
        "--input", metavar="PATH", help="file or folder of JSONL, Parquet, TFRecord or text files"
    )
    parser.add_argument(
        "--rater", metavar="DIR", help="exported rater: <run>/export, or one version in it"
    )


def given(arguments: argparse.Namespace, *names: str) -> dict:
    """The arguments that were given on the command line; gin decides about the others."""
    values = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


class ScoringProgress:
    """Shows the bytes scored, the rate and the time left."""

    def __init__(self):
        self._line = None

    def __call__(self, done: int, total: int) -> None:
        from dr_keras.progress import Progress

        total_kb = max(1, round(total / 1000))
        if self._line is None:
            self._line = Progress("scoring", total_kb, "kB", interval=5.0)
        self._line.update(min(total_kb, round(done / 1000)))
        if done >= total:
            self._line.close()


def _main(argv: Sequence[str] | None = None) -> int:
    parser = common.argument_parser(__doc__, base_dir=False)
    add_corpus_and_rater(parser)
    parser.add_argument("--output", metavar="FILE", help="the score file to write")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the scores of another rater or corpus"
    )
    arguments = parser.parse_args(argv)
    from dr_keras import experiment  # noqa: F401  makes every name known that gin files may use
    from dr_keras.data.prepare import corpus_from_path
    from dr_keras.filtering.corpus_scores import score_corpus
    from dr_keras.serving.loading import load_rater

    common.parse_gin(arguments)
    settings = given(arguments, "output")
    if arguments.input:
        settings["corpus"] = corpus_from_path(arguments.input)
    if arguments.rater:
        settings["rater"] = load_rater(arguments.rater)
    manifest = score_corpus(
        **settings, progress=ScoringProgress(), overwrite=arguments.overwrite
    )
    missing = f", {manifest['without_score']} without a score" if manifest["without_score"] else ""
    print(f"{manifest['file']['name']}: {manifest['documents']} documents{missing}")
    for source, facts in manifest["by_source"].items():
        print(f"  {source}: {facts['documents']} documents, mean score {facts['mean_score']:.4f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `dr-keras-score-corpus`."""
    return common.run(_main, argv)


if __name__ == "__main__":
    sys.exit(main())
