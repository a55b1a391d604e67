"""Scores examples of your own, images among them, with an exported rater.

  dr-keras score-examples --rater run/export --gin_file my.gin --output my.scores.jsonl

The gin file names the dataset: score_examples.corpus = @my_corpus, a function of your module that
returns a tf.data.Dataset of dicts. The score file holds id, source, score, percentile and windows
(1), a line an example. Text is scored by score-corpus, and window by window where it is prepared:

  dr-keras score-examples --rater run/export --input prepared/

writes prepared/scores/rater.npy, a score for every window of the train part, in its order.
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
    parser.add_argument(
        "--input", metavar="DIR", help="a prepared corpus, in the place of a dataset"
    )
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the score file to write; of a prepared corpus, a name for the scores (rater if not"
        " given)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace a file that exists")
    arguments = parser.parse_args(argv)
    if arguments.output is None and arguments.input is None:
        parser.error("the following arguments are required: --output")
    from dr_keras.corpus_jobs.prepared_scoring import score_prepared
    from dr_keras.corpus_jobs.scoring import score_examples
    from dr_keras.runs import experiment  # noqa: F401  makes every name known that gin files may use
    from dr_keras.serving.loading import load_rater

    common.parse_gin(arguments)
    rater = load_rater(arguments.rater, trusted=arguments.trust_rater)
    progress = functools.partial(corpus_files.JobProgress("examples"), "scoring")
    options = {"overwrite": arguments.overwrite, "progress": progress}
    if arguments.input is not None:
        name = "rater" if arguments.output is None else arguments.output
        corpus_files.print_scored(
            score_prepared(rater, arguments.input, name, **options), "windows"
        )
        return 0
    manifest = score_examples(rater, arguments.output, **options)
    corpus_files.print_scored(manifest, "examples")
    for source, facts in manifest["by_source"].items():
        print(f"  {source}: {facts['documents']} examples, mean score {facts['mean_score']:.4f}")
    return 0
