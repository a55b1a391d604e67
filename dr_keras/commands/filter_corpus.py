"""Keeps the better share of a corpus, by a rater or by existing scores.

  dr-keras filter-corpus --rater run/export --input my.jsonl \\
      --output_dir kept --discard_fraction 0.5
  dr-keras filter-corpus --scores my.scores.jsonl --input my.jsonl \\
      --output_dir kept --discard_fraction 0.5

Writes kept-* (the records whole, in the format they came in),
dropped-*.jsonl (with the reason), errors.jsonl and, last, manifest.json. Text files and corpora
that gin builds (filter_corpus.corpus) are kept as JSON lines with their scores. A run that was
stopped goes on when it is started again. With --runner it runs on Apache Beam
(pip install 'dr_keras[beam]'); flags that are not listed here are passed on to Beam. Every setting
may also come from gin (filter_corpus.method, ...).
"""

from collections.abc import Callable, Sequence
import os

from dr_keras.commands import common, corpus_files
from dr_keras.errors import ConfigurationError

_FLAGS = {
    "scores": dict(metavar="FILE", help="what score-corpus wrote for this corpus"),
    "score_file": dict(
        metavar="FILE",
        help="where to write the scores that are made, .parquet or .jsonl (below _scores/ beside"
        " the input if not given)",
    ),
    "student": dict(
        metavar="DIR",
        help="a cascade: this exported rater, which costs less (dr-keras distill), decides where it"
        " is sure, and --rater scores the rest",
    ),
    "teacher_share": dict(
        type=float, metavar="S", help="of a cascade, the share that --rater scores (0.2)"
    ),
    "output_dir": dict(metavar="DIR", help="folder for the filtered corpus"),
    "discard_fraction": dict(metavar="F", help="share of documents to drop, in [0, 1)"),
    "batch_size": dict(type=int, help="B of the batch top-K that is imitated"),
    "seed": dict(type=int, help="of the draws"),
    "method": dict(
        help="discard rule: keep_probability (the default), threshold, gumbel_top_k, or your own"
    ),
    "temperature": dict(type=float, metavar="T", help="of gumbel_top_k (1 if not given)"),
    "quotas": dict(
        action="append",
        metavar="SOURCE=SHARE|proportional",
        help="judge documents among those of their source, of which this share is kept; once for"
        " each source, others lose --discard_fraction. 'proportional': all do",
    ),
    "reference": dict(help="percentiles among the corpus (the default) or under the artefact's"),
    "drift_limit": dict(
        type=float,
        metavar="D",
        help="warn where the corpus' scores are further than this from the artefact's distribution"
        " (Kolmogorov-Smirnov; 0.1 if not given)",
    ),
}
_REQUIRED = {
    "corpus": "--input", "output_dir": "--output_dir", "discard_fraction": "--discard_fraction",
}  # fmt: skip


@common.verb("filter-corpus", common.Task.FILTER, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Prints how many documents were kept, by source, and what could not be read."""
    settings = corpus_files.settings_of(parser, argv, "filter_corpus", _FLAGS, _REQUIRED)
    if "quotas" in settings:
        settings["quotas"] = _quotas(settings["quotas"])
    if {"student", "teacher_share"} & settings.keys():
        settings["rater"] = _cascade(settings)
    from dr_keras.corpus_jobs.filtering import filter_corpus

    manifest = filter_corpus(**settings)
    _print(manifest, settings.get("output_dir", ""))
    return 0


def _cascade(settings: dict) -> Callable:
    """Takes the flags of a cascade out of the settings; the rater that they ask for."""
    from dr_keras.serving.cascade import cascade
    from dr_keras.serving.loading import load_rater
    import gin

    path, teacher = settings.pop("student", None), settings.get("rater")
    share = settings.pop("teacher_share", None)
    if path is None or teacher is None or "scores" in settings:
        raise ConfigurationError(
            "a cascade is a --student and one --rater, its teacher, and makes scores: give both,"
            " without --scores; or leave --student and --teacher_share out."
        )
    fraction = settings.get("discard_fraction")
    if fraction is None:
        fraction = gin.query_parameter("filter_corpus.discard_fraction")
    student = load_rater(path, trusted=getattr(teacher, "trusted", False))  # as --trust_rater says
    given = {} if share is None else {"teacher_share": share}
    return cascade(student, teacher, fraction, **given)


def _quotas(given: Sequence[str]) -> str | dict[str, str]:
    """What the flags say: "proportional", or source -> share as it was written."""
    if list(given) == ["proportional"]:
        return given[0]
    parts = {}
    for one in given:
        source, equals, share = one.rpartition("=")  # a source may be an address
        if not equals:
            raise ConfigurationError(
                f"--quotas {one!r} is neither 'proportional' alone nor SOURCE=SHARE, such as"
                " --quotas web=0.3."
            )
        parts[source] = share
    return parts


def _print(manifest: dict, output_dir: str) -> None:
    counts = manifest["counts"]
    print(
        f"kept {counts['kept']} of {counts['documents']} documents"
        f" ({counts['kept_bytes'] / 1e6:.1f} of {counts['bytes'] / 1e6:.1f} MB); discarded"
        f" {manifest['achieved_fraction']:.1%}, expected {manifest['expected_fraction']:.1%}"
    )
    corpus_files.print_several(manifest)
    corpus_files.print_sources(
        manifest["by_source"], lambda name, f: f"{name}: kept {f['kept']} of {f['documents']}"
    )
    corpus_files.print_audit(manifest["audit"])
    corpus_files.print_errors(manifest["errors"], os.path.join(output_dir, "errors.jsonl"))
    repeated = manifest["repeated_ids"]
    if repeated:
        print(
            f"{repeated['documents']} documents share their id with a different one, such as"
            f" '{repeated['example']}': each was decided by its own score; to filter by these"
            " scores again, give the same files in the same order"
        )
    print(f"scores: {manifest['scores']}")
