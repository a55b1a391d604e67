"""Scores every document of a corpus with an exported rater.

  dr-keras score-corpus --rater run/export --input my.jsonl --output my.scores.parquet

The score file (Parquet or JSONL, by its suffix) holds id, source, score, percentile and windows of
every document; the manifest beside it says which corpus and which rater. filter-corpus --scores
reads it, so that the share to discard can change without scoring again. Records that cannot be read
are listed in <output>.errors.jsonl. A run that was stopped goes on when it is started again; with
--runner it runs on Apache Beam. The corpus may also come from gin (score_corpus.corpus).
"""

from collections.abc import Sequence

from dr_keras.commands import common, corpus_files

_FLAGS = {
    "output": dict(
        metavar="FILE",
        help="the score file to write, .parquet or .jsonl (below _scores/ beside the input files if"
        " not given)",
    ),
    "sidecar": dict(
        metavar="DIR",
        help="a folder for the scores in one Parquet file for each file of the corpus, too: id,"
        " score and percentile, row for row",
    ),
    "overwrite": dict(action="store_true", help="replace the scores of another rater or corpus"),
}
_REQUIRED = {"corpus": "--input", "rater": "--rater"}


@common.verb("score-corpus", common.Task.FILTER, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Prints how many documents have a score, by source, and what could not be read."""
    settings = corpus_files.settings_of(parser, argv, "score_corpus", _FLAGS, _REQUIRED)
    from dr_keras.corpus_jobs.scoring import score_corpus

    manifest = score_corpus(**settings)
    corpus_files.print_scored(manifest)
    corpus_files.print_several(manifest)
    corpus_files.print_sources(manifest["by_source"], _source_line)
    corpus_files.print_audit(manifest.get("audit"))
    errors = manifest.get("errors") or {"records": {}, "file": ""}  # scores of an earlier version
    corpus_files.print_errors(errors["records"], errors["file"])
    return 0


def _source_line(name: str, facts: dict) -> str:
    mean = f", mean score {facts['mean_score']:.4f}" if facts["scored"] else ""
    return f"{name}: {facts['documents']} documents{mean}"
