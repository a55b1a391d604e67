"""Scores every document of a corpus with an exported rater.

  dr-keras score-corpus --rater run/export --input my.jsonl --output my.scores.parquet

The score file (Parquet or JSONL, by its suffix) holds id, source, score, percentile and windows of
every document; the manifest beside it says which corpus and which rater. filter-corpus --scores
reads it, so that the share to discard can change without scoring again. Records that cannot be read
are listed in <output>.errors.jsonl. A run that was stopped goes on when it is started again; with
--runner it runs on Apache Beam. The corpus may also come from gin (score_corpus.corpus).
"""

from collections.abc import Sequence

from dr_keras.commands import common
from dr_keras.commands.corpus_files import (
    add_corpus_and_rater,
    are_files_of_records,
    corpus_of_text,
    file_settings,
    given,
    parse,
    print_errors,
    print_sources,
    refuse_workers,
)  # fmt: skip


class ScoringProgress:
    """Shows the bytes scored, the rate and the time left."""

    def __init__(self):
        self._line = None

    def __call__(self, done: int, total: int) -> None:
        from dr_keras.system.progress import Progress

        total_kb = max(1, round(total / 1000))
        if self._line is None:
            self._line = Progress("scoring", total_kb, "kB", interval=5.0)
        self._line.update(min(total_kb, round(done / 1000)))
        if done >= total:
            self._line.close()


@common.verb("score-corpus", common.Task.FILTER, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Prints how many documents have a score, by source, and what could not be read."""
    add_corpus_and_rater(parser)
    parser.add_argument(
        "--output",
        metavar="FILE",
        help="the score file to write, .parquet or .jsonl (below _scores/ beside the input files if"
        " not given)",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the scores of another rater or corpus"
    )
    arguments, beam_flags = parse(parser, argv)
    from dr_keras.corpus_jobs.corpus_scores import score_corpus
    from dr_keras.corpus_jobs.scoring import score_files
    from dr_keras.errors import ConfigurationError
    from dr_keras.runs import experiment  # noqa: F401  makes every name known that gin files may use
    from dr_keras.serving.loading import load_rater

    common.parse_gin(arguments)
    settings = given(arguments, "output")
    if are_files_of_records(arguments.input):
        settings = {**file_settings(arguments, beam_flags, "score_corpus"), **settings}
        if "rater" not in settings:
            raise ConfigurationError("score_corpus needs a rater: name one with --rater.")
        manifest = score_files(**settings, overwrite=arguments.overwrite)
    else:
        refuse_workers(arguments)
        if arguments.input:
            settings["corpus"] = corpus_of_text(arguments)
        if arguments.rater:
            settings["rater"] = load_rater(arguments.rater, trusted=arguments.trust_rater)
        progress = ScoringProgress()
        manifest = score_corpus(**settings, progress=progress, overwrite=arguments.overwrite)
    missing = f", {manifest['without_score']} without a score" if manifest["without_score"] else ""
    print(f"{manifest['file']['name']}: {manifest['documents']} documents{missing}")
    print_sources(manifest["by_source"], _source_line)
    errors = manifest.get("errors") or {"records": {}, "file": ""}
    print_errors(errors["records"], errors["file"])
    return 0


def _source_line(name: str, facts: dict) -> str:
    mean = f", mean score {facts['mean_score']:.4f}" if facts["scored"] else ""
    return f"{name}: {facts['documents']} documents{mean}"
