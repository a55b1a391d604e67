"""What scoring, filtering and preparing of files share on the command line."""

import argparse
from collections.abc import Sequence
import contextlib
from typing import Any

from dr_keras.commands import common
from dr_keras.errors import ConfigurationError
from dr_keras.system.progress import Progress

_SOURCES_SHOWN = 20


def add_input(parser: argparse.ArgumentParser) -> None:
    """The flag: what to read."""
    parser.add_argument(
        "--input",
        metavar="PATH",
        nargs="+",
        help="files, globs or folders of JSONL, Parquet, text or other formats that are read",
    )


def add_runner(parser: argparse.ArgumentParser) -> None:
    """Flags: who does it, and what of an unfinished run counts."""
    parser.add_argument(
        "--workers", type=int, metavar="N", help="processes on this machine (1 if not given)"
    )
    parser.add_argument(
        "--threads_per_worker",
        type=int,
        metavar="N",
        help="threads of TensorFlow in each of them (by default the cores, shared evenly)",
    )
    parser.add_argument(
        "--runner",
        metavar="NAME",
        help="run on Apache Beam: DirectRunner, DataflowRunner, FlinkRunner, SparkRunner, ...;"
        " flags that are not listed here are passed on to Beam",
    )
    parser.add_argument(
        "--fresh", action="store_true", help="throw away what an unfinished run left behind"
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """The flag by which a user says that a rater may do anything on this machine."""
    parser.add_argument(
        "--trust_rater",
        action="store_true",
        help="load it even where its graph can open files or run programs; for raters whose maker"
        " you know",
    )


def settings_of(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    command: str,
    flags: dict[str, dict[str, Any]],
    required: dict[str, str],
) -> dict:
    """Adds flags, parses the command line and gin; the arguments of `command` that flags give.

    Flags that are not the parser's are Beam's where there is a --runner.

    Args:
      parser: of the verb.
      argv: the command line.
      command: the configurable.
      flags: those of its arguments that not all such commands have: name -> what argparse is told;
        gin decides about those not given.
      required: argument -> the flag that gives it.

    Raises:
      ConfigurationError: neither a flag nor gin gives an argument.
    """
    add_input(parser)
    parser.add_argument(
        "--rater",
        dest="raters",
        action="append",
        default=[],
        metavar="DIR",
        help="exported rater: <run>/export, or one version in it. Given several times: all score"
        " each text in one pass, and --combine says how",
    )
    parser.add_argument(
        "--combine",
        metavar="HOW",
        help="several raters: 'minimum' or 'mean' of their percentiles, or 'union': what any of"
        " them finds good",
    )
    add_trust(parser)
    add_runner(parser)
    parser.add_argument(
        "--windows_per_document",
        type=int,
        metavar="N",
        help="score N evenly spread windows of each longer document (all if not given)",
    )
    for name, about in flags.items():
        parser.add_argument(f"--{name}", **about)
    arguments, others = parsed(parser, argv)
    from dr_keras.corpus_jobs import filtering  # noqa: F401  as the next lines, of this job
    from dr_keras.runs import experiment  # noqa: F401  makes every name known that gin files may use
    from dr_keras.serving import cascade  # noqa: F401
    from dr_keras.serving.loading import load_rater
    from dr_keras.serving.window_scoring import WindowScoring
    import gin

    common.parse_gin(arguments)
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in flags}
    settings["corpus"] = arguments.input
    if arguments.windows_per_document is not None:
        scoring = WindowScoring(windows_per_document=arguments.windows_per_document)
        settings["window_scoring"] = scoring
    raters = [load_rater(path, trusted=arguments.trust_rater) for path in arguments.raters]
    if len(raters) > 1 or arguments.combine is not None:
        from dr_keras.serving.several import combined_raters

        how = {} if arguments.combine is None else {"by": arguments.combine}
        settings["rater"] = combined_raters(raters, **how)
    elif raters:
        settings["rater"] = raters[0]
    settings = {name: value for name, value in settings.items() if value is not None}
    bound = gin.get_bindings(command)
    for name, flag in required.items():
        if name not in settings and name not in bound:
            raise ConfigurationError(
                f"{command} needs {flag}, or the gin binding {command}.{name}."
            )
    runner, progress = runner_of(arguments, others), JobProgress("kB", 1000)
    return {**settings, "runner": runner, "fresh": arguments.fresh, "progress": progress}


