"""Scores examples of your own, images among them, with an exported rater.

  dr-keras score-examples --rater run/export --gin_file my.gin --output my.scores.jsonl

The gin file names the dataset: score_examples.corpus = @my_corpus, a function of your module that
returns a tf.data.Dataset of dicts. The score file holds id, source, score, percentile and windows
(1), a line an example. Text is scored by score-corpus.
"""

from collections.abc import Sequence
import functools

from dr_keras.commands import common, corpus_files


@common.verb("score-examples", common.Task.FILTER, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Prints how many examples have a score, by source."""
    parser.add_argument(
        "--rater", required=True, metavar="DIR", help="exported rater: <run>/export, or a version"
    )
    corpus_files.add_trust(parser)
    parser.add_argument("--output", required=True, metavar="FILE", help="the score file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    arguments = parser.parse_args(argv)
    from dr_keras.corpus_jobs.scoring import score_examples
    from dr_keras.serving.loading import load_rater

    common.parse_gin(arguments)
    rater = load_rater(arguments.rater, trusted=arguments.trust_rater)
    progress = functools.partial(corpus_files.JobProgress("examples"), "scoring")
    manifest = score_examples(
        rater, arguments.output, overwrite=arguments.overwrite, progress=progress
    )
    corpus_files.print_scored(manifest, "examples")
    for source, facts in manifest["by_source"].items():
        print(f"  {source}: {facts['documents']} examples, mean score {facts['mean_score']:.4f}")
    return 0
