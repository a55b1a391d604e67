"""Turns a corpus of any size into examples on disk, read by row.

  dr-keras prepare --input corpus/ --output_dir prepared
  dr-keras prepare --input corpus/ --target good.jsonl --output_dir prepared --workers 8

Documents are split by content into train, outer, validation and test; exact duplicates are merged,
and with a target what both share is left out. Text is tokenized and cut into windows. Afterwards
meta-train, evaluate and quickstart take --input prepared, and memory does not depend on its size.
Tokenizer, sequence length and packing come from gin: with the --gin_file of an experiment they are
those of the experiment, without one bytes in windows of 128. A run that was stopped goes on when it
is started again. With --runner it runs on Apache Beam (pip install 'dr_keras[beam]'); flags that
are not listed here are passed on to Beam. Every setting may come from gin (prepare_corpus.*).
"""

import argparse
from collections.abc import Sequence
import contextlib

from dr_keras.commands import common, corpus_files, flags
from dr_keras.errors import ConfigurationError


@common.verb("prepare", common.Task.LEARN, __doc__, base_dir=False)
def main(parser: common.ArgumentParser, argv: Sequence[str] | None) -> None:
    """Prints what each part holds, and what was left out."""
    corpus_files.add_input(parser)
    parser.add_argument("--output_dir", metavar="DIR", help="folder for the prepared corpus")
    flags.add_target(parser)
    corpus_files.add_runner(parser)
    with contextlib.ExitStack() as stack:
        arguments, others = corpus_files.parsed(parser, argv, stack)
        _prepare(arguments, others)


def _prepare(arguments: argparse.Namespace, others: Sequence[str]) -> None:
    from dr_keras.corpus_jobs.preparing import prepare_corpus
    from dr_keras.runs import experiment  # noqa: F401  makes every name known that gin files may use
    import gin

    # the target is an argument of its own here, and these workers are no `Workers`
    targets, workers = arguments.targets, arguments.workers
    arguments.targets, arguments.workers = [], None
    common.parse_gin(arguments, "runs/prepare.gin")
    arguments.workers = workers
    given = {
        "corpus": arguments.input,
        "output_dir": arguments.output_dir,
        "target": targets or None,
    }
    settings = {name: value for name, value in given.items() if value is not None}
    bound = gin.get_bindings("prepare_corpus", resolve_references=False)
    for name, flag in (("corpus", "--input"), ("output_dir", "--output_dir")):
        if name not in settings and name not in bound:
            raise ConfigurationError(
                f"prepare_corpus needs {flag}, or the gin binding prepare_corpus.{name}."
            )
    if arguments.runner is not None or workers is not None or arguments.threads_per_worker:
        settings |= {"runner": corpus_files.runner_of(arguments, others), "workers": None}
    manifest = prepare_corpus(
        **settings, fresh=arguments.fresh, progress=corpus_files.JobProgress("kB", 1000)
    )
    _print(manifest)


def _print(manifest: dict) -> None:
    made, counts = manifest["made"], manifest["counts"]
    print(
        f"{manifest['name']}: {counts['documents']:,} documents, {counts['bytes'] / 1e6:,.1f} MB;"
        f" windows of {made['sequence_length']} tokens"
        f"{', packed' if made['packing'] else ''} ({manifest['dtype']})"
    )
    for part, about in manifest["parts"].items():
        print(
            f"  {part}: {about['rows']:,} windows, {about['tokens']:,} tokens of"
            f" {about['documents']:,} documents"
        )
    left_out = {
        "exact duplicates": counts["duplicates"],
        "near-duplicates": counts["near_duplicates"],
        f"shared with {manifest['target']}": counts["shared_with_target"],
        "held out of what is no target": counts["unused"],
        **counts["skipped"],
    }
    shown = ", ".join(f"{count:,} {reason}" for reason, count in left_out.items() if count)
    if shown:
        print(f"left out: {shown}")
    for note in manifest["notes"]:
        print(note)