def parsed(
    parser: argparse.ArgumentParser,
    argv: Sequence[str] | None,
    stack: contextlib.ExitStack | None = None,
) -> tuple[argparse.Namespace, list[str]]:
    """The flags, and those that are Beam's where there is a --runner.

    Args:
      parser, argv: see `settings_of`.
      stack: of a command whose workers import TensorFlow while it does so itself; they end with it.

    Raises:
      ConfigurationError: there can be no such workers.
    """
    arguments, others = parser.parse_known_args(argv)
    if others and arguments.runner is None:
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    if stack is not None and arguments.runner is None and arguments.workers is not None:
        arguments.started = stack.enter_context(_workers_of(arguments))
    return parser.parse_args([], arguments), others


def _workers_of(arguments: argparse.Namespace):
    from dr_keras.corpus_jobs import runners

    workers = 1 if arguments.workers is None else arguments.workers
    return runners.in_processes(workers, arguments.threads_per_worker)


def runner_of(arguments: argparse.Namespace, beam_flags: Sequence[str]):
    """Who does it, as the flags of `add_runner` say.

    Raises:
      ConfigurationError: workers beside Beam; Beam has no such runner.
    """
    from dr_keras.corpus_jobs import runners

    if arguments.runner is not None:
        from dr_keras.corpus_jobs.beam.runner import beam_runner

        if arguments.workers is not None or arguments.threads_per_worker is not None:
            raise ConfigurationError(
                "--workers and --threads_per_worker are about processes of this machine; with"
                " --runner, Beam's own flags say how many workers there are."
            )
        return beam_runner([f"--runner={arguments.runner}", *beam_flags])
    if arguments.workers is None and arguments.threads_per_worker is None:
        return runners.in_process
    return getattr(arguments, "started", None) or _workers_of(arguments)


class JobProgress:
    """Shows what is done of each phase, the rate and the time left.

    Args:
      unit: what is counted in the line.
      size: of a unit, in what calls count.
    """

    def __init__(self, unit: str, size: int = 1):
        self._unit, self._size = unit, size
        self._lines: dict[str, Progress | None] = {}

    def __call__(self, phase: str, done: int, total: int) -> None:
        units = max(1, round(total / self._size))
        if phase not in self._lines:
            self._lines[phase] = Progress(phase, units, self._unit, interval=5.0)
        line = self._lines[phase]
        if line is not None:
            line.update(min(units, round(done / self._size)))
            if done >= total:
                line.close()
                self._lines[phase] = None


def print_scored(manifest: dict, what: str = "documents") -> None:
    """Prints the score file, and how many of the documents have a score."""
    missing = f", {manifest['without_score']} without a score" if manifest["without_score"] else ""
    print(f"{manifest['file']['name']}: {manifest['documents']} {what}{missing}")


def print_sources(by_source: dict[str, dict], line) -> None:
    """Prints `line(name, facts)` for the largest sources."""
    largest = sorted(by_source, key=lambda name: -by_source[name]["documents"])[:_SOURCES_SHOWN]
    for name in by_source:
        if name in largest:
            print(f"  {line(name, by_source[name])}")
    if len(by_source) > len(largest):
        print(f"  and {len(by_source) - len(largest)} more sources: see the manifest")


def print_audit(audit: dict | None) -> None:
    """Prints what the audit of a choice found; None of scores of an earlier version."""
    for note in audit["notes"] if audit else ():
        print(f"audit: {note}")


def print_several(manifest: dict) -> None:
    """Prints what raters that made scores together say of each other."""
    facts, how = manifest.get("several_raters"), manifest["rater"].get("combined", {})
    if not facts:
        return
    if how.get("by") == "cascade":
        low, high = facts["band"]
        agreement = facts["agreement"]
        print(
            f"cascade: the teacher scored {facts['teacher_share']:.1%} of the documents (those at"
            f" {low:.2f} to {high:.2f} by the student) and {facts['audited']} others to see"
            f" whether it agrees: {'not known' if agreement is None else f'{agreement:.1%}'}"
        )
    else:
        correlations = facts["rank_correlations"]
        pairs = [(a, b) for b in range(len(correlations)) for a in range(b)]
        said = ", ".join(f"{a + 1} and {b + 1}: {correlations[a][b]}" for a, b in pairs)
        print(f"raters combined by {how['by']}; rank correlations: {said}")


def print_errors(errors: dict[str, int], path: str) -> None:
    if errors:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in errors.items())
        print(f"{sum(errors.values())} records could not be read ({reasons}): see {path}")
